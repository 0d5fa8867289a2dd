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

from study.core.spec import did_you_mean
from study.tasks.kinds import KINDS

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
