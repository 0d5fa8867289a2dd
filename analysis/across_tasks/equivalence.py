"""Practical equivalence with the baseline over tasks: Bayesian signed-rank test with a ROPE."""

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

DECISIVE = 0.95  # posterior probability that a verdict needs
SAMPLES = 20_000  # posterior draws
REASONS = {"no_baseline": "no baseline", "n_too_small": "too few tasks"}


def rope(
    runs: pd.DataFrame, *, by: Sequence[str] = BY, widths: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Probability of each group being better than, equal to or worse than the baseline.

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: The column compared, last, preceded by those it is compared within.
        widths: By task, the half-width of the region of practical equivalence, in the metric's
            unit; half a point for tasks not given.

    Returns:
        One row per group, within a pool by difference, highest first: the names of `by`; difference
        (mean over tasks of its mean test score minus the baseline's) with its t interval over
        tasks; the probabilities worse, same and better (sum 1) and verdict (`worse`, `practically
        equal` or `better` if that has a probability of at least 0.95, else `undecided`; `baseline`,
        or `–` with a reason: `n_too_small` below five tasks, `no_baseline`); the same as `clean_*`
        without failed runs; is_baseline, tasks with scores of both, dropped and dropped_tasks,
        coarse (tasks where one test example is worth at least the width, joined by "; "), and on
        the tasks used n (fewest seeds of either), finished, asked and failed. Only tasks whose
        scores are shares enter.

    Raises:
        ValueError: If `runs` or `by` is malformed, or a width is not positive.

    Source: Benavoli et al. 2014, 2017.

    Example:
        >>> from analysis import example_runs
        >>> names = ["roberta_base", "bert_base_cased"]
        >>> runs = example_runs().query("model in @names")
        >>> labels = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(configuration=labels, model="any")  # compare the models
        >>> rope(runs)[["configuration", "difference", "better", "verdict"]].round(3)
          configuration  difference  better   verdict
        0  roberta_base       0.042     1.0    better
        1      Standard         NaN     NaN  baseline
    """
    widths = widths or {}
    wrong = [f"{task}: {width}" for task, width in widths.items() if not width > 0]
    if wrong:
        raise ValueError(f"a width must be above 0: {', '.join(wrong)}.")
    rows: list[Row] = []
    for pool in map(Pool.shares, pools(runs, by)):
        compared = [
            pool.where | {pool.kind: name} | _against_baseline(pool, name, widths)
            for name in pool.names
        ]
        rows += sorted_rows(compared, "difference", falling=True)
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
    posterior = bayes_signed_rank(gaps / size, rope=1.0, samples=SAMPLES, rng=rng)
    ends = mean_interval(gaps)
    row |= {"difference": mean(gaps), "difference_low": ends.low, "difference_high": ends.high}
    row |= {"worse": posterior.worse, "same": posterior.same, "better": posterior.better}
    return row | {"verdict": _verdict(posterior), "reason": posterior.reason}


def _verdict(posterior: Posterior) -> str:
    if posterior.reason:
        return "–"
    words = ("worse", "practically equal", "better")
    decided = [word for word, p in zip(words, posterior[:3], strict=True) if p >= DECISIVE]
    return decided[0] if decided else "undecided"


def rope_table(frame: pd.DataFrame) -> Table:
    """The table of `rope`.

    Example:
        >>> from analysis import example_runs
        >>> rope_table(rope(example_runs().query("task == 'cb'"))).title
        'Practical equivalence with the baseline'
    """
    columns: Columns = name_columns(frame)
    columns |= {
        f"Difference from {BASELINE} [95% CI]": lambda r: score_with_interval(
            r.difference, r.difference_low, r.difference_high, scale=100, sign="+"
        ),
        "P(worse)": lambda r: number_text(r.worse),
        "P(equal)": lambda r: number_text(r.same),
        "P(better)": lambda r: number_text(r.better),
        "Verdict": lambda r: REASONS.get(r.reason, r.verdict),
        "Verdict without failed runs": lambda r: r.clean_verdict,
        **count_columns(),
    }
    notes = [
        f"Difference: mean over tasks of the mean test score minus {BASELINE}'s, in points, higher "
        "is better, with its 95% t interval over tasks.",
        "P: posterior probabilities of the Bayesian signed-rank test over tasks; a verdict "
        "requires 0.95.",
        *dropped_notes(frame),
    ]
    method = [
        "The region of practical equivalence is half a point either way unless set per task. There "
        "is no correction for multiple comparisons.",
        FAILED_NOTE,
        RUNS_NOTE,
    ]
    coarse = [] if frame.empty else sorted(set("; ".join(frame["coarse"]).split("; ")) - {""})
    if coarse:
        notes.append(
            f"One test example changes the score by at least that much on {', '.join(coarse)}."
        )
    details = ["Verdict without failed runs", "Runs"]
    return table_of(
        "rope",
        "Practical equivalence with the baseline",
        frame,
        columns,
        notes=notes,
        details=details,
        method=method,
    )
