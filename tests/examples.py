"""Each technique at settings that a tiny model of two layers can show."""

from study.techniques import (
    L2SP,
    BiasedAdam,
    ChildTuningD,
    ChildTuningF,
    FreezeLower,
    GradualUnfreezing,
    LayerwiseDecay,
    Mixout,
    PriorDecay,
    ProbeThenTune,
    RecAdam,
    ReinitTop,
    Standard,
    StrongBaseline,
    Technique,
)

EXAMPLES: dict[str, Technique] = {
    "Standard": Standard(),
    "StrongBaseline": StrongBaseline(epochs=3),
    "BiasedAdam": BiasedAdam(),
    "RecAdam": RecAdam(k=1.0, t0=0.5, gamma=50.0),
    "ReinitTop": ReinitTop(layers=1),
    "Mixout": Mixout(p=0.5),
    "FreezeLower": FreezeLower(layers=1),
    "GradualUnfreezing": GradualUnfreezing(share=0.75),
    "ProbeThenTune": ProbeThenTune(epochs=1, lr=1e-2),
    "LayerwiseDecay": LayerwiseDecay(rate=0.5),
    "ChildTuningF": ChildTuningF(p=0.5),
    "ChildTuningD": ChildTuningD(p=0.3),
    "L2SP": L2SP(alpha=0.1, beta=0.1),
    "PriorDecay": PriorDecay(rate=1.0),
}
