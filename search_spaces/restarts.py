"""Restarts: number of starts, and epochs after which all but one stop.

Source: Dodge et al. 2020 start clearly more than they finish and stop after 20 to 30% of training.
    Differs: epochs are the unit here, so the share follows from the recipe.
"""

from optuna.distributions import CategoricalDistribution, IntDistribution

from search_spaces import standard
from search_spaces.common import Space

TECHNIQUE = "Restarts"
SPACE = Space(
    technique={"heads": CategoricalDistribution((3, 5, 10)), "epochs": IntDistribution(1, 2)},
    recipe=standard.SPACE.recipe,
)
