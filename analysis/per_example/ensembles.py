"""What stored predictions tell without a new run: ensembles of seeds, other metrics, new examples.

All of it of tasks of classes; other kinds of answer have no rows here.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.frames.predictions import predicted
from analysis.frames.runs import CELL, Row
from analysis.rendering.builder import (
    CELL_COLUMNS,
    POINTS,
    Columns,
    RowTuple,
    side_by_side,
    table_of,
)
from analysis.rendering.formatting import (
    score_text,
    score_with_interval,
)
from analysis.rendering.table import Table
from analysis.statistics.common import stream
from analysis.statistics.ensembles import ensemble_gains

ENSEMBLES_OF = (3, 5, 10)  # of two the votes gain nothing: where they differ they are tied


def ensembles(predictions: pd.DataFrame) -> pd.DataFrame:
    """What answering with k seeds at once would gain in test accuracy.

    Args:
        predictions: One row per run and example, as `load_predictions` gives them.

    Returns:
        One row per cell of classes and k = 3, 5, 10: task, model, configuration, k, n (runs),
        examples (with a label and an answer of every run), left_out (the others), single (mean
        accuracy of one run), mean_accuracy (by mean of probabilities), mean_gain with mean_low and
        mean_high (over seeds and examples), vote_accuracy, vote_gain, vote_low and vote_high, and
        reason, `n_too_small` where k > n / 2. Collapsed runs are members like any other.

    Raises:
        ValueError: If `predictions` is malformed; see `predicted`.
    """
    rows: list[Row] = []
    for cell in predicted(predictions, "test"):
        if cell.kind != "class":
            continue
        used = cell.complete
        gold, probabilities = cell.gold[used], np.exp(cell.log_probabilities(used))
        right = cell.answers[:, used] == gold
        for k in ENSEMBLES_OF:
            row: Row = dict(zip(CELL, cell.cell, strict=True)) | {"k": k, "n": len(cell.keys)}
            row |= {"examples": int(used.sum()), "left_out": int((~used).sum())}
            row["single"] = float(right.mean()) if right.size else np.nan
            rng = stream(*cell.cell, "ensembles", str(k))
            frame = ensemble_gains(probabilities, gold, k, rng)
            for name, each in zip(("mean", "vote"), frame, strict=True):
                row |= {f"{name}_accuracy": each.accuracy, f"{name}_gain": each.gain}
                row |= {f"{name}_low": each.interval.low, f"{name}_high": each.interval.high}
            rows.append(row | {"reason": frame[0].interval.reason})
    columns = [*CELL, "k", "n", "examples", "single", "mean_gain", "vote_gain", "reason"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def ensembles_table(frame: pd.DataFrame) -> Table:
    """What ensembles of seeds would gain, as `stored.ensembles` gives them."""
    names = [f"{how}_{name}" for how in ("mean", "vote") for name in ("gain", "low", "high")]
    wide = frame
    if not frame.empty:
        wide = side_by_side(frame, CELL, "k", list(ENSEMBLES_OF), names=names)
    columns: Columns = {
        **CELL_COLUMNS,
        "n": lambda r: f"{r.n}",
        "One seed": lambda r: score_text(r.single, POINTS),
    }
    for place, k in enumerate(ENSEMBLES_OF):
        for how in ("mean", "vote"):
            columns[f"Gain of {k}, {how}"] = _gain(how, place)
    notes = [
        "Test accuracy in points: of one seed, and what an ensemble of k of the n seeds gains over "
        "one of its members, by the mean of their probabilities or by their votes.",
        "Intervals (95%) are over seeds and examples; a dash where k is above half of n. "
        "An ensemble costs k times the training and the answering.",
    ]
    details = [f"Gain of {k}, vote" for k in ENSEMBLES_OF]
    table = table_of(
        "ensembles",
        "Ensembles of seeds",
        wide,
        columns,
        notes=notes,
        details=details,
        nothing="No cell has predictions of classes.",
    )
    return replace(table, frame=frame)


def _gain(how: str, place: int) -> Callable[[RowTuple], str]:
    def text(row: RowTuple) -> str:
        names = ("gain", "low", "high")
        gain, low, high = (getattr(row, f"{how}_{name}_{place}") for name in names)
        return score_with_interval(gain, low, high, scale=POINTS, sign="+")

    return text
