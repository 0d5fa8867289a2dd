"""Each technique at settings that a tiny model of two layers can show."""

from study.techniques import (
    BiasedAdam,
    FreezeLower,
    LayerwiseDecay,
    ReinitTop,
    Standard,
    Technique,
)

EXAMPLES: dict[str, Technique] = {
    "Standard": Standard(),
    "BiasedAdam": BiasedAdam(),
    "FreezeLower": FreezeLower(layers=1),
    "LayerwiseDecay": LayerwiseDecay(rate=0.5),
    "ReinitTop": ReinitTop(layers=1),
}
