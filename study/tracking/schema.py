"""The MLflow schema: names of tags, metrics, parameters and artifacts."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from study.models.model import describe
from study.planning.runs import Cell, Run
from study.planning.stages import CellPlan
from study.tasks.metrics import metric_named
from study.techniques.base import parts_of
from study.tracking.outbox import Entry
from study.training.result import RunResult


def entry_of(run: Run, parcel: RunResult, faults: Iterable[tuple[str, int]]) -> Entry:
    """A finished run as MLflow will get it.

    Args:
        run: Which.
        parcel: What its worker sent.
        faults: Causes for which it was lost before, and how often.
    """
    outcome, metric = parcel.outcome, metric_named(run.cell.task.metric)
    splits = run.cell.task.load().splits
    values = {
        "dev": outcome.dev,
        "test": outcome.test,
        "dev_floor": outcome.dev_floor,
        "test_floor": outcome.test_floor,
        **outcome.facts,
    }
    metrics = [(name, value, 0) for name, value in values.items()]
    for name, curve in outcome.curves.items():
        metrics += [(name, value, epoch) for epoch, value in enumerate(curve, start=1)]
    tags = {
        "outcome": outcome.outcome,
        "collapsed": ",".join(outcome.collapsed),
        "metric": metric.name,
        "higher_is_better": str(metric.higher_is_better).lower(),
        **{f"{name}_rows": str(len(split.ids)) for name, split in splits.items()},
        **{stream: str(number) for stream, number in run.seed._asdict().items()},
        **parcel.about,
    }
    if retried := ", ".join(f"{cause} {count}" for cause, count in faults):
        tags["retried"] = retried
    params = {
        "task": run.cell.task.name,
        "model": run.cell.model.name,
        "configuration": run.cell.label,
        "seed": run.seed.label,
    }
    return Entry(
        key=run.key,
        cell=run.cell.key,
        name=run.name,
        tags=tags,
        params=params,
        metrics=[(name, value, step) for name, value, step in metrics if np.isfinite(value)],
        started=int(parcel.started * 1000),
        ended=int(parcel.ended * 1000),
        spec=run.spec(),
    )


def cell_tags(asked: CellPlan) -> dict[str, str]:
    """The tags of a cell's parent run."""
    cell = asked.cell
    metric = cell.task.metric
    return {
        "kind": "cell",
        "cell": cell.key,
        "task": cell.task.name,
        "model": cell.model.name,
        "technique": cell.technique.title,
        "configuration": cell.label,
        "metric": metric.rpartition(":")[2],
        "task_type": cell.task.task_type,
        "stage": asked.stage,
        "seeds": asked.seeds_text,
        "tried": str(asked.tried),
        "search": asked.search,
        **{f"model.{name}": value for name, value in describe(cell.model).items()},
    }


def flat_parameters(cell: Cell) -> dict[str, str]:
    """What the cell trains with: the recipe after the technique's hook, and every value set."""
    flat: dict[str, Any] = {}
    for name, value in cell.technique.recipe(cell.recipe).model_dump().items():
        flat[f"recipe.{name}"] = value
    for part in parts_of(cell.technique):
        flat |= {f"{part.title}.{name}": getattr(part, name) for name in type(part).model_fields}
    return {name: str(value) for name, value in flat.items()}
