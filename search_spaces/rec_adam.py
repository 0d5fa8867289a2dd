"""RecAdam: midpoint and slope of the annealing, and strength of the pull.

Source: Chen et al. 2020 for the values of k and for gamma 5,000. Differs: t0 is a share of the
    steps, since their 100 to 1,000 steps are more than a short task has; a weaker gamma is tried
    too.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "RecAdam"
SPACE = Space(
    technique={
        "k": CategoricalDistribution((0.05, 0.1, 0.2, 0.5, 1.0)),  # per step
        "t0": CategoricalDistribution((0.1, 0.25, 0.5)),
        "gamma": CategoricalDistribution((1000.0, 5000.0)),  # times the rate, always below 2
    },
    recipe={"lr": LR},
)
