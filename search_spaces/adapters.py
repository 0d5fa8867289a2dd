"""Adapters: bottleneck width, at learning rates far above those of full fine-tuning.

Source: Houlsby et al. 2019 compare widths 8, 64 and 256 on GLUE. Differs: 16 instead of 8; the
    ranges of the recipe are chosen here.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.common import Space

TECHNIQUE = "Adapters"
SPACE = Space(
    technique={"bottleneck": CategoricalDistribution((16, 64, 256))},
    recipe={
        "lr": FloatDistribution(1e-4, 1e-3, log=True),
        "epochs": CategoricalDistribution((10, 20)),
    },
)
