"""Layerwise learning-rate decay: decay per layer, and learning rate of the head.

Source: rates 0.8 (base, lr 1e-4) and 0.9 (large, lr 5e-5) are those of the ELECTRA code, 0.95 that
    of the code of Zhang et al. 2021 and of Du & Nguyen 2023. Differs: the ranges around them are
    chosen here, because the grid of Tinn et al. 2023 is not known to us. The learning rate reaches
    above that of standard fine-tuning, because with strong decay the lowest layers hardly train.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.common import Space

TECHNIQUE = "LayerwiseDecay"
SPACE = Space(
    technique={"rate": CategoricalDistribution((0.7, 0.75, 0.8, 0.85, 0.9, 0.95))},
    recipe={"lr": FloatDistribution(2e-5, 2e-4, log=True)},
)
