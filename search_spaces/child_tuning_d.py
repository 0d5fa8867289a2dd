"""Task-driven child-tuning: share of the trained weights.

Source: Xu et al. 2021. Differs: the learning rate is that of standard fine-tuning.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "ChildTuningD"
SPACE = Space(
    technique={"p": CategoricalDistribution((0.1, 0.2, 0.3))},
    recipe={"lr": LR},
)
