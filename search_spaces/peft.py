"""PEFT: its methods at their default sizes, at learning rates far above those of full fine-tuning.

Source: Gao et al. 2024 and Liu et al. 2022 train Fourier coefficients and factors at rates of 1e-3
    and above. Differs: the ranges are chosen here.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.common import Space

TECHNIQUE = "PEFT"
SPACE = Space(
    technique={
        "method": CategoricalDistribution(
            ("dora", "loha", "lokr", "oft", "hra", "miss", "fourierft", "road", "ia3", "ln_tuning")
        )
    },
    recipe={
        "lr": FloatDistribution(1e-4, 1e-2, log=True),
        "epochs": CategoricalDistribution((10, 20)),
    },
)
