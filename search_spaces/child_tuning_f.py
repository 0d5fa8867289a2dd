"""Task-free child-tuning: share of the kept gradients.

Source: Xu et al. 2021. Differs: the learning rate is that of standard fine-tuning.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "ChildTuningF"
SPACE = Space(
    technique={"p": CategoricalDistribution((0.2, 0.3, 0.4))},
    recipe={"lr": LR},
)
