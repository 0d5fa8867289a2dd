"""The strong baseline: number of epochs, at the learning rates of standard fine-tuning.

Source: Mosbach et al. 2021 train for 20 epochs and choose the rate from 1e-5 to 3e-5. Differs: half
    and twice as long as well, and the rates of the other spaces, so that draws are paired.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "StrongBaseline"
SPACE = Space(
    technique={"epochs": CategoricalDistribution((10, 20, 40))},
    recipe={"lr": LR},
)
