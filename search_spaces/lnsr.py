"""Layerwise noise stability: weight of the penalty, size of the noise, and its layer.

Source: Hua et al. 2021 add noise to one layer and penalise those above. Differs: the ranges are
    chosen here, because the paper's grid is not known to us; the layers fit an encoder of 12.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "LNSR"
SPACE = Space(
    technique={
        "weight": CategoricalDistribution((0.1, 1.0, 10.0)),
        "sigma": CategoricalDistribution((0.001, 0.01, 0.1)),
        "layer": CategoricalDistribution((1, 4, 7, 10)),
    },
    recipe={"lr": LR},
)
