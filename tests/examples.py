"""Each technique at settings that a tiny model of two layers can show."""

from study.techniques import (
    L2SP,
    BiasedAdam,
    ChildTuningD,
    ChildTuningF,
    FreezeLower,
    LayerwiseDecay,
    Mixout,
    PriorDecay,
    RecAdam,
    ReinitTop,
    Standard,
    Technique,
)

EXAMPLES: dict[str, Technique] = {
    "Standard": Standard(),
    "BiasedAdam": BiasedAdam(),
    "RecAdam": RecAdam(k=1.0, t0=0.5, gamma=50.0),
    "Mixout": Mixout(p=0.5),
    "FreezeLower": FreezeLower(layers=1),
    "LayerwiseDecay": LayerwiseDecay(rate=0.5),
    "ReinitTop": ReinitTop(layers=1),
    "ChildTuningF": ChildTuningF(p=0.5),
    "ChildTuningD": ChildTuningD(p=0.3),
    "L2SP": L2SP(alpha=0.1, beta=0.1),
    "PriorDecay": PriorDecay(rate=1.0),
}
