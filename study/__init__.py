"""Which fine-tuning technique can you trust? Studies over seeds, techniques, models and tasks."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn


def lacking(*packages: str) -> str:
    """Which of these packages are not installed, and how to get them; empty if all are."""
    absent = [name for name in packages if find_spec(name) is None]
    if not absent:
        return ""
    install = "pip install 'finetuning-stability[study]'"
    return f"studies need {', '.join(absent)}: {install}"


NEEDED = lacking("torch", "transformers", "safetensors", "peft", "seqeval", "pydantic")

if TYPE_CHECKING or not NEEDED:
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
else:

    def __getattr__(name: str) -> NoReturn:
        """Raise ImportError naming the missing packages."""
        if name.startswith("__"):
            raise AttributeError(f"module 'study' has no attribute {name!r}")
        raise ImportError(NEEDED)


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
if TYPE_CHECKING or not NEEDED:
    __all__ += techniques.__all__
