"""Published ranges of every technique and its recipe, as plain values for a study file."""

from search_spaces import (
    adapters,
    biased_adam,
    bitfit,
    child_tuning_d,
    child_tuning_f,
    component_clip,
    ema,
    freeze_lower,
    gradual_unfreezing,
    l2_sp,
    layerwise_decay,
    lora,
    mixout,
    noisy_tune,
    prior_decay,
    probe_then_tune,
    r3f,
    rdrop,
    rec_adam,
    reinit_top,
    standard,
    strong_baseline,
    swa,
)
from search_spaces.choosing import choose
from search_spaces.common import Draw, Space, draw

SPACES: dict[str, Space] = {
    "standard": standard.SPACE,
    "strong_baseline": strong_baseline.SPACE,
    "biased_adam": biased_adam.SPACE,
    "rec_adam": rec_adam.SPACE,
    "noisy_tune": noisy_tune.SPACE,
    "reinit_top": reinit_top.SPACE,
    "lora": lora.SPACE,
    "adapters": adapters.SPACE,
    "mixout": mixout.SPACE,
    "freeze_lower": freeze_lower.BASE,
    "freeze_lower_large": freeze_lower.LARGE,
    "bitfit": bitfit.SPACE,
    "gradual_unfreezing": gradual_unfreezing.SPACE,
    "probe_then_tune": probe_then_tune.SPACE,
    "layerwise_decay": layerwise_decay.SPACE,
    "component_clip": component_clip.SPACE,
    "child_tuning_f": child_tuning_f.SPACE,
    "child_tuning_d": child_tuning_d.SPACE,
    "l2_sp": l2_sp.SPACE,
    "prior_decay": prior_decay.SPACE,
    "rdrop": rdrop.SPACE,
    "r3f": r3f.SPACE,
    "ema": ema.SPACE,
    "swa": swa.SPACE,
}

__all__ = ["SPACES", "Draw", "Space", "choose", "draw"]
