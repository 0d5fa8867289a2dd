"""Predictions and labels in, one float out; and what a constant answer would score.

A user's own metric is a function `(gold, predicted) -> float`, or a `Metric`, in a module of
theirs, named in the task as `"their_module:name"`.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn import metrics as sk

from study.kinds import Kind
from study.spec import did_you_mean

Array = npt.NDArray[np.float64] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """How a task is scored.

    Attributes:
        name: As in MLflow and tables.
        score: Gold labels and predictions, both shape (n_examples,), to one float; class ids for
            classification, values for regression. NaN where the metric is undefined.
        higher_is_better: Direction.
        bounded: Whether the metric lies in [-1, 1], so that "one point" has a meaning.
        kind: The kind of task it scores; None fits any.
    """

    name: str
    score: Callable[[Array, Array], float]
    higher_is_better: bool = True
    bounded: bool = True
    kind: str | None = "classification"

    def __call__(self, gold: Array, predicted: Array) -> float:
        """Score the predictions; NaN where the metric is undefined."""
        return float(self.score(gold, predicted))


def _correlation(statistic: Callable[..., object]) -> Callable[[Array, Array], float]:
    def score(gold: Array, predicted: Array) -> float:
        if np.ptp(gold) == 0 or np.ptp(predicted) == 0:
            return float("nan")
        return float(statistic(gold, predicted).statistic)  # type: ignore[attr-defined]

    return score


def _matthews(gold: Array, predicted: Array) -> float:
    # scikit-learn returns 0 for a constant prediction, where the coefficient is 0/0.
    return float("nan") if np.ptp(predicted) == 0 else float(sk.matthews_corrcoef(gold, predicted))


def _f1(average: str) -> Callable[[Array, Array], float]:
    def score(gold: Array, predicted: Array) -> float:
        return float(sk.f1_score(gold, predicted, average=average, zero_division=0.0))

    return score


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", sk.accuracy_score),
        Metric("f1", _f1("binary")),
        Metric("macro_f1", _f1("macro")),
        Metric("matthews_corrcoef", _matthews),
        Metric("pearson", _correlation(stats.pearsonr), kind="regression"),
        Metric("spearman", _correlation(stats.spearmanr), kind="regression"),
        Metric(
            "mse",
            sk.mean_squared_error,
            higher_is_better=False,
            bounded=False,
            kind="regression",
        ),
    )
}


def metric_named(name: str) -> Metric:
    """The built-in metric of that name, or the user's from `"module:name"`.

    Raises:
        LookupError: If there is no such metric, with a suggestion.
    """
    if ":" not in name:
        if name not in METRICS:
            raise LookupError(f"{name!r} is not a metric. {did_you_mean(name, METRICS)}")
        return METRICS[name]
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"metric {name!r} cannot be imported: {error}") from error
    return (
        found if isinstance(found, Metric) else Metric(attribute, found, bounded=False, kind=None)
    )


def floor(metric: Metric, gold: Array, kind: Kind) -> float:
    """The best score that a constant prediction reaches.

    Args:
        metric: The deciding metric.
        gold: Labels of the split, shape (n_examples,).
        kind: The kind of task; the constant of a regression is the mean.

    Returns:
        The score; 0.0 where the metric is undefined for constants (correlations).

    Source: Mosbach et al. 2021, the majority-class predictor; F1 as the larger of all-positive
        and 0.
    """
    answers = range(len(kind.labels)) or [float(np.mean(gold))]
    scores = [metric(gold, np.full(len(gold), answer)) for answer in answers]
    defined = [score for score in scores if np.isfinite(score)]
    if not defined:
        return 0.0
    return max(defined) if metric.higher_is_better else min(defined)


def margin(metric: Metric, floor: float, examples: int) -> float:
    """How far above the floor a score must be to count as better than a constant answer.

    Returns:
        The larger of one point and two binomial standard errors of the floor, in units of the
        metric; for unbounded metrics one per cent of the floor.

    Source: Mosbach et al. 2021 and Dodge et al. 2020, failed runs. Differs: they take the floor
        itself; a margin keeps a lucky constant answer from counting as learnt.
    """
    if not metric.bounded:
        return 0.01 * abs(floor)
    return max(0.01, 2 * float(np.sqrt(max(floor * (1 - floor), 0.0) / examples)))


def collapse_rules(
    metric: Metric,
    *,
    dev: float,
    floor: float,
    predicted: Array,
    train_loss: float,
    loss_to_beat: float,
) -> list[str]:
    """Which signs say that a completed run learnt no more than a constant answer.

    Args:
        metric: The deciding metric.
        dev: The run's final dev score; NaN where the metric is undefined for its predictions.
        floor: The constant predictor's dev score.
        predicted: The run's dev predictions, shape (n_examples,).
        train_loss: The task's mean loss over the last epoch of training.
        loss_to_beat: What a run that fits anything stays below.

    Returns:
        Names among `at_floor`, `constant`, `no_fit`; empty for a run that learnt.

    Source: Mosbach et al. 2021, failed runs (`at_floor`); the other two are signs of the same
        failure that a lucky split can hide.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    rules = []
    if not sign * (dev - floor) > margin(metric, floor, len(predicted)):  # NaN is at the floor
        rules.append("at_floor")
    if np.ptp(predicted) == 0:
        rules.append("constant")
    if not train_loss < loss_to_beat:
        rules.append("no_fit")
    return rules


def loss_to_beat(labels: Array, kind: Kind) -> float:
    """The training loss of the best constant answer, less a margin.

    Args:
        labels: Of the training split, shape (n_examples,).
        kind: The kind of task.

    Returns:
        Label entropy less 0.01, in nats; for regression 99 % of the label variance, which holds
        whatever the unit.
    """
    if not kind.labels:
        return 0.99 * float(np.var(labels))
    shares = np.bincount(labels.astype(np.int64), minlength=len(kind.labels)) / len(labels)
    return float(stats.entropy(shares)) - 0.01
