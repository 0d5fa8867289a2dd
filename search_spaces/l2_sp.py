"""L2-SP: strength of the penalty below the head; that of the head stays at its default.

Source: Li et al. 2018 for the technique. Differs: the range is chosen here, to span those that are
    known for its decoupled form.
"""

from optuna.distributions import FloatDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "L2SP"
SPACE = Space(
    technique={"alpha": FloatDistribution(1e-4, 1e-1, log=True)},
    recipe={"lr": LR},
)
