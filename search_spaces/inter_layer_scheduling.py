"""Inter-layer scheduling: share of frozen weight tensors, with a higher learning rate.

Source: the official code of Ardakani et al. 2023 (SlimFit) freezes 0.75 to 0.95 with learning rates
of 4e-5 to 1.8e-4 for BERT-base and ViT-base. Each tensor gets few updates, hence the high rates.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.common import Space

TECHNIQUE = "InterLayerScheduling"
SPACE = Space(
    technique={"freeze_rate": CategoricalDistribution((0.75, 0.8, 0.85, 0.9, 0.95))},
    recipe={"lr": FloatDistribution(4e-5, 1.8e-4, log=True)},
)
