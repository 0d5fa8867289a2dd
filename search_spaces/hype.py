"""HyPe: size of the noise between layers, with and without dropout.

Source: the command of Yuan et al. 2023 has noise up to 1e-5 and no dropout. Differs: the values
    around them are chosen here.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "HyPe"
SPACE = Space(
    technique={"epsilon": CategoricalDistribution((1e-6, 1e-5, 1e-4))},
    recipe={"lr": LR, "dropout": CategoricalDistribution((0.0, 0.1))},
)
