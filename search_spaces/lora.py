"""LoRA: rank and targets, at learning rates far above those of full fine-tuning.

Source: rank 8 on queries and values is in Hu et al. 2022. Differs: the ranges are chosen here.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.common import Space

TECHNIQUE = "LoRA"
SPACE = Space(
    technique={
        "rank": CategoricalDistribution((4, 8, 16)),
        "dropout": CategoricalDistribution((0.05, 0.1)),
        "targets": CategoricalDistribution(("query_value", "linear")),
    },
    recipe={
        "lr": FloatDistribution(1e-4, 1e-3, log=True),
        "epochs": CategoricalDistribution((10, 20)),
    },
)
