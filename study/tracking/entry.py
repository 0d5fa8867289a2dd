"""A finished run on its way to MLflow (`Entry`), and once it is there (`Record`)."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from study.planning.runs import Run
from study.tasks.metrics import metric_named
from study.tracking import schema
from study.training.result import RunResult


@dataclass(frozen=True)
class Record:
    """What the driver remembers of a run that MLflow has.

    Attributes:
        cell: The cell's key.
        outcome: `completed` or `diverged`.
        collapsed: Whether the run is no better than the constant predictor.
        dev: The deciding metric; the constant predictor's score where the run diverged.
        test: The same on test.
        seconds: Wall-clock time of the worker.
        name: The run's, `TASK/MODEL/CONFIGURATION/SEED`.
    """

    cell: str
    outcome: str
    collapsed: bool
    dev: float
    test: float
    seconds: float
    name: str = ""


def record_of(tags: Mapping[str, str], values: Mapping[str, float]) -> Record:
    """The record of a run, from its tags and its final metrics."""
    return Record(
        tags[schema.CELL],
        tags[schema.OUTCOME],
        bool(tags[schema.COLLAPSE_RULE]),
        values.get(schema.DEV, values.get(schema.DEV_FLOOR, math.nan)),
        values.get(schema.TEST, values.get(schema.TEST_FLOOR, math.nan)),
        values.get(schema.SECONDS, math.nan),
        tags.get(schema.NAME, ""),
    )


@dataclass(frozen=True)
class Entry:
    """A finished run as MLflow will get it; names are those of `study.tracking.schema`.

    Attributes:
        key: The run's key.
        cell: Its cell's key.
        name: The run's name in MLflow.
        tags: Values by name.
        params: Values by name.
        metrics: Name, value, and epoch (0 where a value belongs to the whole run); finite.
        started: Unix time in milliseconds; with `ended` also the metrics' time stamps, so that
            writing an entry twice writes the same rows.
        ended: Unix time in milliseconds.
        spec: What `study.planning.runs.run_from` makes the run from.
    """

    key: str
    cell: str
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[tuple[str, float, int]]
    started: int
    ended: int
    spec: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The entry as text, for `from_json`."""
        return json.dumps(asdict(self))

    def record(self) -> Record:
        """What the driver remembers of it."""
        values = {name: value for name, value, step in self.metrics if step == 0}
        tags = {**self.tags, schema.CELL: self.cell, schema.NAME: self.name}
        return record_of(tags, values)

    @classmethod
    def from_json(cls, text: str) -> "Entry":
        """Read what `to_json` wrote.

        Raises:
            ValueError: If the text is anything else.
        """
        try:
            data = json.loads(text)
            data["metrics"] = [tuple(metric) for metric in data["metrics"]]
            return cls(**data)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"entry.json is damaged ({error})") from error


def entry_of(run: Run, result: RunResult, faults: Iterable[tuple[str, int]]) -> Entry:
    """Convert a worker's result to the entry for MLflow.

    Args:
        run: The run.
        result: What its worker returned.
        faults: Causes for which the run was lost before, and how often.
    """
    outcome, metric = result.outcome, metric_named(run.cell.task.metric)
    splits = run.cell.task.load().splits
    values = {
        schema.DEV: outcome.dev,
        schema.TEST: outcome.test,
        schema.DEV_FLOOR: outcome.dev_floor,
        schema.TEST_FLOOR: outcome.test_floor,
        **outcome.facts,
    }
    metrics = [(name, value, 0) for name, value in values.items()]
    for name, curve in outcome.curves.items():
        metrics += [(name, value, epoch) for epoch, value in enumerate(curve, start=1)]
    tags = {
        schema.OUTCOME: outcome.outcome,
        schema.COLLAPSE_RULE: ",".join(outcome.collapsed),
        schema.METRIC: metric.name,
        schema.HIGHER_IS_BETTER: str(metric.higher_is_better).lower(),
        **{f"{name}{schema.ROWS}": str(len(split.ids)) for name, split in splits.items()},
        **{stream: str(number) for stream, number in run.seed._asdict().items()},
        **result.about,
    }
    if retried := ", ".join(f"{cause} {count}" for cause, count in faults):
        tags[schema.RETRIED] = retried
    params = {
        schema.TASK: run.cell.task.name,
        schema.MODEL: run.cell.model.name,
        schema.CONFIGURATION: run.cell.label,
        schema.SEED: run.seed.label,
    }
    return Entry(
        key=run.key,
        cell=run.cell.key,
        name=run.name,
        tags=tags,
        params=params,
        # MLflow would store NaN as 0 beside a flag, and clip infinities.
        metrics=[(name, value, step) for name, value, step in metrics if math.isfinite(value)],
        started=int(result.started * 1000),
        ended=int(result.ended * 1000),
        spec=run.spec(),
    )
