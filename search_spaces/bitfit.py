"""BitFit: learning rates ten and more times those of full fine-tuning, and more epochs.

Source: Ben Zaken et al. 2022 find that biases need higher rates. Differs: the ranges are chosen
    here.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.common import Space

TECHNIQUE = "BitFit"
SPACE = Space(
    technique={},
    recipe={
        "lr": FloatDistribution(1e-4, 3e-3, log=True),
        "epochs": CategoricalDistribution((10, 20, 40)),
    },
)
