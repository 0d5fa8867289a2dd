"""Where scatter comes from: the new head, the data order or the noise, of cells that cross them."""

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
    score_text,
)
from analysis.rendering.table import Table
from analysis.statistics.common import FloatArray, stream
from analysis.statistics.variance_components import complete_grid, components, factor_shares

_NUMBERS = ["variance", "low", "high", "share", "share_low", "share_high", "raw_share", "f", "p"]


def sources(runs: pd.DataFrame) -> pd.DataFrame:
    """Variance components over the seed streams that a cell crosses, of test scores and failures.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        Per cell of the final stage and `of` (`score`, or `failure`: 1 for a failed run, 0 for
        another) one row per component: task, model, configuration, metric, higher_is_better, scale,
        of, source (`head`, `order`, `noise`, or several of them joined by " × ": what they do
        together), variance (may be negative) with low and high, share (of what is above 0) with
        share_low and share_high, raw_share (nothing cut off), f and p (that it is 0), total and
        shapley (of a single stream: the share with all its interactions, and with an equal part of
        each), sd (over the runs used), levels (such as `5 × 5`), fixed (streams with one seed), n
        (runs used), asked, missing, failed, unused (runs that would leave the grid with gaps), and
        reason. The highest interaction holds whatever the streams do not explain. Without crossed
        seeds a cell has one row, whose source is empty and whose reason is `not_identified`; so it
        is where too many runs are missing. A failed run enters as it does in `tables.cells`.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.

    Source: Dodge et al. 2020 and Zhou et al. 2020 cross head and order. Components as in
        `statistics.components`, shares as there.
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
    grid = _grid(cell, varied, known) if len(varied) > 1 else np.full((1, 1), -1)
    used = grid[np.ix_(*complete_grid(grid >= 0))]
    n = used.size if min(used.shape) > 1 else 0
    about |= {"n": n, "unused": int(known.sum()) - n}
    if not n:
        nothing = dict.fromkeys([*_NUMBERS, "total", "shapley", "sd"], np.nan)
        about |= {"of": "score", "source": "", "levels": "", "reason": "not_identified"}
        return [about | nothing]
    about["levels"] = " × ".join(map(str, used.shape))
    rows = _decomposed(values[used], varied, [*key, "score"])
    if test.failed.any():
        rows += _decomposed(test.failed[used].astype(np.float64), varied, [*key, "failure"])
    return [about | row for row in rows]


def _decomposed(grid: FloatArray, factors: list[str], key: list[str]) -> list[Row]:
    found = components(grid[..., None], tuple(factors), stream(*key, "sources"))
    own = factor_shares({part.factors: max(part.variance, 0.0) for part in found})
    rows = []
    for part in found:
        of_stream = own[part.factors[0]] if len(part.factors) == 1 else None
        row: Row = {name: getattr(part, name) for name in _NUMBERS}
        row |= {"of": key[-1], "source": " × ".join(part.factors)}
        row |= {"total": of_stream.total if of_stream else np.nan}
        row |= {"shapley": of_stream.shapley if of_stream else np.nan}
        row |= {"sd": float(grid.std(ddof=1))}
        rows.append(row | {"reason": "" if np.ptp(grid) > 0 else "zero_variance"})
    return rows


def _grid(cell: pd.DataFrame, varied: list[str], known: FloatArray) -> np.ndarray:
    """Which run stands at each combination of seeds; -1 where none has a score."""
    places, levels = [], []
    for name in varied:
        codes, found = pd.factorize(cell[name], sort=True)
        places.append(codes)
        levels.append(len(found))
    grid = np.full(levels, -1)
    rows = np.flatnonzero(known)
    grid[tuple(place[rows] for place in places)] = rows
    return grid


def sources_table(found: pd.DataFrame) -> Table:
    """Where scatter comes from, as `sources.sources` gives it; a line per cell."""
    every = [name for name in found["source"].unique() if name]
    wide = found
    if not found.empty:
        names = ["variance", "share", "share_low", "share_high"]
        wide = side_by_side(found, [*CELL, "of"], "source", every, names=names)
    single = [name for name in STREAMS if name in every]
    together = [name for name in every if name not in single]
    columns: Columns = {
        **CELL_COLUMNS,
        "Metric": lambda r: metric_text(r.metric, r.higher_is_better, scale=r.scale),
        "Of": lambda r: r.of,
        "n": lambda r: count_text(r.n, r.asked),
        "Failed": lambda r: f"{r.failed}",
        "Levels": lambda r: r.levels or "–",
        "sd": lambda r: score_text(r.sd, r.scale if r.of == "score" else 1.0),
        **{name: _share(place) for place, name in enumerate(every)},
        "Note": _why,
    }
    notes = [
        "Share of the variance of test scores (of failure: of whether a run fails) that comes from "
        "each seed stream alone and, with ×, from several together; in per cent with 95% intervals "
        "under normal components, which are wide with few levels.",
        "The highest interaction holds all that is left. A component estimated below 0 is shown as "
        "0 and marked −. sd is over the n runs used; others would leave gaps in the grid.",
    ]
    table = table_of(
        "sources", "Where scatter comes from", wide, columns, notes=notes, details=together
    )
    return replace(table, frame=found)


def _share(place: int) -> Callable[[RowTuple], str]:
    def text(row: RowTuple) -> str:
        names = ("share", "share_low", "share_high", "variance")
        share, low, high, variance = (getattr(row, f"{name}_{place}") for name in names)
        if np.isnan(share):
            return "–"
        below = "−" if variance < 0 else ""
        return f"{share:.0%}{below} [{low:.0%},{NBSP}{high:.0%}]"

    return text


def _why(row: RowTuple) -> str:
    if row.reason == "not_identified":
        return "seeds are not crossed, or too many runs are missing"
    if row.reason == "zero_variance":
        return "all the same"
    return f"{row.fixed} fixed" if row.fixed else ""
