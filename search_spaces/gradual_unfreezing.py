"""Gradual unfreezing: share of training after which everything is trained.

Source: Howard & Ruder 2018 unfreeze a layer per epoch. Differs: the shares are chosen here.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import EPOCHS, LR, Space

TECHNIQUE = "GradualUnfreezing"
SPACE = Space(
    technique={"share": CategoricalDistribution((0.1, 0.2, 1 / 3, 0.5))},
    recipe={"lr": LR, "epochs": EPOCHS},
)
