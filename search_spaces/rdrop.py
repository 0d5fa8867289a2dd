"""R-Drop: weight of the divergence.

Source: Liang et al. 2021 use alpha 0.1, 0.5 and 1 on GLUE, and up to 5 on other tasks. Differs:
    theirs multiplies a sum over the batch's examples in the published sample, ours a mean.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "RDrop"
SPACE = Space(
    technique={"alpha": CategoricalDistribution((0.1, 0.5, 1.0, 3.0, 5.0))},
    recipe={"lr": LR},
)
