"""Practical equivalence with the baseline over tasks (Bayesian signed-rank test with a ROPE)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.across_tasks.pools import BY, VIEWS, Pool, View, pools, sorted_rows
from analysis.across_tasks.table_columns import (
    FAILED_NOTE,
    RUNS_NOTE,
    count_columns,
    dropped_notes,
    name_columns,
)
from analysis.frames.runs import BASELINE, Row
from analysis.per_task.best_strategy import ROPE
from analysis.rendering.builder import Columns, table_of
from analysis.rendering.formatting import number_text, score_with_interval
from analysis.rendering.table import Table
from analysis.statistics.bayes import Posterior, bayes_signed_rank
from analysis.statistics.estimates import mean
from analysis.statistics.intervals import mean_interval

SURE = 0.95  # probability from which a verdict is given
SAMPLES = 20_000  # draws from a posterior
WHY = {"no_baseline": "no baseline", "n_too_small": "too few tasks"}


def rope(
    runs: pd.DataFrame, *, by: Sequence[str] = BY, widths: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Is a group better than the baseline over tasks, worse, or practically equal?

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: What is compared, and within what.
        widths: By task, the difference of means below which two are practically equal, in the
            metric's unit; half a point for the others.

    Returns:
        One row per group: the names of `by`; difference (mean over tasks of its mean test score
        minus the baseline's) with its t interval over tasks; the probabilities worse, same and
        better (adding up to 1) and verdict (`worse`, `practically equal` or `better` where one of
        them is at least 0.95, else `undecided`; `baseline`, or `–` where reason says why:
        `n_too_small` below five tasks, `no_baseline`); all of these as `clean_*` without failed
        runs; is_baseline, tasks that both have scores on, dropped and
        dropped_tasks, coarse (tasks where one row of the test set weighs as much as the width,
        joined by "; "), and on the tasks used n (fewest seeds of either), finished, asked and
        failed. Within a pool by falling difference. Only tasks whose scores are shares enter.

    Raises:
        ValueError: If `runs` or `by` is malformed, or a width is not positive.

    Source: Benavoli et al. 2014, 2017.
    """
    widths = widths or {}
    wrong = [f"{task}: {width}" for task, width in widths.items() if not width > 0]
    if wrong:
        raise ValueError(f"a width must be above 0: {', '.join(wrong)}.")
    rows: list[Row] = []
    for pool in map(Pool.shares, pools(runs, by)):
        frame = [
            pool.where | {pool.kind: name} | _against_baseline(pool, name, widths)
            for name in pool.names
        ]
        rows += sorted_rows(frame, "difference", falling=True)
    names = [*by, "difference", "worse", "same", "better", "verdict", "tasks", "n"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)


def _against_baseline(pool: Pool, name: str, widths: Mapping[str, float]) -> Row:
    both = [name, pool.baseline] if pool.baseline else [name]
    used = pool.complete("all_floor", both)
    counts = [pool.counts(used, each) for each in both]
    size = {task: widths.get(task, ROPE) for task in used}
    rows = {task: pool.facts[task]["test_rows"] for task in used}
    coarse = [task for task in used if size[task] <= 1 / rows[task]]  # NaN: not known
    row: Row = {}
    for prefix, view in VIEWS.items():
        row |= {f"{prefix}{key}": x for key, x in _posterior(pool, name, widths, view).items()}
    row["is_baseline"] = name == pool.baseline
    return (
        row
        | counts[0]
        | {"n": min(each["n"] for each in counts), "coarse": "; ".join(coarse)}
        | pool.dropped(used, both)
    )


def _posterior(pool: Pool, name: str, widths: Mapping[str, float], view: View) -> Row:
    numbers = ("difference", "difference_low", "difference_high", "worse", "same", "better")
    row: Row = dict.fromkeys(numbers, np.nan) | {"verdict": "–", "reason": "no_baseline"}
    if not pool.baseline:
        return row
    if name == pool.baseline:
        return row | {"verdict": "baseline", "reason": "is_baseline"}
    used = pool.complete(view, [name, pool.baseline])
    own, base = ([mean(pool.of(task, n, view)) for task in used] for n in (name, pool.baseline))
    gaps = np.array(own) - np.array(base)
    size = np.array([widths.get(task, ROPE) for task in used])
    rng = pool.rng("rope")
    frame = bayes_signed_rank(gaps / size, rope=1.0, samples=SAMPLES, rng=rng)
    ends = mean_interval(gaps)
    row |= {"difference": mean(gaps), "difference_low": ends.low, "difference_high": ends.high}
    row |= {"worse": frame.worse, "same": frame.same, "better": frame.better}
    return row | {"verdict": _verdict(frame), "reason": frame.reason}


def _verdict(frame: Posterior) -> str:
    if frame.reason:
        return "–"
    words = ("worse", "practically equal", "better")
    sure = [word for word, p in zip(words, frame[:3], strict=True) if p >= SURE]
    return sure[0] if sure else "undecided"


def rope_table(frame: pd.DataFrame) -> Table:
    """Better, worse or practically equal, as `across.rope` gives it."""
    columns: Columns = name_columns(frame)
    columns |= {
        f"Minus {BASELINE}, 95%": lambda r: score_with_interval(
            r.difference, r.difference_low, r.difference_high, scale=100, sign="+"
        ),
        "P(worse)": lambda r: number_text(r.worse),
        "P(equal)": lambda r: number_text(r.same),
        "P(better)": lambda r: number_text(r.better),
        "Verdict": lambda r: WHY.get(r.reason, r.verdict),
        "Not failed": lambda r: r.clean_verdict,
        **count_columns(),
    }
    notes = [
        f"Mean over tasks of the mean test score minus {BASELINE}'s, in points, with a t interval "
        "over tasks.",
        "Bayesian signed-rank test over tasks: worse and better are by more than half a point, "
        "unless a task was given a width of its own; a verdict needs a probability of 0.95.",
        FAILED_NOTE,
        RUNS_NOTE,
        *dropped_notes(frame),
    ]
    coarse = [] if frame.empty else sorted(set("; ".join(frame["coarse"]).split("; ")) - {""})
    if coarse:
        notes.append(f"One row of the test set weighs as much as the width on {', '.join(coarse)}.")
    details = ["Not failed", "Runs"]
    return table_of(
        "rope", "Better, worse or practically equal", frame, columns, notes=notes, details=details
    )
