"""Accuracy of ensembles of seeds, and their gain over single runs."""

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from analysis.statistics.common import FloatArray, IntArray
from analysis.statistics.intervals import Interval, no_interval, student_interval

SUBSETS = 200  # largest number of ensembles to evaluate
_BLOCK = 2**21  # largest number of values in memory at once


class Ensemble(NamedTuple):
    """Accuracy of an ensemble of k runs.

    Attributes:
        accuracy: Expected accuracy of an ensemble of k different runs, in [0, 1].
        gain: Accuracy of the ensemble minus the mean accuracy of its members.
        interval: 95% interval of the gain, over new seeds and new examples.
    """

    accuracy: float
    gain: float
    interval: Interval


def ensemble_gains(
    probabilities: FloatArray, gold: IntArray, k: int, rng: np.random.Generator
) -> tuple[Ensemble, Ensemble]:
    """Gains of ensembles by mean probability and by majority vote.

    Args:
        probabilities: Shape (n_runs, n_examples, n_classes); every run on the same examples.
        gold: Gold class per example, shape (n_examples,).
        k: Number of members, which are different runs.
        rng: Generator that draws 200 ensembles if there are more.

    Returns:
        By mean probability, and by vote; an answer tied for first counts as a fraction. NaN if
        k > n_runs / 2, where ensembles would share most members, or if there are no examples.

    Raises:
        ValueError: If k is below 1.

    Source: Dietterich 2000; Lakshminarayanan et al. 2017, mean of probabilities. Interval: t
        interval with the sum of the jackknife variance over runs and the variance over examples;
        its coverage was 97 to 100% in simulations. Differs: no bootstrap over runs, which would
        make ensembles of copies, without a gain.
    """
    if k < 1:
        raise ValueError(f"k = {k} is below 1.")
    runs, examples, classes = probabilities.shape
    if k > runs / 2 or examples == 0:
        nothing = Ensemble(np.nan, np.nan, no_interval("n_too_small"))
        return nothing, nothing
    answers = probabilities.argmax(axis=-1)
    votes = (answers[..., None] == np.arange(classes)).astype(np.float64)
    members = _members(runs, k, rng)  # (n_ensembles, n_runs)
    single = members @ (answers == gold) / k  # (n_ensembles, n_examples)
    found = []
    for outputs in (probabilities, votes):
        right = np.empty((len(members), examples))
        width = max(_BLOCK // (len(members) * classes), 1)
        for start in range(0, examples, width):
            part = slice(start, start + width)
            summed = np.tensordot(members, outputs[:, part], axes=1).round(10)
            first = summed == summed.max(axis=-1, keepdims=True)
            of_gold = np.take_along_axis(first, gold[None, part, None], axis=-1)[..., 0]
            right[:, part] = of_gold / first.sum(axis=-1)
        found.append(_ensemble(right, right - single, members))
    return found[0], found[1]


def _ensemble(right: FloatArray, gain: FloatArray, members: FloatArray) -> Ensemble:
    runs, examples = members.shape[1], gain.shape[1]
    of_ensemble = gain.mean(axis=1)
    without = 1 - members.T  # (n_runs, n_ensembles): ensembles without the run
    left_out = without @ of_ensemble / without.sum(axis=1)
    over_runs = (runs - 1) / runs * ((left_out - left_out.mean()) ** 2).sum()
    over_examples = gain.mean(axis=0).var(ddof=1) / examples if examples > 1 else np.nan
    estimate = float(of_ensemble.mean())
    error = float(np.sqrt(over_runs + over_examples))
    interval = student_interval(estimate, error, df=runs - 1, method="jackknife")
    return Ensemble(float(right.mean()), estimate, interval)


def _members(runs: int, k: int, rng: np.random.Generator) -> FloatArray:
    """Membership matrix of 0 and 1, shape (n_ensembles, n_runs)."""
    if comb(runs, k) <= SUBSETS:
        chosen = np.array(list(combinations(range(runs), k)))
    else:
        chosen = rng.random((SUBSETS, runs)).argsort(axis=1)[:, :k]
    members = np.zeros((len(chosen), runs))
    np.put_along_axis(members, chosen, 1.0, axis=1)
    return members
