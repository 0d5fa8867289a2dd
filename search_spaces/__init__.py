"""Published ranges of every technique and its recipe, as plain values for a study file."""

from search_spaces import (
    biased_adam,
    child_tuning_d,
    child_tuning_f,
    freeze_lower,
    l2_sp,
    layerwise_decay,
    mixout,
    prior_decay,
    rec_adam,
    reinit_top,
    standard,
)
from search_spaces.choosing import choose
from search_spaces.common import Draw, Space, draw

SPACES: dict[str, Space] = {
    "standard": standard.SPACE,
    "biased_adam": biased_adam.SPACE,
    "rec_adam": rec_adam.SPACE,
    "mixout": mixout.SPACE,
    "freeze_lower": freeze_lower.BASE,
    "freeze_lower_large": freeze_lower.LARGE,
    "layerwise_decay": layerwise_decay.SPACE,
    "reinit_top": reinit_top.SPACE,
    "child_tuning_f": child_tuning_f.SPACE,
    "child_tuning_d": child_tuning_d.SPACE,
    "l2_sp": l2_sp.SPACE,
    "prior_decay": prior_decay.SPACE,
}

__all__ = ["SPACES", "Draw", "Space", "choose", "draw"]
