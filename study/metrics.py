"""Predictions and labels in, one float out; and what a constant answer would score.

A user's own metric is a function `(gold, predicted) -> float`, or a `Metric`, in a module of
theirs, named in the task as `"their_module:name"`.
"""

import importlib
import re
import string
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from seqeval import metrics as seqeval
from seqeval.scheme import IOB2
from sklearn import metrics as sk

from study.batches import Encoded
from study.kinds import KINDS, Kind
from study.spec import did_you_mean

CLASSES = ("classification", "image")
Array = npt.NDArray[np.float64] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """How a task is scored.

    Attributes:
        name: As in MLflow and tables.
        score: Gold and predicted answers, one entry per example, to one float: class ids, values,
            rows of 0 and 1, lists of tags, or answers (gold: all that are right) as the kind has
            them. NaN where the metric is undefined.
        higher_is_better: Direction.
        bounded: Whether the metric lies in [-1, 1], so that "one point" has a meaning.
        kinds: The kinds of task it scores.
    """

    name: str
    score: Callable[[Any, Any], float]
    higher_is_better: bool = True
    bounded: bool = True
    kinds: tuple[str, ...] = CLASSES

    def __call__(self, gold: Any, predicted: Any) -> float:
        """Score the predictions; NaN where the metric is undefined."""
        return float(self.score(gold, predicted))

    def oriented(self, score: float) -> float:
        """A score turned so that higher is better; NaN stays NaN."""
        return score if self.higher_is_better else -score


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


def _positive_f1(gold: Array, predicted: Array) -> float:
    """Micro F1 over all classes but the first, the negative one (Gu et al. 2021, BLURB)."""
    positive = np.setdiff1d(np.union1d(gold, predicted), [0])
    if not len(positive):
        return 0.0
    return float(sk.f1_score(gold, predicted, labels=positive, average="micro", zero_division=0.0))


def _entity_f1(gold: list[list[str]], predicted: list[list[str]]) -> float:
    """Micro F1 of entities: first word, last word and class; a stray I- begins an entity.

    Source: seqeval's default, which scores as the script of CoNLL-2000; as BLURB has it.
    """
    return float(seqeval.f1_score(gold, predicted, zero_division=0))


def _strict_entity_f1(gold: list[list[str]], predicted: list[list[str]]) -> float:
    """The same, but an entity that does not begin with B- is none (seqeval, strict IOB2)."""
    return float(seqeval.f1_score(gold, predicted, mode="strict", scheme=IOB2, zero_division=0))


def _word_macro_f1(gold: list[list[str]], predicted: list[list[str]]) -> float:
    """Mean over classes of the F1 over words, prefixes and O left out (BLURB, EBM PICO)."""
    right, given = ([tag[2:] for tags in side for tag in tags] for side in (gold, predicted))
    classes = sorted({*right, *given} - {""})
    if not classes:
        return 0.0
    return float(sk.f1_score(right, given, labels=classes, average="macro", zero_division=0.0))


def _squad(compare: Callable[[str, str], float]) -> Callable[[Any, Any], float]:
    """Mean over questions of the best comparison with any gold answer; no answer is "".

    Source: Rajpurkar et al. 2018, the official evaluation of SQuAD 2.0.
    """

    def score(gold: list[tuple[str, ...]], predicted: list[str]) -> float:
        scores = []
        for answers, given in zip(gold, predicted, strict=True):
            right = [text for text in map(_normal, answers) if text] or [""]
            scores.append(max(compare(text, _normal(given)) for text in right))
        return float(np.mean(scores))

    return score


def _normal(text: str) -> str:
    """Lower case, without punctuation, articles and extra white space."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _exact(gold: str, given: str) -> float:
    return float(gold == given)


def _overlap(gold: str, given: str) -> float:
    """F1 over words; where one side is empty, whether both are."""
    right, words = gold.split(), given.split()
    if not right or not words:
        return float(right == words)
    same = (Counter(right) & Counter(words)).total()
    return 2 * same / (len(right) + len(words))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", sk.accuracy_score),
        Metric("f1", _f1("binary")),
        Metric("macro_f1", _f1("macro"), kinds=(*CLASSES, "multilabel")),
        Metric("micro_f1", _f1("micro"), kinds=("multilabel",)),
        Metric("micro_f1_excl_negative", _positive_f1),
        Metric("matthews_corrcoef", _matthews),
        Metric("pearson", _correlation(stats.pearsonr), kinds=("regression",)),
        Metric("spearman", _correlation(stats.spearmanr), kinds=("regression",)),
        Metric(
            "mse",
            sk.mean_squared_error,
            higher_is_better=False,
            bounded=False,
            kinds=("regression",),
        ),
        Metric("entity_f1", _entity_f1, kinds=("tagging",)),
        Metric("entity_f1_strict", _strict_entity_f1, kinds=("tagging",)),
        Metric("word_macro_f1", _word_macro_f1, kinds=("tagging",)),
        Metric("squad_f1", _squad(_overlap), kinds=("span",)),
        Metric("squad_em", _squad(_exact), kinds=("span",)),
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
        found
        if isinstance(found, Metric)
        else Metric(attribute, found, bounded=False, kinds=tuple(KINDS))
    )


def floor(metric: Metric, kind: Kind, data: Encoded) -> float:
    """The best score that a constant answer reaches.

    Args:
        metric: The deciding metric.
        kind: The kind of task; says which constant answers there are.
        data: The split.

    Returns:
        The score; 0.0 where the metric is undefined for constants (correlations).

    Source: Mosbach et al. 2021, the majority-class predictor; F1 as the larger of all-positive
        and 0.
    """
    scores = [metric(data.gold, answer) for answer in kind.constants(data)]
    defined = [score for score in scores if np.isfinite(score)]
    if not defined:
        return 0.0
    return max(defined, key=metric.oriented)


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


def luck(metric: Metric, floor: float, examples: int) -> float:
    """How far above the floor a score is no luck, whatever else speaks against the run.

    Returns:
        Four standard errors of what knows nothing, in units of the metric: binomial ones of the
        floor, those of a correlation where that is 0, for unbounded metrics the floor's own size.
    """
    scale = float(np.sqrt(max(floor * (1 - floor), 0.0))) or 1.0
    return 4 * (scale if metric.bounded else abs(floor)) / float(np.sqrt(examples))


def collapse_rules(
    metric: Metric,
    *,
    dev: float,
    floor: float,
    examples: int,
    constant: bool,
    train_loss: float,
    loss_to_beat: float,
) -> list[str]:
    """Which signs say that a completed run learnt no more than a constant answer.

    Args:
        metric: The deciding metric.
        dev: The run's final dev score; NaN where the metric is undefined for its predictions.
        floor: The constant predictor's dev score.
        examples: Size of the dev split.
        constant: Whether all dev examples have the same answer.
        train_loss: The task's mean loss over the last epoch of training.
        loss_to_beat: What a run that fits anything stays below.

    Returns:
        Names among `at_floor`, `constant`, `no_fit`; empty for a run that learnt.

    Source: Mosbach et al. 2021, failed runs (`at_floor`); the other two are signs of the same
        failure that a lucky split can hide. So `no_fit` counts only where it can: a run of one
        epoch has the loss of its first steps, and noise in training adds to it.
    """
    above = metric.oriented(dev - floor)  # NaN is at the floor
    rules = []
    if not above > margin(metric, floor, examples):
        rules.append("at_floor")
    if constant:
        rules.append("constant")
    if not train_loss < loss_to_beat and not above > luck(metric, floor, examples):
        rules.append("no_fit")
    return rules
