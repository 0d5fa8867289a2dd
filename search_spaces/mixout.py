"""Mixout: probability of replacement, at the learning rates of standard fine-tuning.

Source: Lee et al. 2020 report p from 0.1 to 0.9, the code of Zhang et al. 2021 and of Du & Nguyen
    2023 runs 0.1. Differs: the five values are chosen here, to cover that range evenly.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "Mixout"
SPACE = Space(
    technique={"p": CategoricalDistribution((0.1, 0.3, 0.5, 0.7, 0.9))},
    recipe={"lr": LR},
)
