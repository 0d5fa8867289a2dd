"""Prior decay: powers of ten around the rates of published code.

Source: 1e-3 is the rate in the code of Zhang et al. 2021, 1e-2 in that of Du & Nguyen 2023.
    Differs: one power more on either side is chosen here.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "PriorDecay"
SPACE = Space(
    technique={"rate": CategoricalDistribution((1e-4, 1e-3, 1e-2, 1e-1))},
    recipe={"lr": LR},
)
