"""Which fine-tuning technique can you trust? Studies over seeds, techniques, models and tasks."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING


def lacking(*packages: str) -> str:
    """Which of these packages are not installed, and how to get them; empty if all are."""
    absent = [name for name in packages if find_spec(name) is None]
    if not absent:
        return ""
    install = "pip install 'finetuning-stability[study]'"
    return f"studies need {', '.join(absent)}: {install}"


NEEDED = lacking("torch", "transformers", "safetensors", "peft", "seqeval", "pydantic")

_HOMES = {  # loaded when first used: torch takes a second, which `study --help` does not need
    "study.cli.run": ("main", "run"),
    "study.core.recipe": ("Recipe",),
    "study.core.spec": ("SpecError",),
    "study.models": ("Model",),
    "study.planning.budget": ("Budget",),
    "study.planning.search": ("Search", "Tune"),
    "study.planning.slimfit": ("slimfit",),
    "study.planning.study": ("Configuration", "Seeds", "Study", "TaskOverrides"),
    "study.tasks": ("ByGroup", "ByTime", "KFold", "Task"),
}
_PACKAGES = ("models", "tasks", "techniques")

if TYPE_CHECKING:
    from study.cli.run import main as main
    from study.cli.run import run as run
    from study.core.recipe import Recipe as Recipe
    from study.core.spec import SpecError as SpecError
    from study.models import Model as Model
    from study.planning.budget import Budget as Budget
    from study.planning.search import Search as Search
    from study.planning.search import Tune as Tune
    from study.planning.slimfit import slimfit as slimfit
    from study.planning.study import Configuration as Configuration
    from study.planning.study import Seeds as Seeds
    from study.planning.study import Study as Study
    from study.planning.study import TaskOverrides as TaskOverrides
    from study.tasks import ByGroup as ByGroup
    from study.tasks import ByTime as ByTime
    from study.tasks import KFold as KFold
    from study.tasks import Task as Task
    from study.techniques import *
else:

    def __getattr__(name: str) -> object:
        """Load a public name, with all that it needs; ImportError names what is not installed."""
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module 'study' has no attribute {name!r}")
        if NEEDED:
            raise ImportError(NEEDED)
        if name in _PACKAGES:
            return import_module(f"study.{name}")
        homes = {own: home for home, names in _HOMES.items() for own in names}
        techniques = import_module("study.techniques")
        homes |= dict.fromkeys(techniques.__all__, techniques.__name__)
        if name == "__all__":
            return sorted(homes)
        if name not in homes:
            raise AttributeError(f"module 'study' has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)
