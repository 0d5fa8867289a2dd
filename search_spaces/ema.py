"""EMA: decay of the average.

Source: chosen here. None is the default, which follows the length of the run; the other values
    average over about 10, 100 and 1000 steps.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces import standard
from search_spaces.common import Space

TECHNIQUE = "EMA"
SPACE = Space(
    technique={"beta": CategoricalDistribution((None, 0.9, 0.99, 0.999))},
    recipe=standard.SPACE.recipe,
)
