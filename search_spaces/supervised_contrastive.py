"""Supervised contrastive learning: its weight in the loss, and its temperature.

Source: the grid of Gunel et al. 2021. Differs: without the weight 1, which trains no task head.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "SupervisedContrastive"
SPACE = Space(
    technique={
        "weight": CategoricalDistribution((0.1, 0.3, 0.5, 0.7, 0.9)),
        "temperature": CategoricalDistribution((0.1, 0.3, 0.5, 0.7)),
    },
    recipe={"lr": LR},
)
