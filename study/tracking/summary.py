"""Summary statistics of a cell, as its parent run in MLflow shows them while the study runs.

The report has more. Both count a diverged run at the constant predictor's score.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from study.tasks.collapse import COLLAPSED as MEANING
from study.tracking.entry import Record
from study.tracking.schema import COLLAPSED, DIVERGED, HIGH, LOW, MEAN, MISSING, SD, SECONDS, N


def summary(records: list[Record], expected: int) -> dict[str, float]:
    """Summarise a cell.

    Args:
        records: The cell's finished runs.
        expected: Number of runs that the study asks for.

    Returns:
        `n` (finished), `missing`, `diverged`, `collapsed`, `seconds` (mean, absent if n is 0), and
        per split the mean, the sd (n - 1) and the 95% t interval of the mean; NaN where n is too
        small.
    """
    from scipy import stats  # slow to import

    values: dict[str, Any] = {
        N: len(records),
        MISSING: expected - len(records),
        DIVERGED: sum(record.outcome == "diverged" for record in records),
        COLLAPSED: sum(record.collapsed for record in records),
    }
    splits: tuple[Literal["dev", "test"], ...] = ("dev", "test")
    for split in splits:
        scores = np.array([getattr(record, split) for record in records])
        scores = scores[np.isfinite(scores)]  # without that of a failed run whose floor is unknown
        n = len(scores)
        mean = scores.mean() if n else math.nan
        sd = scores.std(ddof=1) if n > 1 else math.nan
        half = stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n) if n > 1 else math.nan
        values |= {f"{split}{MEAN}": mean, f"{split}{SD}": sd}
        values |= {f"{split}{LOW}": mean - half, f"{split}{HIGH}": mean + half}
    if records:
        values[SECONDS] = np.mean([record.seconds for record in records])
    return {name: float(value) for name, value in values.items()}


def note(values: Mapping[str, float], problem: str | None) -> str:
    """The summary as a sentence, for the parent run's description.

    Args:
        values: From `summary`.
        problem: Why runs are missing, if known.
    """
    counts = ", ".join(f"{int(values[k])} {k}" for k in (MISSING, DIVERGED, COLLAPSED))
    text = f"n = {int(values[N])} seeds ({counts})"
    if math.isfinite(values["test_low"]):
        text += (
            f". Test {values['test_mean']:.4f} ± {values['test_sd']:.4f} (sd over seeds), "
            f"95% interval of the mean {values['test_low']:.4f} to {values['test_high']:.4f}"
        )
    if values[COLLAPSED]:
        text += f". Collapsed: {MEANING}"
    return f"{text}.\n\nMissing: {problem}" if problem else f"{text}."
