"""Linear probing, then fine-tuning: epochs and learning rate of probing.

Source: Kumar et al. 2022 for the technique. Differs: the ranges are chosen here; runs are of ten
    epochs or more, because they include the probing.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "ProbeThenTune"
SPACE = Space(
    technique={
        "epochs": CategoricalDistribution((1, 3, 5)),
        "lr": FloatDistribution(1e-4, 1e-3, log=True),
    },
    recipe={"lr": LR, "epochs": CategoricalDistribution((10, 20))},
)
