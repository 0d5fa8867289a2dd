"""Accuracy gain of ensembles of seeds, from stored predictions of classification tasks."""

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

ENSEMBLE_SIZES = (3, 5, 10)  # not 2: two votes that differ are a tie, so voting gains nothing


def ensembles(predictions: pd.DataFrame) -> pd.DataFrame:
    """Gain in test accuracy from an ensemble of k seeds over a single one.

    Args:
        predictions: One row per run and example, as `load_predictions` gives them.

    Returns:
        One row per cell of a classification task and k = 3, 5, 10: task, model, configuration, k,
        n (runs), examples (with a label and an answer of every run), left_out (number of others),
        single (mean accuracy of one run), mean_accuracy (averaged probabilities), mean_gain with
        its 95% interval over seeds and examples (mean_low, mean_high), vote_accuracy, vote_gain,
        vote_low and vote_high (majority vote), and reason, `n_too_small` where k > n / 2. Collapsed
        runs are members like any other.

    Raises:
        ValueError: If `predictions` is malformed; see `predicted`.

    Example:
        >>> import pandas as pd
        >>> predictions = pd.DataFrame({
        ...     "task": "nli", "model": "minilm", "configuration": "Standard", "stage": "final",
        ...     "key": [*"rrssttuuvvww"], "seed": [*"001122334455"], "split": "test",
        ...     "id": ["a", "b"] * 6, "label": "yes", "logit_no": 0, "logit_yes": [1, 1, 1, -1] * 3,
        ... })
        >>> ensembles(predictions)[["k", "n", "single", "mean_gain", "vote_gain"]].round(3)
            k  n  single  mean_gain  vote_gain
        0   3  6    0.75        0.0        0.0
        1   5  6    0.75        NaN        NaN
        2  10  6    0.75        NaN        NaN
    """
    rows: list[Row] = []
    for cell in predicted(predictions, "test"):
        if cell.kind != "class":
            continue
        used = cell.complete
        gold, probabilities = cell.gold[used], np.exp(cell.log_probabilities(used))
        right = cell.answers[:, used] == gold
        for k in ENSEMBLE_SIZES:
            row: Row = dict(zip(CELL, cell.cell, strict=True)) | {"k": k, "n": len(cell.keys)}
            row |= {"examples": int(used.sum()), "left_out": int((~used).sum())}
            row["single"] = float(right.mean()) if right.size else np.nan
            rng = stream(*cell.cell, "ensembles", str(k))
            gains = ensemble_gains(probabilities, gold, k, rng)
            for name, gain in zip(("mean", "vote"), gains, strict=True):
                row |= {f"{name}_accuracy": gain.accuracy, f"{name}_gain": gain.gain}
                row |= {f"{name}_low": gain.interval.low, f"{name}_high": gain.interval.high}
            rows.append(row | {"reason": gains[0].interval.reason})
    columns = [*CELL, "k", "n", "examples", "single", "mean_gain", "vote_gain", "reason"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def ensembles_table(frame: pd.DataFrame) -> Table:
    """The table of `ensembles`.

    Example:
        >>> import pandas as pd
        >>> predictions = pd.DataFrame({
        ...     "task": "nli", "model": "minilm", "configuration": "Standard", "stage": "final",
        ...     "key": [*"rrssttuuvvww"], "seed": [*"001122334455"], "split": "test",
        ...     "id": ["a", "b"] * 6, "label": "yes", "logit_no": 0, "logit_yes": [1, 1, 1, -1] * 3,
        ... })
        >>> ensembles_table(ensembles(predictions)).title
        'Ensembles of seeds'
    """
    names = [f"{how}_{name}" for how in ("mean", "vote") for name in ("gain", "low", "high")]
    wide = frame
    if not frame.empty:
        wide = side_by_side(frame, CELL, "k", list(ENSEMBLE_SIZES), names=names)
    columns: Columns = {
        **CELL_COLUMNS,
        "n": lambda r: f"{r.n}",
        "Single seed": lambda r: score_text(r.single, POINTS),
    }
    for index, k in enumerate(ENSEMBLE_SIZES):
        for how in ("mean", "vote"):
            columns[f"Gain of {k}, {how}"] = _gain(how, index)
    notes = [
        "Test accuracy of a single seed, and the gain of an ensemble of k of the n seeds over a "
        "single one, by averaged probabilities (mean) or majority vote, in points; higher is "
        "better.",
        "95% intervals over seeds and examples; a dash for k > n/2.",
        "An ensemble costs k times the training and inference.",
    ]
    details = [f"Gain of {k}, vote" for k in ENSEMBLE_SIZES]
    table = table_of(
        "ensembles",
        "Ensembles of seeds",
        wide,
        columns,
        notes=notes,
        details=details,
        nothing="No cell has predictions of a classification task.",
    )
    return replace(table, frame=frame)


def _gain(how: str, index: int) -> Callable[[RowTuple], str]:
    def text(row: RowTuple) -> str:
        names = ("gain", "low", "high")
        gain, low, high = (getattr(row, f"{how}_{name}_{index}") for name in names)
        return score_with_interval(gain, low, high, scale=POINTS, sign="+")

    return text
