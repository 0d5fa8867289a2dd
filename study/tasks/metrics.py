"""Metrics: gold and predicted answers to a score.

A custom metric is a function `(gold, predicted) -> float`, or a `Metric`, in a user's module. The
task names it as `"module:name"`.
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

from study.core.spec import did_you_mean
from study.tasks.kinds import KINDS
from study.tasks.kinds.generation import Answer, right_answer

CLASSES = ("classification", "image")
Array = npt.NDArray[np.float64] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """A metric, its direction, and the kinds of task it scores.

    Attributes:
        name: Shown in MLflow and tables.
        score: Function of gold and predicted answers, one entry per example, that returns a float.
            Depending on the kind, answers are class ids, values, rows of 0 and 1, lists of tags, or
            texts (gold: a tuple of all accepted texts). NaN where the metric is undefined.
        higher_is_better: Direction.
        bounded: Whether values are in [-1, 1], so that "one point" (0.01) is meaningful.
        kinds: The kinds of task it scores.
        constant: For regression: the best constant answer to gold values of shape (n,) where that
            is not their mean, such as `numpy.median` for absolute errors.
        generates: Whether it compares generated texts, which it finds in `Answer.text`.
    """

    name: str
    score: Callable[[Any, Any], float]
    higher_is_better: bool = True
    bounded: bool = True
    kinds: tuple[str, ...] = CLASSES
    constant: Callable[[Any], float] | None = None
    generates: bool = False

    def __call__(self, gold: Any, predicted: Any) -> float:
        """Score the predictions; NaN where the metric is undefined."""
        return float(self.score(gold, predicted))

    def oriented(self, score: float) -> float:
        """The score with its sign changed if lower is better; NaN stays NaN."""
        return score if self.higher_is_better else -score


def _correlation(statistic: str) -> Callable[[Array, Array], float]:
    """A correlation of scipy; undefined where either side is constant."""

    def score(gold: Array, predicted: Array) -> float:
        from scipy import stats  # takes a second, as scikit-learn and seqeval do

        if np.ptp(gold) == 0 or np.ptp(predicted) == 0:
            return float("nan")
        return float(getattr(stats, statistic)(gold, predicted).statistic)

    return score


def _sklearn(function: str, **options: object) -> Callable[[Any, Any], float]:
    """A metric of scikit-learn."""

    def score(gold: Any, predicted: Any) -> float:
        from sklearn import metrics

        return float(getattr(metrics, function)(gold, predicted, **options))

    return score


def _error(name: str, function: str, constant: Callable[[Any], float] | None = None) -> Metric:
    """An error of scikit-learn, in the label's unit or its square."""
    score, kinds = _sklearn(function), ("regression",)
    return Metric(
        name, score, higher_is_better=False, bounded=False, kinds=kinds, constant=constant
    )


def _f1(average: str, **options: object) -> Callable[[Any, Any], float]:
    return _sklearn("f1_score", average=average, zero_division=0.0, **options)


def _matthews(gold: Array, predicted: Array) -> float:
    # scikit-learn returns 0 for constant predictions, where the coefficient is undefined (0/0).
    if np.ptp(predicted) == 0:
        return float("nan")
    return _sklearn("matthews_corrcoef")(gold, predicted)


def _positive_f1(gold: Array, predicted: Array) -> float:
    """Micro F1 over all classes except the first, the negative class (Gu et al. 2021, BLURB)."""
    positive = np.setdiff1d(np.union1d(gold, predicted), [0])
    if not len(positive):
        return 0.0
    return _f1("micro", labels=positive)(gold, predicted)


def _entity_f1(gold: list[list[str]], predicted: list[list[str]]) -> float:
    """Micro F1 of entities, matched by first word, last word and class; a stray I- begins one.

    Source: seqeval's default, which follows the CoNLL-2000 script, as in BLURB.
    """
    from seqeval import metrics

    return float(metrics.f1_score(gold, predicted, zero_division=0))


def _strict_entity_f1(gold: list[list[str]], predicted: list[list[str]]) -> float:
    """Micro F1 of entities; one that does not begin with B- is ignored (seqeval, strict IOB2)."""
    from seqeval import metrics
    from seqeval.scheme import IOB2

    return float(metrics.f1_score(gold, predicted, mode="strict", scheme=IOB2, zero_division=0))


def _word_macro_f1(gold: list[list[str]], predicted: list[list[str]]) -> float:
    """Macro F1 over words, without prefixes and O (BLURB, EBM PICO)."""
    true, given = ([tag[2:] for tags in side for tag in tags] for side in (gold, predicted))
    classes = sorted({*true, *given} - {""})
    if not classes:
        return 0.0
    return _f1("macro", labels=classes)(true, given)


def _squad(compare: Callable[[str, str], float]) -> Callable[[Any, Any], float]:
    """Mean over questions of the best score against any gold answer; "" is no answer.

    Source: Rajpurkar et al. 2018, the official evaluation of SQuAD 2.0.
    """

    def score(gold: list[tuple[str, ...]], predicted: list[str]) -> float:
        scores = []
        for answers, given in zip(gold, predicted, strict=True):
            accepted = [text for text in map(_normalised, answers) if text] or [""]
            scores.append(max(compare(text, _normalised(given)) for text in accepted))
        return float(np.mean(scores))

    return score


def _normalised(text: str) -> str:
    """Lower case, without punctuation, articles and extra whitespace."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _exact(gold: str, given: str) -> float:
    return float(gold == given)


def _overlap(gold: str, given: str) -> float:
    """F1 over words; if either side is empty, 1 if both are and else 0."""
    gold_words, given_words = gold.split(), given.split()
    if not gold_words or not given_words:
        return float(gold_words == given_words)
    common = (Counter(gold_words) & Counter(given_words)).total()
    return 2 * common / (len(gold_words) + len(given_words))


def _generated(gold: list[tuple[str, ...]], predicted: list[Answer]) -> float:
    """Share of examples for which greedy generation gives a right answer."""
    return float(np.mean([p.text in accepted for p, accepted in zip(predicted, gold, strict=True)]))


def _choice(gold: Any, predicted: list[Answer]) -> float:
    """Share of examples whose right choice is the most likely one."""
    pairs = zip(predicted, map(right_answer, gold), strict=True)
    return float(np.mean([answer.text == right for answer, right in pairs]))


def _of_texts(compare: Callable[[str, str], float]) -> Callable[[Any, list[Answer]], float]:
    """Mean over examples of the best score of the generated text against any right answer."""

    def score(gold: list[tuple[str, ...]], predicted: list[Answer]) -> float:
        pairs = zip(predicted, gold, strict=True)
        best = [max(compare(text, own.text or "") for text in right) for own, right in pairs]
        return float(np.mean(best))

    return score


def _token_f1(right: str, given: str) -> float:
    """F1 over words as in SQuAD: lower case, without punctuation and articles."""
    return _overlap(_normalised(right), _normalised(given))


def _rouge_l(right: str, given: str) -> float:
    """F-measure of the longest common subsequence of words (Lin 2004), by `rouge-score`."""
    from rouge_score.rouge_scorer import RougeScorer  # takes a second

    return float(RougeScorer(["rougeL"]).score(right, given)["rougeL"].fmeasure)


def _perplexity(gold: Any, predicted: list[Answer]) -> float:
    """Exponential of the mean negative log-likelihood of a token, over all tokens of answers."""
    nats = -sum(answer.log_likelihood for answer in predicted)
    return float(np.exp(nats / sum(answer.tokens for answer in predicted)))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _sklearn("accuracy_score")),
        Metric("f1", _f1("binary")),
        Metric("macro_f1", _f1("macro"), kinds=(*CLASSES, "multilabel")),
        Metric("micro_f1", _f1("micro"), kinds=("multilabel",)),
        Metric("micro_f1_excl_negative", _positive_f1),
        Metric("matthews_corrcoef", _matthews),
        Metric("pearson", _correlation("pearsonr"), kinds=("regression",)),
        Metric("spearman", _correlation("spearmanr"), kinds=("regression",)),
        _error("mse", "mean_squared_error"),
        _error("rmse", "root_mean_squared_error"),
        _error("mae", "mean_absolute_error", constant=np.median),
        Metric("entity_f1", _entity_f1, kinds=("tagging",)),
        Metric("entity_f1_strict", _strict_entity_f1, kinds=("tagging",)),
        Metric("word_macro_f1", _word_macro_f1, kinds=("tagging",)),
        Metric("squad_f1", _squad(_overlap), kinds=("span",)),
        Metric("squad_em", _squad(_exact), kinds=("span",)),
        Metric("exact_match", _generated, kinds=("generation",)),
        Metric("choice_accuracy", _choice, kinds=("generation",)),
        Metric("token_f1", _of_texts(_token_f1), kinds=("generation",), generates=True),
        Metric("rouge_l", _of_texts(_rouge_l), kinds=("generation",), generates=True),
        Metric(
            "perplexity", _perplexity, higher_is_better=False, bounded=False, kinds=("generation",)
        ),
    )
}


def stored_name(name: str) -> str:
    """A name as a store has it in a metric's; signs that MLflow refuses become `_`."""
    return re.sub(r"[^\w.\- ]", "_", name)


def metric_named(name: str) -> Metric:
    """A built-in metric by name, or a user's by `"module:name"`.

    Raises:
        LookupError: If there is no such metric.
    """
    if ":" not in name:
        if name not in METRICS:
            raise LookupError(f"{name!r} is not a metric. {did_you_mean(name, METRICS)}")
        return METRICS[name]
    module, _, attribute = name.partition(":")
    try:
        metric = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        text = f'metric {name!r} cannot be imported: {error}. Give "module:name" of a function.'
        raise LookupError(text) from error
    if isinstance(metric, Metric):
        return metric
    return Metric(attribute, metric, bounded=False, kinds=tuple(KINDS))
