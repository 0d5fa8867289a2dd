"""A cell in numbers, as its parent run in MLflow shows it while the study runs.

The report says more; both count a diverged run at the constant predictor's score.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Record:
    """What the driver remembers of a run that MLflow has.

    Attributes:
        cell: The cell's key.
        outcome: `completed` or `diverged`.
        collapsed: Whether the run is no better than a constant answer.
        dev: The deciding metric; the constant predictor's score where the run diverged.
        test: The same on test.
        seconds: The worker's time.
    """

    cell: str
    outcome: str
    collapsed: bool
    dev: float
    test: float
    seconds: float


def record_of(tags: Mapping[str, str], values: Mapping[str, float]) -> Record:
    """The record of a run, from its tags and its final metrics."""
    return Record(
        tags["cell"],
        tags["outcome"],
        bool(tags["collapsed"]),
        values.get("dev", values.get("dev_floor", math.nan)),
        values.get("test", values.get("test_floor", math.nan)),
        values.get("seconds", math.nan),
    )


def summary(records: list[Record], expected: int) -> dict[str, float]:
    """A cell in numbers.

    Args:
        records: The cell's finished runs.
        expected: Runs that the study asks for.

    Returns:
        `n` (finished), `missing`, `diverged`, `collapsed`, and per split mean, sd (n - 1) and the
        95 % t interval of the mean; NaN where n is too small.
    """
    values: dict[str, Any] = {
        "n": len(records),
        "missing": expected - len(records),
        "diverged": sum(record.outcome == "diverged" for record in records),
        "collapsed": sum(record.collapsed for record in records),
    }
    splits: tuple[Literal["dev", "test"], ...] = ("dev", "test")
    for split in splits:
        scores = np.array([getattr(record, split) for record in records])
        n = len(scores)
        mean = scores.mean() if n else math.nan
        sd = scores.std(ddof=1) if n > 1 else math.nan
        half = stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n) if n > 1 else math.nan
        values |= {f"{split}_mean": mean, f"{split}_sd": sd}
        values |= {f"{split}_low": mean - half, f"{split}_high": mean + half}
    if records:
        values["seconds"] = np.mean([record.seconds for record in records])
    return {name: float(value) for name, value in values.items()}


def note(values: Mapping[str, float], problem: str | None) -> str:
    """The summary as a sentence, for the parent run's description."""
    counts = ", ".join(f"{int(values[k])} {k}" for k in ("missing", "diverged", "collapsed"))
    text = f"n = {int(values['n'])} seeds ({counts})"
    if math.isfinite(values["test_low"]):
        text += (
            f". Test {values['test_mean']:.4f} ± {values['test_sd']:.4f} (sd over seeds), "
            f"95 % interval of the mean {values['test_low']:.4f} to {values['test_high']:.4f}"
        )
    return f"{text}.\n\nMissing: {problem}" if problem else f"{text}."
