"""NoisyTune: noise of 0.05 to 0.2 standard deviations.

Source: 0.15 in public copies of the code of Wu et al. 2022. Differs: the range around it is chosen
    here; the recipe is that of standard fine-tuning.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces import standard
from search_spaces.common import Space

TECHNIQUE = "NoisyTune"
SPACE = Space(
    technique={"intensity": CategoricalDistribution((0.05, 0.1, 0.15, 0.2))},
    recipe=standard.SPACE.recipe,
)
