"""Which way of fine-tuning can you trust? Studies over seeds, techniques, models and tasks."""

from study import techniques
from study.cli.run import main, run
from study.core.recipe import Recipe
from study.core.spec import SpecError
from study.models import Model
from study.planning.budget import Budget
from study.planning.search import Search, Tune
from study.planning.study import Configuration, Seeds, Study, TaskOverrides
from study.tasks import ByGroup, ByTime, KFold, Task
from study.techniques import *

__all__ = [
    "Budget",
    "ByGroup",
    "ByTime",
    "Configuration",
    "KFold",
    "Model",
    "Recipe",
    "Search",
    "Seeds",
    "SpecError",
    "Study",
    "Task",
    "TaskOverrides",
    "Tune",
    "main",
    "run",
]
__all__ += techniques.__all__
