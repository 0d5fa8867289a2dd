"""R3F: weight of the penalty, and size of the noise.

Source: Aghajanyan et al. 2021, whose code has weight 1 and noise up to 1e-5, and weight 0.7 in its
    command for RTE. Differs: the values around them are chosen here.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LOW_LR, Space

TECHNIQUE = "R3F"
SPACE = Space(
    technique={
        "weight": CategoricalDistribution((0.1, 0.5, 1.0, 5.0)),
        "epsilon": CategoricalDistribution((1e-5, 1e-4)),
    },
    recipe={"lr": LOW_LR},
)
