"""Which way of fine-tuning can you trust? Studies over seeds, techniques, models and tasks."""

from study.cli import main
from study.models import Model
from study.spec import Recipe, SpecError
from study.study import Configuration, Seeds, Study
from study.tasks import ByGroup, ByTime, KFold, Task
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

__all__ = [
    "L2SP",
    "BiasedAdam",
    "ByGroup",
    "ByTime",
    "ChildTuningD",
    "ChildTuningF",
    "Configuration",
    "FreezeLower",
    "KFold",
    "LayerwiseDecay",
    "Mixout",
    "Model",
    "PriorDecay",
    "RecAdam",
    "Recipe",
    "ReinitTop",
    "Seeds",
    "SpecError",
    "Standard",
    "Study",
    "Task",
    "Technique",
    "main",
]
