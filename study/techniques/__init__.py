"""All techniques, in the order in which combined ones act."""

from study.techniques.base import Combined, Technique
from study.techniques.biased_adam import BiasedAdam
from study.techniques.freeze_lower import FreezeLower
from study.techniques.layerwise_decay import LayerwiseDecay
from study.techniques.reinit_top import ReinitTop
from study.techniques.standard import Standard

TECHNIQUES: dict[str, type[Technique]] = {
    "Standard": Standard,
    "BiasedAdam": BiasedAdam,
    "ReinitTop": ReinitTop,
    "FreezeLower": FreezeLower,
    "LayerwiseDecay": LayerwiseDecay,
}

__all__ = [
    "TECHNIQUES",
    "BiasedAdam",
    "Combined",
    "FreezeLower",
    "LayerwiseDecay",
    "ReinitTop",
    "Standard",
    "Technique",
]
