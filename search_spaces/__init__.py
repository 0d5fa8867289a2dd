"""Published ranges of every technique and its recipe, as plain values for a study file."""

from search_spaces import biased_adam, freeze_lower, layerwise_decay, reinit_top, standard
from search_spaces.common import Draw, Space, draw

SPACES: dict[str, Space] = {
    "standard": standard.SPACE,
    "biased_adam": biased_adam.SPACE,
    "freeze_lower": freeze_lower.BASE,
    "freeze_lower_large": freeze_lower.LARGE,
    "layerwise_decay": layerwise_decay.SPACE,
    "reinit_top": reinit_top.SPACE,
}

__all__ = ["SPACES", "Draw", "Space", "draw"]
