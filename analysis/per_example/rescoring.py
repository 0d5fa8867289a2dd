"""Scores by another metric, computed from stored predictions."""

import numpy as np
import pandas as pd

from analysis.frames.predictions import Predicted, predicted
from analysis.frames.runs import Split
from analysis.statistics.common import FloatArray, IntArray
from analysis.statistics.metrics import ERRORS, OF_ANSWERS, OF_PROBABILITIES, OF_VALUES, confusion

METRICS = (*OF_ANSWERS, *OF_PROBABILITIES, *OF_VALUES)
LOWER_IS_BETTER = (*OF_PROBABILITIES, *ERRORS)


def rescored(predictions: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Scores of the same runs by another metric, from their stored predictions.

    Args:
        predictions: One row per run and example, as `load_predictions` gives them.
        metric: One of `METRICS`.

    Returns:
        One row per run of a classification task, or for metrics of values of a regression, in the
        columns of `load_runs` that it changes:
        key, metric, higher_is_better, dev, test, dev_floor and test_floor (the best constant
        predictor's scores; NaN for the calibration error, where a constant predictor has none), so
        that `runs.drop(columns=frame.columns[1:]).merge(frame, on="key", how="left")` is the study
        under that metric; `collapsed` is unchanged. NaN for a run without any answer.

    Raises:
        ValueError: If `predictions` is malformed; see `predicted`.
        LookupError: If there is no such metric.

    Example:
        >>> import pandas as pd
        >>> predictions = pd.DataFrame({
        ...     "task": "nli", "model": "minilm", "configuration": "Standard", "stage": "final",
        ...     "key": [*"rrsstt"], "seed": [0, 0, 1, 1, 2, 2], "split": "test", "id": [*"ababab"],
        ...     "label": "yes", "logit_no": 0.0, "logit_yes": [1, 1, 1, -1, 1, 1],
        ... })
        >>> rescored(predictions, "macro_f1")[["key", "metric", "test"]].round(3)
          key    metric   test
        0   r  macro_f1  1.000
        1   s  macro_f1  0.333
        2   t  macro_f1  1.000
    """
    if metric not in METRICS:
        raise LookupError(f"{metric!r} is not one of {', '.join(METRICS)}.")
    kind = "value" if metric in OF_VALUES else "class"
    splits = []
    pairs: list[tuple[Split, str]] = [("dev", "dev_floor"), ("test", "test_floor")]
    for split, floor_name in pairs:
        parts = [
            pd.DataFrame({"key": cell.keys, split: scores, floor_name: floor})
            for cell in predicted(predictions, split)
            if cell.kind == kind
            for scores, floor in [(_of_values if kind == "value" else _rescored)(cell, metric)]
        ]
        columns = ["key", split, floor_name]
        splits.append(pd.concat(parts) if parts else pd.DataFrame(columns=columns))
    frame = splits[0].merge(splits[1], on="key", how="outer")
    frame = frame.assign(metric=metric, higher_is_better=metric not in LOWER_IS_BETTER)
    columns = ["key", "metric", "higher_is_better", "dev", "test", "dev_floor", "test_floor"]
    return frame[columns].sort_values("key", ignore_index=True)


def _rescored(cell: Predicted, metric: str) -> tuple[FloatArray, float]:
    """The metric per run over the labelled examples it answered, and the constant predictor's."""
    classes, labelled = len(cell.classes), cell.gold >= 0
    scores = np.full(len(cell.keys), np.nan)
    for run, answers in enumerate(cell.answers):
        used = labelled & (answers >= 0)
        gold = cell.gold[used]
        if not gold.size:
            continue
        if metric in OF_ANSWERS:
            scores[run] = OF_ANSWERS[metric](confusion(answers[None, used], gold, classes))[0]
        else:
            own = cell.only({cell.keys[run]}).log_probabilities(used)
            scores[run] = OF_PROBABILITIES[metric](own, gold)[0]
    return scores, _constant(metric, cell.gold[labelled], classes)


def _of_values(cell: Predicted, metric: str) -> tuple[FloatArray, float]:
    """As `_rescored`, of values; a constant is their median for `mae`, else their mean."""
    gold = pd.to_numeric(pd.Series(cell.labels), errors="coerce").to_numpy("float64")
    scores = np.full(len(cell.keys), np.nan)
    for run, values in enumerate(cell.values):
        used = np.isfinite(gold) & np.isfinite(values)
        if used.any():
            scores[run] = OF_VALUES[metric](values[used], gold[used])
    labelled = gold[np.isfinite(gold)]
    if not labelled.size:
        return scores, np.nan
    constant = np.median(labelled) if metric == "mae" else np.mean(labelled)
    return scores, OF_VALUES[metric](np.full(labelled.size, constant), labelled)


def _constant(metric: str, gold: IntArray, classes: int) -> float:
    """The score of the best constant predictor: of one class, or of constant probabilities."""
    if metric == "calibration_error" or not gold.size:
        return np.nan
    if metric in OF_ANSWERS:
        constant = np.repeat(np.arange(classes)[:, None], gold.size, axis=1)
        return float(OF_ANSWERS[metric](confusion(constant, gold, classes)).max())
    shares = np.bincount(gold, minlength=classes) / gold.size
    with np.errstate(divide="ignore"):
        prior = np.broadcast_to(np.log(shares), (1, gold.size, classes))
    return float(OF_PROBABILITIES[metric](prior, gold)[0])
