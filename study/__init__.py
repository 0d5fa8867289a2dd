"""Which way of fine-tuning can you trust? Studies over seeds, techniques, models and tasks."""

from study.cli import main
from study.models import Model
from study.search import Search, Tune
from study.spec import Recipe, SpecError
from study.study import Configuration, Seeds, Study
from study.tasks import Task
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
    "ChildTuningD",
    "ChildTuningF",
    "Configuration",
    "FreezeLower",
    "LayerwiseDecay",
    "Mixout",
    "Model",
    "PriorDecay",
    "RecAdam",
    "Recipe",
    "ReinitTop",
    "Search",
    "Seeds",
    "SpecError",
    "Standard",
    "Study",
    "Task",
    "Technique",
    "Tune",
    "main",
]
