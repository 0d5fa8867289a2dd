"""BAdam: steps per layer, at the learning rates of fine-tuning.

Source: Luo et al. 2024 give 100 steps per layer, and later advise at least 50. Differs: 20 as well,
    for short runs; the learning rate is that of standard fine-tuning.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "BAdam"
SPACE = Space(
    technique={"interval": CategoricalDistribution((20, 50, 100))},
    recipe={"lr": LR},
)
