"""Freezing the lower layers: none, a quarter, half or three quarters of the encoder.

The embeddings are always frozen; with 0 layers nothing else is.

Source: Tinn et al. 2023 freeze lower layers. Differs: the ranges are chosen here, because the
    paper's grid is not known to us; the learning rate may be higher than in standard fine-tuning,
    because fewer weights are trained.
"""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from search_spaces.common import Space

TECHNIQUE = "FreezeLower"


def quarters(model_layers: int) -> Space:
    """The space for an encoder of this many layers.

    Args:
        model_layers: Layers of the encoder, at least 4.
    """
    layers = tuple(quarter * model_layers // 4 for quarter in range(4))
    return Space(
        technique={"layers": CategoricalDistribution(layers)},
        recipe={"lr": FloatDistribution(1e-5, 1e-4, log=True)},
    )


SPACE = quarters(12)  # 0, 3, 6, 9; for other encoders call `quarters`
