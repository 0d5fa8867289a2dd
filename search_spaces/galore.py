"""GaLore: rank and scale, at the learning rates of fine-tuning.

Source: Zhao et al. 2024 fine-tune with ranks 4 and 8; their code has scale 4 at a learning rate of
    3e-5. Differs: rank 16 and smaller scales as well, chosen here.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import LR, Space

TECHNIQUE = "GaLore"
SPACE = Space(
    technique={
        "rank": CategoricalDistribution((4, 8, 16)),
        "scale": CategoricalDistribution((1.0, 2.0, 4.0)),
    },
    recipe={"lr": LR},
)
