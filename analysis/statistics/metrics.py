"""Metrics of stored predictions: of classes, from confusion matrices or probabilities; of values.

Own code for classes, since scikit-learn scores one run at a time; these score all runs of a cell,
or all resamples, at once.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

from analysis.statistics.common import FloatArray, IntArray

BINS = 15  # equal-width bins of confidence, as in Guo et al. 2017


def confusion(answers: IntArray, gold: IntArray, classes: int) -> FloatArray:
    """Normalised confusion matrices: gold class in rows, answer in columns.

    Args:
        answers: Class indices, shape (n_runs, n_examples).
        gold: Gold class indices, shape (n_examples,).
        classes: Number of classes.

    Returns:
        Proportions, shape (n_runs, n_classes, n_classes); NaN of no examples.
    """
    runs, examples = answers.shape
    # All runs share one bincount, with an offset per run.
    cell = (np.arange(runs)[:, None] * classes + gold) * classes + answers
    counts = np.bincount(cell.ravel(), minlength=runs * classes**2)
    shares = counts / examples if examples else np.full(counts.size, np.nan)
    return np.asarray(shares.reshape(runs, classes, classes))


def accuracy(confusion: FloatArray) -> FloatArray:
    """Accuracy in [0, 1]; from shape (..., n_classes, n_classes) to (...); NaN of NaN.

    Source: elementary.
    """
    return np.asarray(np.trace(confusion, axis1=-2, axis2=-1))


def macro_f1(confusion: FloatArray) -> FloatArray:
    """Macro-averaged F1 in [0, 1]; from shape (..., n_classes, n_classes) to (...).

    Source: as in scikit-learn: F1 is 0 for a class without true positives; classes that occur
        neither as gold nor as answer are left out.
    """
    due, given = confusion.sum(axis=-1), confusion.sum(axis=-2)
    found = np.diagonal(confusion, axis1=-2, axis2=-1)
    seen = due + given > 0
    f1 = np.divide(2 * found, due + given, out=np.zeros_like(found), where=seen)
    return np.asarray(f1.sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1))


def f1(confusion: FloatArray) -> FloatArray:
    """Binary F1, with the second class as positive; from shape (..., 2, 2) to (...).

    Returns:
        In [0, 1]; 0 if the positive class occurs neither as gold nor as answer.

    Raises:
        ValueError: If there are not two classes.

    Source: van Rijsbergen 1979.
    """
    if confusion.shape[-1] != 2:
        raise ValueError(f"f1 needs two classes, not {confusion.shape[-1]}.")
    both = confusion[..., 1, :].sum(axis=-1) + confusion[..., :, 1].sum(axis=-1)
    found = 2 * confusion[..., 1, 1]
    return np.asarray(np.divide(found, both, out=np.zeros_like(both), where=both > 0))


def matthews(confusion: FloatArray) -> FloatArray:
    """Matthews correlation coefficient; from shape (..., n_classes, n_classes) to (...).

    Returns:
        In [-1, 1]; 0 if gold or answers are constant, the score of a constant predictor.

    Source: Gorodkin 2004, for any number of classes.
    """
    due, given = confusion.sum(axis=-1), confusion.sum(axis=-2)
    n = due.sum(axis=-1)
    above = accuracy(confusion) * n - (due * given).sum(axis=-1)
    below = (n**2 - (due**2).sum(axis=-1)) * (n**2 - (given**2).sum(axis=-1))
    constant = ~(below > 1e-12 * n**4)
    root = np.sqrt(np.where(constant, 1.0, below))
    return np.asarray(np.where(constant, 0 * n, above / root))


def log_loss(log_probabilities: FloatArray, gold: IntArray) -> FloatArray:
    """Log loss: mean negative log probability of the gold class, in nats; lower is better.

    Args:
        log_probabilities: Shape (n_runs, n_examples, n_classes).
        gold: Gold class per example, shape (n_examples,).

    Returns:
        Shape (n_runs,). No clipping: a gold class of probability 0 gives infinity.

    Source: Good 1952.
    """
    return np.asarray(-_of_gold(log_probabilities, gold).mean(axis=1))


def brier(log_probabilities: FloatArray, gold: IntArray) -> FloatArray:
    """Brier score: mean squared distance of probabilities from the gold class; lower is better.

    Args:
        log_probabilities: Shape (n_runs, n_examples, n_classes).
        gold: Gold class per example, shape (n_examples,).

    Returns:
        In [0, 2], shape (n_runs,).

    Source: Brier 1950, summed over all classes.
    """
    probabilities = np.exp(log_probabilities)
    due = _of_gold(probabilities, gold)
    return np.asarray(((probabilities**2).sum(axis=-1) - 2 * due + 1).mean(axis=1))


def calibration_error(log_probabilities: FloatArray, gold: IntArray) -> FloatArray:
    """Expected calibration error (ECE); lower is better.

    Args:
        log_probabilities: Shape (n_runs, n_examples, n_classes).
        gold: Gold class per example, shape (n_examples,).

    Returns:
        In [0, 1], shape (n_runs,).

    Source: Guo et al. 2017, equation 3, with 15 bins of equal width.
    """
    confidence = np.exp(log_probabilities.max(axis=-1))
    right = log_probabilities.argmax(axis=-1) == gold
    runs, examples = confidence.shape
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    bin_of_run = (np.arange(runs)[:, None] * BINS + bins).ravel()
    gap = np.bincount(bin_of_run, weights=(confidence - right).ravel(), minlength=runs * BINS)
    return np.asarray(np.abs(gap.reshape(runs, BINS)).sum(axis=1) / examples)


def mse(values: FloatArray, gold: FloatArray) -> float:
    """Mean squared error of values of shape (n_examples,); lower is better.

    Source: elementary.
    """
    return float(np.mean((values - gold) ** 2))


def rmse(values: FloatArray, gold: FloatArray) -> float:
    """Root mean squared error, in the label's unit; lower is better.

    Source: elementary.
    """
    return float(np.sqrt(mse(values, gold)))


def mae(values: FloatArray, gold: FloatArray) -> float:
    """Mean absolute error, in the label's unit; lower is better.

    Source: elementary.
    """
    return float(np.mean(np.abs(values - gold)))


def pearson(values: FloatArray, gold: FloatArray) -> float:
    """Pearson's correlation; 0 where either side is constant, the score of a constant predictor.

    Source: scipy.
    """
    if np.ptp(values) == 0 or np.ptp(gold) == 0:
        return 0.0
    return float(stats.pearsonr(values, gold).statistic)


def spearman(values: FloatArray, gold: FloatArray) -> float:
    """Spearman's rank correlation; 0 where either side is constant.

    Source: scipy.
    """
    if np.ptp(values) == 0 or np.ptp(gold) == 0:
        return 0.0
    return float(stats.spearmanr(values, gold).statistic)


OF_ANSWERS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "matthews_corrcoef": matthews,
}
OF_PROBABILITIES: dict[str, Callable[[FloatArray, IntArray], FloatArray]] = {
    "log_loss": log_loss,
    "brier": brier,
    "calibration_error": calibration_error,
}

ERRORS: dict[str, Callable[[FloatArray, FloatArray], float]] = {
    "mse": mse,
    "rmse": rmse,
    "mae": mae,
}
OF_VALUES = ERRORS | {"pearson": pearson, "spearman": spearman}


def _of_gold(values: FloatArray, gold: IntArray) -> FloatArray:
    indices = np.broadcast_to(gold[:, None], (*values.shape[:2], 1))
    return np.take_along_axis(values, indices, axis=-1)[..., 0]
