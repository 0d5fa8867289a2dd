"""Is one technique better than another, when both the seeds and the test examples are samples?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.common import ENDS, N_BOOT, FloatArray
from analysis.statistics.resampling import resample_counts

Metric = Callable[[FloatArray], FloatArray]

_BLOCK = 500  # resamples that are held at once


class Resampled(NamedTuple):
    """The difference over resamples.

    Attributes:
        mean: Mean over resamples.
        sd: Standard deviation over them: the standard error.
        low: Lower end of the percentile interval.
        high: Upper end.
        p: One-sided: share of the resamples in which the difference is not above 0, at least one
            of them.
    """

    mean: float
    sd: float
    low: float
    high: float
    p: float


class MultiBootstrap(NamedTuple):
    """Score of the first side minus score of the second, and how sure it is.

    Attributes:
        estimate: The difference, each side's mean over its runs.
        seeds: Over new seeds, on the same examples.
        examples: Over new examples, for the same runs.
        both: Over new seeds and new examples.
    """

    estimate: float
    seeds: Resampled
    examples: Resampled
    both: Resampled


def multibootstrap(
    ours: FloatArray,
    theirs: FloatArray,
    metric: Metric,
    *,
    paired: bool,
    rng: np.random.Generator,
    resamples: int = N_BOOT,
) -> MultiBootstrap:
    """Resample seeds and examples, each alone and together.

    Args:
        ours: Per run and example what the metric is made of, shape (..., n_runs, n_examples):
            whether it is right, for an accuracy, or its place in the confusion matrix, as
            `one_hot_confusion` gives it.
        theirs: The same of the other side, on the same examples.
        metric: From means over examples, shape (n_runs, n_resamples, ...), to scores of shape
            (n_runs, n_resamples).
        paired: Whether run i of both sides has the same seed, so that one draw serves both.
        rng: Draws the resamples.
        resamples: How many.

    Raises:
        ValueError: If the examples differ in number, paired sides differ in runs, or a side has no
            runs or no examples.

    Source: Sellam et al. 2022. Here as products of matrices with the counts of each draw, so that
        the metric is never called on a resample; whatever it is made of is linear in the counts.
    """
    runs, examples = (ours.shape[-2], theirs.shape[-2]), ours.shape[-1]
    if examples != theirs.shape[-1] or 0 in (*runs, examples) or (paired and runs[0] != runs[1]):
        raise ValueError(
            f"{runs[0]} runs on {examples} examples cannot be set against {runs[1]} runs on "
            f"{theirs.shape[-1]}{', paired' if paired else ''}."
        )
    sides = [side.astype(np.float32) for side in (ours, theirs)]
    seeds = [resample_counts(n, resamples, rng) / n for n in runs]  # (n_resamples, n_runs)
    if paired:
        seeds[1] = seeds[0]
    whole = [metric(_to_back(side.mean(axis=-1, dtype=np.float64)[..., None])) for side in sides]
    new_seeds = [weights @ score[:, 0] for weights, score in zip(seeds, whole, strict=True)]
    new_examples, new_both = [], []
    for start in range(0, resamples, _BLOCK):
        drawn = seeds[0][start : start + _BLOCK].shape[0]
        counts = resample_counts(examples, drawn, rng).astype(np.float32).T / np.float32(examples)
        parts = [metric(_to_back((side @ counts).astype(np.float64))) for side in sides]
        block = [weights[start : start + _BLOCK] for weights in seeds]
        new_examples.append(parts[0].mean(axis=0) - parts[1].mean(axis=0))
        both = [np.einsum("br,rb->b", w, part) for w, part in zip(block, parts, strict=True)]
        new_both.append(both[0] - both[1])
    return MultiBootstrap(
        estimate=float(whole[0].mean() - whole[1].mean()),
        seeds=_resampled(new_seeds[0] - new_seeds[1]),
        examples=_resampled(np.concatenate(new_examples)),
        both=_resampled(np.concatenate(new_both)),
    )


def mean_of(parts: FloatArray) -> FloatArray:
    """The metric that is a mean over examples, such as accuracy from whether an answer is right.

    Args:
        parts: Means over examples, shape (n_runs, n_resamples).
    """
    return parts


def one_hot_confusion(
    answers: npt.NDArray[np.int64], gold: npt.NDArray[np.int64], classes: int
) -> npt.NDArray[np.float32]:
    """Each answer's place in the confusion matrix, shape (gold, answer, n_runs, n_examples).

    Its means over examples, with the first axes at the end, are what the functions of
    `statistics.metrics` score.

    Args:
        answers: Class ids, shape (n_runs, n_examples).
        gold: The right ones, shape (n_examples,).
        classes: How many there are; memory grows with their square.
    """
    places = np.arange(classes)
    given = answers == places[:, None, None]  # (answer, n_runs, n_examples)
    right = gold == places[:, None]  # (gold, n_examples)
    return np.asarray(right[:, None, None, :] & given, dtype=np.float32)


def _to_back(parts: FloatArray) -> FloatArray:
    """From (..., n_runs, n_resamples) to (n_runs, n_resamples, ...)."""
    return np.moveaxis(parts, (-2, -1), (0, 1))


def _resampled(differences: FloatArray) -> Resampled:
    low, high = np.quantile(differences, ENDS)
    return Resampled(
        mean=float(differences.mean()),
        sd=float(differences.std(ddof=1)),
        low=float(low),
        high=float(high),
        p=max(float((np.round(differences, 6) <= 0).mean()), 1 / differences.size),  # of float32
    )
