"""LISA: layers trained at a time and steps between draws, at the learning rates of fine-tuning.

Source: Pan et al. 2024 compare 2, 4 and 8 layers and find that drawing more often helps. Differs:
    the intervals, which are for runs of some hundred steps, and the learning rate.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "LISA"
SPACE = Space(
    technique={
        "layers": CategoricalDistribution((2, 4)),
        "interval": CategoricalDistribution((5, 10, 20)),
    },
    recipe={"lr": LR},
)
