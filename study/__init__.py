"""Which way of fine-tuning can you trust? Studies over seeds, techniques, models and tasks."""

from study.cli import main
from study.models import Model
from study.spec import Recipe, SpecError
from study.study import Configuration, Seeds, Study
from study.tasks import ByGroup, ByTime, KFold, Task
from study.techniques import (
    L2SP,
    Adapters,
    BiasedAdam,
    BitFit,
    ChildTuningD,
    ChildTuningF,
    ComponentClip,
    FreezeLower,
    GradualUnfreezing,
    LayerwiseDecay,
    LoRA,
    Mixout,
    NoisyTune,
    PriorDecay,
    ProbeThenTune,
    RecAdam,
    ReinitTop,
    Standard,
    StrongBaseline,
    Technique,
)

__all__ = [
    "L2SP",
    "Adapters",
    "BiasedAdam",
    "BitFit",
    "ByGroup",
    "ByTime",
    "ChildTuningD",
    "ChildTuningF",
    "ComponentClip",
    "Configuration",
    "FreezeLower",
    "GradualUnfreezing",
    "KFold",
    "LayerwiseDecay",
    "LoRA",
    "Mixout",
    "Model",
    "NoisyTune",
    "PriorDecay",
    "ProbeThenTune",
    "RecAdam",
    "Recipe",
    "ReinitTop",
    "Seeds",
    "SpecError",
    "Standard",
    "StrongBaseline",
    "Study",
    "Task",
    "Technique",
    "main",
]
