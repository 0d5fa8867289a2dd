"""What stored predictions tell without a new run: ensembles of seeds, other metrics, new examples.

All of it of tasks of classes; other kinds of answer have no rows here.
"""

from typing import Any

import numpy as np
import pandas as pd

from analysis.frame import CELL, Split, baseline_of, checked, final
from analysis.predicted import IntArray, Predicted, predicted
from analysis.statistics.common import FloatArray, stream
from analysis.statistics.ensembles import ensemble_gains
from analysis.statistics.metrics import OF_ANSWERS, OF_PROBABILITIES, confusion
from analysis.statistics.multibootstrap import mean_of, multibootstrap
from analysis.statistics.multiplicity import holm

ENSEMBLES_OF = (3, 5, 10)  # of two the votes gain nothing: where they differ they are tied
METRICS = (*OF_ANSWERS, *OF_PROBABILITIES)  # lower is better of those of probabilities

Row = dict[str, Any]

_SOURCES = ("seeds", "examples", "both")


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
            found = ensemble_gains(probabilities, gold, k, rng)
            for name, each in zip(("mean", "vote"), found, strict=True):
                row |= {f"{name}_accuracy": each.accuracy, f"{name}_gain": each.gain}
                row |= {f"{name}_low": each.interval.low, f"{name}_high": each.interval.high}
            rows.append(row | {"reason": found[0].interval.reason})
    columns = [*CELL, "k", "n", "examples", "single", "mean_gain", "vote_gain", "reason"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def rescored(predictions: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Another metric of the same runs, from what they predicted.

    Args:
        predictions: One row per run and example, as `load_predictions` gives them.
        metric: One of `METRICS`.

    Returns:
        One row per run of a task of classes, in the columns of `load_runs` that a metric changes:
        key, metric, higher_is_better, dev, test, floor and test_floor (the best constant answer,
        or constant probabilities; NaN for the calibration error, of which a constant has none), so
        that `runs.drop(columns=found.columns[1:]).merge(found, on="key", how="left")` is the study
        under that metric; which runs collapsed stays as it was. NaN for a run without any answer.

    Raises:
        ValueError: If `predictions` is malformed; see `predicted`.
        LookupError: If there is no such metric.
    """
    if metric not in METRICS:
        raise LookupError(f"{metric!r} is not one of {', '.join(METRICS)}.")
    splits = []
    pairs: list[tuple[Split, str]] = [("dev", "floor"), ("test", "test_floor")]
    for split, floor_name in pairs:
        parts = [
            pd.DataFrame({"key": cell.keys, split: scores, floor_name: floor})
            for cell in predicted(predictions, split)
            if cell.kind == "class"
            for scores, floor in [_rescored(cell, metric)]
        ]
        columns = ["key", split, floor_name]
        splits.append(pd.concat(parts) if parts else pd.DataFrame(columns=columns))
    found = splits[0].merge(splits[1], on="key", how="outer")
    found = found.assign(metric=metric, higher_is_better=metric in OF_ANSWERS)
    columns = ["key", "metric", "higher_is_better", "dev", "test", "floor", "test_floor"]
    return found[columns].sort_values("key", ignore_index=True)


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
    found = multibootstrap(right[0], right[1], mean_of, paired=paired, rng=rng)
    row["difference"] = found.estimate
    for name in _SOURCES:
        part = getattr(found, name)
        row |= {f"{name}_low": part.low, f"{name}_high": part.high}
    return row | {"p": found.both.p}


def _right(side: Predicted, examples: pd.Index, seeds: list[str]) -> FloatArray:
    """Whether each run is right, runs in the order of their seeds, shape (n_runs, n_examples)."""
    columns = pd.Index(side.ids).get_indexer(examples)
    rows = np.argsort(np.array(seeds), kind="stable")
    right = side.answers[rows][:, columns] == side.gold[columns]
    return np.asarray(right, dtype=np.float64)


def _rescored(cell: Predicted, metric: str) -> tuple[FloatArray, float]:
    """The metric per run over the labelled examples that it answered, and a constant's."""
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


def _constant(metric: str, gold: IntArray, classes: int) -> float:
    """What the best constant answer scores, or constant probabilities."""
    if metric == "calibration_error" or not gold.size:
        return np.nan
    if metric in OF_ANSWERS:
        constant = np.repeat(np.arange(classes)[:, None], gold.size, axis=1)
        return float(OF_ANSWERS[metric](confusion(constant, gold, classes)).max())
    shares = np.bincount(gold, minlength=classes) / gold.size
    with np.errstate(divide="ignore"):
        prior = np.broadcast_to(np.log(shares), (1, gold.size, classes))
    return float(OF_PROBABILITIES[metric](prior, gold)[0])
