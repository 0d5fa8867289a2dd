"""Which way of fine-tuning can you trust? Studies over seeds, techniques, models and tasks."""

from study.cli import main
from study.models import Model
from study.spec import Recipe, SpecError
from study.study import Configuration, Seeds, Study
from study.tasks import Task
from study.techniques import (
    BiasedAdam,
    FreezeLower,
    LayerwiseDecay,
    ReinitTop,
    Standard,
    Technique,
)

__all__ = [
    "BiasedAdam",
    "Configuration",
    "FreezeLower",
    "LayerwiseDecay",
    "Model",
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
