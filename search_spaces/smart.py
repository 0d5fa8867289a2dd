"""SMART: weight of the smoothness penalty, and size of the ascent.

Source: Jiang et al. 2020 have step size 1e-3 and bound 1e-5. Differs: the values around them are
    chosen here; the weight of the proximal term stays at the published 1.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LOW_LR, Space

TECHNIQUE = "SMART"
SPACE = Space(
    technique={
        "weight": CategoricalDistribution((0.5, 1.0, 3.0)),
        "step_size": CategoricalDistribution((1e-4, 1e-3)),
        "epsilon": CategoricalDistribution((1e-5, 1e-4, 1e-3)),
    },
    recipe={"lr": LOW_LR},
)
