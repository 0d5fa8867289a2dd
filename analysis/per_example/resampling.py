"""Resampling seeds and test examples together."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.frames.predictions import Predicted, predicted
from analysis.frames.runs import CELL, Row, baseline_of, checked, final
from analysis.rendering.builder import CELL_COLUMNS, POINTS, Columns, RowTuple, table_of
from analysis.rendering.formatting import (
    interval_text,
    p_text,
    score_text,
)
from analysis.rendering.table import Table
from analysis.statistics.common import FloatArray, stream
from analysis.statistics.multibootstrap import mean_of, multibootstrap
from analysis.statistics.multiplicity import holm

_SOURCES = ("seeds", "examples", "both")


def seeds_and_examples_table(frame: pd.DataFrame) -> Table:
    """Differences over seeds and examples, as `stored.seeds_and_examples` gives them."""

    def ends(name: str) -> Callable[[RowTuple], str]:
        return lambda r: interval_text(
            getattr(r, f"{name}_low"), getattr(r, f"{name}_high"), scale=POINTS
        )

    columns: Columns = {
        **CELL_COLUMNS,
        "Baseline": lambda r: r.baseline,
        "n": lambda r: f"{r.n}, {r.n_baseline}" + (" paired" if r.paired else ""),
        "Examples": lambda r: f"{r.examples}",
        "Difference": lambda r: score_text(r.difference, POINTS, sign="+"),
        "Over seeds": ends("seeds"),
        "Over examples": ends("examples"),
        "Over both": ends("both"),
        "p": lambda r: p_text(r.p_holm),
    }
    notes = [
        "Difference of mean test accuracies to the baseline, in points, with 95% bootstrap "
        "intervals for other seeds on the same examples, for other examples with the same runs, "
        "and for both. p: one-sided, that there is no gain, over both; Holm-adjusted over the "
        "configurations of a task and model.",
    ]
    return table_of(
        "seeds_and_examples",
        "Gains over seeds and examples",
        frame,
        columns,
        notes=notes,
        details=["Baseline", "Examples"],
        nothing="No configuration and its baseline both have predictions of classes.",
    )


def seeds_and_examples(predictions: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy against the baseline, when both the seeds and the examples are samples.

    Args:
        predictions: One row per run and example, as `load_predictions` gives them.
        runs: One row per run, as `load_runs` gives them; tells baseline and seeds.

    Returns:
        One row per cell of classes other than the baseline: task, model, configuration, baseline,
        n and n_baseline (runs), paired (whether by seed: where both sides have the same seeds),
        examples (with a label and an answer of every run of both), left_out, difference (ours
        minus the baseline's accuracy), seeds_low, seeds_high, examples_low, examples_high,
        both_low, both_high, p (one-sided, that it is not above 0, over both) and p_holm (over the
        configurations of a task and model).

    Raises:
        ValueError: If `runs` or `predictions` is malformed; see `checked` and `predicted`.

    Source: Sellam et al. 2022.
    """
    known = final(checked(runs))
    streams = known[["key", "head", "order", "noise"]].itertuples(index=False)
    seeds = {key: f"{head} {order} {noise}" for key, head, order, noise in streams}
    blocks: dict[tuple[str, str], dict[str, Predicted]] = {}
    for cell in predicted(predictions, "test"):
        if cell.kind == "class":
            blocks.setdefault(cell.cell[:2], {})[cell.cell[2]] = cell
    rows: list[Row] = []
    for (task, model), cells in blocks.items():
        base = baseline_of(known[(known["task"] == task) & (known["model"] == model)])
        own: list[Row] = []
        for label, ours in cells.items():
            if base in cells and label != base:
                row: Row = {"task": task, "model": model, "configuration": label}
                own.append(row | {"baseline": base} | _versus(ours, cells[base], seeds))
        adjusted = holm(np.array([row["p"] for row in own]))
        rows += [row | {"p_holm": float(p)} for row, p in zip(own, adjusted, strict=True)]
    columns = [*CELL, "baseline", "n", "n_baseline", "paired", "difference", "p", "p_holm"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def _versus(ours: Predicted, theirs: Predicted, seeds: dict[str, str]) -> Row:
    own, other = ([seeds.get(key, key) for key in side.keys] for side in (ours, theirs))
    paired = sorted(own) == sorted(other)
    usable = [pd.Index(side.ids[side.complete]) for side in (ours, theirs)]
    common = usable[0].intersection(usable[1])
    row: Row = {"n": len(own), "n_baseline": len(other), "paired": paired}
    row |= {"examples": len(common), "left_out": len({*ours.ids, *theirs.ids}) - len(common)}
    if common.empty:
        ends = [f"{name}_{end}" for name in _SOURCES for end in ("low", "high")]
        return row | dict.fromkeys(["difference", *ends, "p"], np.nan)
    right = [_right(ours, common, own), _right(theirs, common, other)]
    rng = stream(*ours.cell, "seeds_and_examples")
    frame = multibootstrap(right[0], right[1], mean_of, paired=paired, rng=rng)
    row["difference"] = frame.estimate
    for name in _SOURCES:
        part = getattr(frame, name)
        row |= {f"{name}_low": part.low, f"{name}_high": part.high}
    return row | {"p": frame.both.p}


def _right(side: Predicted, examples: pd.Index, seeds: list[str]) -> FloatArray:
    """Whether each run is right, runs in the order of their seeds, shape (n_runs, n_examples)."""
    columns = pd.Index(side.ids).get_indexer(examples)
    rows = np.argsort(np.array(seeds), kind="stable")
    right = side.answers[rows][:, columns] == side.gold[columns]
    return np.asarray(right, dtype=np.float64)
