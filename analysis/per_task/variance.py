"""Sources of variance over seeds: head initialisation, data order and noise, where crossed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.frames.columns import STREAMS
from analysis.frames.runs import (
    CELL,
    Row,
    blocks,
    checked,
    configurations,
    final,
    scores,
    task_facts,
)
from analysis.rendering.builder import CELL_COLUMNS, Columns, RowTuple, side_by_side, table_of
from analysis.rendering.formatting import (
    NBSP,
    count_text,
    metric_text,
    sd_text,
)
from analysis.rendering.table import Table
from analysis.statistics.common import FloatArray, IntArray, stream
from analysis.statistics.variance_components import complete_grid, components, factor_shares

_NUMBERS = ["variance", "low", "high", "share", "share_low", "share_high", "raw_share", "f", "p"]


def sources(runs: pd.DataFrame) -> pd.DataFrame:
    """Variance components of test scores and failures over crossed seed streams.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        Per cell of the final stage and `of` (`score`, or `failure`: 1 for a failed run, 0
        otherwise) one row per component: task, model, configuration, metric, higher_is_better,
        scale, of, source (`head`, `order`, `noise`, or an interaction, joined by " × "), variance
        (may be negative) with low and high, share (negative components set to 0) with share_low and
        share_high, raw_share (not truncated), f and p (of the hypothesis that it is 0), total and
        shapley (main effects only: the share including all interactions, and with interactions
        split equally), sd (over the runs used), levels (such as `5 × 5`), fixed (streams with one
        seed), n (runs used), asked, missing, failed, unused (runs dropped so that the grid has no
        gaps), and reason. The highest-order interaction includes the residual. A cell without
        crossed seeds, or with too many missing runs, has one row with an empty source and the
        reason `not_identified`. A failed run enters as it does in `cells`.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Source: Dodge et al. 2020 and Zhou et al. 2020 cross head and order. Components and shares as in
        `statistics.variance_components`.

    Example:
        Twenty published runs as a grid of 4 head seeds and 5 data orders.

        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb' and model == 'roberta_base'")
        >>> number = runs["seed"] - runs["seed"].min()
        >>> runs = runs.assign(head=number // 5, order=number % 5, noise=0)
        >>> sources(runs)[["source", "share", "share_low", "share_high", "levels"]].round(2)
                 source  share  share_low  share_high levels
        0          head   0.05       0.00        0.75  4 × 5
        1         order   0.03       0.00        0.65  4 × 5
        2  head × order   0.92       0.16        1.00  4 × 5
    """
    rows: list[Row] = []
    for task, model, block in blocks(final(checked(runs))):
        facts = task_facts(block)
        for label, cell in configurations(block).items():
            about: Row = {"task": task, "model": model, "configuration": label} | facts
            rows += [about | row for row in _of_cell(cell, (task, model, label))]
    columns = [*CELL, "of", "source", *_NUMBERS, "n", "asked", "missing", "failed", "reason"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def _of_cell(cell: pd.DataFrame, key: tuple[str, str, str]) -> list[Row]:
    test = scores(cell, "test")
    values = np.where(test.failed & np.isnan(test.values), test.floor, test.values)
    known = ~np.isnan(values)
    varied = [name for name in STREAMS if cell[name].nunique() > 1]
    about: Row = {
        "fixed": ", ".join(name for name in STREAMS if name not in varied),
        "asked": len(cell),
        "missing": len(cell) - test.finished,
        "failed": int(test.failed.sum()),
    }
    used = _grid(cell[varied][known], np.flatnonzero(known))
    n = used.size if min(used.shape) > 1 else 0
    about |= {"n": n, "unused": int(known.sum()) - n}
    if not n:
        no_numbers = dict.fromkeys([*_NUMBERS, "total", "shapley", "sd"], np.nan)
        about |= {"of": "score", "source": "", "levels": "", "reason": "not_identified"}
        return [about | no_numbers]
    about["levels"] = " × ".join(map(str, used.shape))
    rows = _decomposed(values[used], varied, [*key, "score"])
    if test.failed.any():
        rows += _decomposed(test.failed[used].astype(np.float64), varied, [*key, "failure"])
    return [about | row for row in rows]


def _decomposed(grid: FloatArray, factors: list[str], key: list[str]) -> list[Row]:
    parts = components(grid[..., None], tuple(factors), stream(*key, "sources"))
    shares = factor_shares({part.factors: max(part.variance, 0.0) for part in parts})
    rows = []
    for part in parts:
        of_stream = shares[part.factors[0]] if len(part.factors) == 1 else None
        row: Row = {name: getattr(part, name) for name in _NUMBERS}
        row |= {"of": key[-1], "source": " × ".join(part.factors)}
        row |= {"total": of_stream.total if of_stream else np.nan}
        row |= {"shapley": of_stream.shapley if of_stream else np.nan}
        row |= {"sd": float(grid.std(ddof=1))}
        rows.append(row | {"reason": "" if np.ptp(grid) > 0 else "zero_variance"})
    return rows


def _grid(seeds: pd.DataFrame, rows: IntArray) -> IntArray:
    """Rows of the runs of the complete grid, shape (levels of each stream).

    Args:
        seeds: The seeds of the runs with a score, a column per stream that varies.
        rows: The rows of these runs in their cell.
    """
    if seeds.shape[1] < 2:
        return rows[:0]
    codes = np.stack([pd.factorize(seeds[name], sort=True)[0] for name in seeds], axis=1)
    codes, first = np.unique(codes, axis=0, return_index=True)
    kept = complete_grid(codes)
    inside = np.all([mask[codes[:, f]] for f, mask in enumerate(kept)], axis=0)
    return rows[first[inside]].reshape([int(mask.sum()) for mask in kept])  # codes are sorted


def sources_table(frame: pd.DataFrame) -> Table:
    """The table of `sources`, one line per cell.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb' and model == 'roberta_base'")
        >>> number = runs["seed"] - runs["seed"].min()
        >>> runs = runs.assign(head=number // 5, order=number % 5, noise=0)
        >>> sources_table(sources(runs)).header[-4:]
        ('head', 'order', 'head × order', 'Note')
    """
    effects = [name for name in frame["source"].unique() if name]
    wide = frame
    if not frame.empty:
        names = ["variance", "share", "share_low", "share_high"]
        wide = side_by_side(frame, [*CELL, "of"], "source", effects, names=names)
    interactions = [name for name in effects if name not in STREAMS]
    columns: Columns = {
        **CELL_COLUMNS,
        "Metric": lambda r: metric_text(r.metric, r.higher_is_better, scale=r.scale),
        "Variance of": lambda r: r.of,
        "n": lambda r: count_text(r.n, r.asked),
        "Failed": lambda r: f"{r.failed}",
        "Levels": lambda r: r.levels or "–",
        "sd": lambda r: sd_text(r.sd, r.scale if r.of == "score" else 1.0),
        **{name: _share(index) for index, name in enumerate(effects)},
        "Note": _why,
    }
    notes = [
        "Share of the variance of test scores (failure: of the failure indicator) due to each seed "
        "stream and, with ×, to interactions, with 95% intervals that assume normal components; "
        "they are wide for few levels.",
    ]
    method = [
        "The highest-order interaction includes the residual. A negative estimate is shown as 0 "
        "and marked −. sd is over the n runs of the largest grid without gaps.",
    ]
    table = table_of(
        "sources",
        "Sources of variance",
        wide,
        columns,
        notes=notes,
        details=interactions,
        method=method,
    )
    return replace(table, frame=frame)


def _share(index: int) -> Callable[[RowTuple], str]:
    def text(row: RowTuple) -> str:
        names = ("share", "share_low", "share_high", "variance")
        share, low, high, variance = (getattr(row, f"{name}_{index}") for name in names)
        if np.isnan(share):
            return "–"
        below = "−" if variance < 0 else ""
        return f"{share:.0%}{below} [{low:.0%},{NBSP}{high:.0%}]"

    return text


def _why(row: RowTuple) -> str:
    if row.reason == "not_identified":
        return "seeds are not crossed, or too many runs are missing"
    if row.reason == "zero_variance":
        return "all scores equal"
    return f"{row.fixed} fixed" if row.fixed else ""
