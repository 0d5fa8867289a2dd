"""Tasks: `Task`, splits of rows into train, dev and test, and a catalogue of benchmarks."""

from study.tasks import catalogue
from study.tasks.catalogue import *
from study.tasks.splits import ByGroup, ByTime, KFold
from study.tasks.task import Task, TaskData

__all__ = ["BLURB", "GLUE", "TASKS", "ByGroup", "ByTime", "KFold", "Task", "TaskData"]
__all__ += [name for name, value in vars(catalogue).items() if isinstance(value, Task)]
