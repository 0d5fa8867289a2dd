"""Agreement of the predictions of several runs, example by example.

Answers are class indices of shape (n_runs, n_examples), -1 where a run has no answer. Most measures
need only the table of counts, shape (n_examples, n_classes), so that their cost is linear in the
runs. Pairwise measures have a matrix of shape (n_runs, n_runs): its diagonal is ignored, and pairs
that were not evaluated are NaN.
"""

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.statistics.common import ENDS, N_BOOT, BoolArray, FloatArray, IntArray
from analysis.statistics.intervals import Interval, no_interval, student_interval
from analysis.statistics.resampling import resample_counts

ENOUGH_TO_RESAMPLE = 20  # runs; with fewer, bootstrap intervals are too short, the jackknife's not
PAIRS = 50 * 49 // 2  # largest number of pairs of runs to evaluate; of more, a random subset
_BLOCK = 2**21  # largest number of values in memory at once


def class_counts(answers: IntArray, classes: int) -> IntArray:
    """Number of runs that give each answer, shape (n_examples, n_classes).

    Args:
        answers: Class indices, shape (n_runs, n_examples); -1 where there is none.
        classes: Number of classes.

    Source: elementary.
    """
    table = np.empty((answers.shape[1], classes), dtype=np.int64)
    for k in range(classes):
        table[:, k] = (answers == k).sum(axis=0)
    return table


def pair_flip_rates(counts: IntArray) -> FloatArray:
    """Share of pairs of runs that disagree on each example, shape (n_examples,).

    Args:
        counts: As `class_counts` returns them.

    Returns:
        In [0, 1]; NaN where fewer than two runs have an answer.

    Source: elementary; agreeing pairs are counted from the table.
    """
    n = counts.sum(axis=1)
    differ = n**2 - (counts**2).sum(axis=1)
    nothing = np.full(n.size, np.nan)
    return np.asarray(np.divide(differ, n * (n - 1), out=nothing, where=n > 1))


def pairwise_disagreement(counts: IntArray) -> float:
    """Pairwise disagreement: mean share of examples on which two runs differ.

    The mean of `pair_flip_rates`.

    Args:
        counts: As `class_counts` returns them.

    Returns:
        In [0, 1]; NaN if no example has two answers.

    Source: Du & Nguyen 2023, pairwise disagreement. Differs: an example with missing answers counts
        with its available pairs; one with fewer than two answers is left out.
    """
    return _mean(pair_flip_rates(counts))


def fleiss_kappa(counts: IntArray) -> float:
    """Fleiss' kappa: agreement beyond chance, with chance from the overall class proportions.

    Own code, since scikit-learn has only Cohen's kappa, for two runs.

    Args:
        counts: As `class_counts` returns them.

    Returns:
        At most 1; NaN below two runs, if all answers are of one class, or if the number of answers
        varies over examples (use `krippendorff_alpha` then).

    Source: Fleiss 1971. Differs: Du & Nguyen 2023 report 1 - kappa; their code computes chance
        agreement from proportions of examples, not of classes.
    """
    n = counts.sum(axis=1)
    if not n.size or n[0] < 2 or (n != n[0]).any():
        return np.nan
    chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    if np.count_nonzero(counts.sum(axis=0)) == 1:
        return np.nan
    return (1 - pairwise_disagreement(counts) - chance) / (1 - chance)


def krippendorff_alpha(counts: IntArray) -> float:
    """Krippendorff's alpha for nominal data: agreement beyond chance with missing answers.

    Args:
        counts: As `class_counts` returns them; examples with fewer than two answers are left out.

    Returns:
        At most 1; NaN if no example has two answers or all answers are of one class.

    Source: Krippendorff 2011, alpha for nominal data.
    """
    counts = counts[counts.sum(axis=1) > 1]
    n, of_class = counts.sum(axis=1), counts.sum(axis=0)
    values = int(n.sum())
    chance = values**2 - int((of_class**2).sum())
    if chance == 0:
        return np.nan
    differ = float(((n**2 - (counts**2).sum(axis=1)) / (n - 1)).sum())
    return 1 - (values - 1) * differ / chance


def flip_rates(counts: IntArray) -> FloatArray:
    """Share of runs that do not give the majority answer, per example, shape (n_examples,).

    Args:
        counts: As `class_counts` returns them.

    Returns:
        In [0, 1); NaN where no run has an answer.

    Source: elementary.
    """
    n = counts.sum(axis=1)
    kept = np.divide(counts.max(axis=1), n, out=np.full(n.size, np.nan), where=n > 0)
    return np.asarray(1 - kept)


def ambiguity(counts: IntArray, k: int) -> float:
    """Ambiguity: expected share of examples on which k runs are not unanimous.

    At k = n_runs it is the share of examples with more than one answer, which grows with the number
    of runs; a fixed k makes cells of different sizes comparable.

    Args:
        counts: As `class_counts` returns them.
        k: Number of runs, drawn without replacement.

    Returns:
        In [0, 1]; examples with fewer than k answers are left out; NaN if none remains.

    Raises:
        ValueError: If k is below 1.

    Source: Marx et al. 2020, ambiguity. Differs: expectation over subsets of k runs.
    """
    if k < 1:
        raise ValueError(f"k = {k} is below 1.")
    n = counts.sum(axis=1)
    counts, n = counts[n >= k], n[n >= k]
    agree = np.ones(counts.shape)  # probability that k drawn runs all give this answer
    for i in range(k):
        agree *= np.maximum(counts - i, 0) / (n - i)[:, None]
    return _mean(1 - agree.sum(axis=1))


def consistency(counts: IntArray, gold: IntArray) -> tuple[float, float, float]:
    """Shares of examples that all runs get right, that all get wrong, and of the others.

    Args:
        counts: As `class_counts` returns them.
        gold: Gold class per example, shape (n_examples,).

    Returns:
        Three shares that sum to 1; NaN if no example has an answer. The first two decrease with
        the number of runs.

    Source: elementary.
    """
    n = counts.sum(axis=1)
    right = _right(counts, gold)[n > 0]
    all_right, all_wrong = _mean(right == n[n > 0]), _mean(right == 0)
    return all_right, all_wrong, 1 - all_right - all_wrong


def disagreement_by_truth(counts: IntArray, gold: IntArray) -> tuple[float, float]:
    """Split pairwise disagreement into pairs with one run right and pairs with both wrong.

    Args:
        counts: As `class_counts` returns them.
        gold: Gold class per example, shape (n_examples,).

    Returns:
        Two shares that sum to `pairwise_disagreement`; NaN where it is.

    Source: elementary; in Milani Fard et al. 2016 the first part is the churn that matters.
    """
    n, right = counts.sum(axis=1), _right(counts, gold)
    some = n > 1
    one_right = _mean((2 * right * (n - right))[some] / (n * (n - 1))[some])
    return one_right, pairwise_disagreement(counts) - one_right


def disagreement_matrix(answers: IntArray, classes: int) -> FloatArray:
    """Churn of every pair of runs: share of examples on which they differ.

    Args:
        answers: Class indices, shape (n_runs, n_examples); -1 where there is none.
        classes: Number of classes.

    Returns:
        Shape (n_runs, n_runs), symmetric, 0 on the diagonal; over the examples that both runs
        answer, NaN if there are none.

    Source: Milani Fard et al. 2016, churn. Computed as products of 0/1 matrices in blocks of
        examples, instead of a loop over pairs; quadratic in the runs.
    """
    runs, examples = answers.shape
    agree, both = np.zeros((runs, runs)), np.zeros((runs, runs))
    width = max(_BLOCK // max(runs, 1), 1)
    for start in range(0, examples, width):
        part = answers[:, start : start + width]
        for k in range(classes):
            given = (part == k).astype(np.float32)
            agree += given @ given.T
        answered = (part >= 0).astype(np.float32)
        both += answered @ answered.T
    share = np.divide(agree, both, out=np.full((runs, runs), np.nan), where=both > 0)
    return np.asarray(1 - share)


def discrepancy(distances: FloatArray) -> FloatArray:
    """Discrepancy: largest disagreement of each run with any other, shape (n_runs,).

    Args:
        distances: As `disagreement_matrix` returns them.

    Returns:
        In [0, 1]; NaN below two runs.

    Source: Marx et al. 2020, discrepancy, there of near-optimal models from a baseline; here each
        run is the baseline in turn.
    """
    pairs = np.where(_known(distances), distances, -1.0)
    largest = pairs.max(axis=1, initial=-1.0)
    return np.where(largest < 0, np.nan, largest)


def jsd_matrix(probabilities: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Jensen-Shannon divergence of every pair of runs, mean over examples, in nats.

    Args:
        probabilities: Shape (n_runs, n_examples, n_classes).
        rng: Generator that samples the pairs to evaluate, if there are more than those of 50 runs.

    Returns:
        Symmetric, shape (n_runs, n_runs), in [0, ln 2]; NaN for pairs that were not drawn, on the
        diagonal, and everywhere if some probabilities do not sum to 1.

    Source: Lin 1991; Du & Nguyen 2023. The divergence, not its square root; 0 log 0 is 0.
    """
    runs = len(probabilities)
    found = np.full((runs, runs), np.nan)
    if not _valid(probabilities):
        return found
    first, second = np.triu_indices(runs, 1)
    if first.size > PAIRS:
        drawn = np.sort(rng.choice(first.size, PAIRS, replace=False))
        first, second = first[drawn], second[drawn]
    own = np.array([_entropy(run) for run in probabilities])
    for r, s in zip(first, second, strict=True):
        middle = _entropy((probabilities[r] + probabilities[s]) / 2)
        found[r, s] = found[s, r] = max(middle - (own[r] + own[s]) / 2, 0.0)
    return found


def generalised_jsd(probabilities: FloatArray) -> tuple[float, FloatArray]:
    """Generalised Jensen-Shannon divergence: entropy of the mean minus mean entropy, in nats.

    The mutual information of run and prediction. Linear in the runs; not the mean of `jsd_matrix`.

    Args:
        probabilities: Shape (n_runs, n_examples, n_classes).

    Returns:
        The divergence in [0, ln min(n_runs, n_classes)], and its jackknife values without each run
        in turn, shape (n_runs,). NaN where fewer than two runs are left, or if some probabilities
        do not sum to 1.

    Source: Lin 1991, generalised Jensen-Shannon divergence.
    """
    runs, nothing = len(probabilities), np.full(len(probabilities), np.nan)
    if runs < 2 or not _valid(probabilities):
        return np.nan, nothing
    own = np.array([_entropy(run) for run in probabilities])
    total = probabilities.sum(axis=0)
    whole = max(_entropy(total / runs) - float(own.mean()), 0.0)
    if runs < 3:
        return whole, nothing
    rest = [_entropy(np.maximum(total - run, 0) / (runs - 1)) for run in probabilities]
    return whole, np.array(rest) - (own.sum() - own) / (runs - 1)


def squared_l2(probabilities: FloatArray) -> tuple[float, FloatArray]:
    """Mean squared Euclidean distance of the probabilities of two runs.

    Linear in the runs.

    Args:
        probabilities: Shape (n_runs, n_examples, n_classes).

    Returns:
        The mean over pairs and examples, in [0, 2], and its jackknife values without each run in
        turn, shape (n_runs,). NaN where fewer than two runs are left, or if some probabilities do
        not sum to 1.

    Source: elementary; the sum over pairs is n times the sum of squares minus the squared sum.
    """
    runs, examples = probabilities.shape[:2]
    if runs < 2 or not _valid(probabilities):
        return np.nan, np.full(runs, np.nan)
    total = probabilities.sum(axis=0)
    squares = np.array([float((run**2).sum()) for run in probabilities])
    along = np.array([float((run * total).sum()) for run in probabilities])
    whole = float((total**2).sum())
    pairs = runs * squares.sum() - whole  # over unordered pairs of runs
    mean = 2 * pairs / (runs * (runs - 1) * examples)
    if runs < 3:
        return mean, np.full(runs, np.nan)
    rest = (runs - 1) * (squares.sum() - squares) - (whole - 2 * along + squares)
    return mean, 2 * rest / ((runs - 1) * (runs - 2) * examples)


def pair_mean(distances: FloatArray) -> tuple[float, float]:
    """Mean over pairs of runs, with its standard error from evaluating a subset of pairs only.

    Args:
        distances: Symmetric, shape (n_runs, n_runs).

    Returns:
        NaN of no pairs; the standard error is 0 if all pairs were evaluated.

    Source: Blom 1976, incomplete U-statistics; with the finite population correction.
    """
    upper = distances[np.triu_indices(len(distances), 1)]
    looked = upper[~np.isnan(upper)]
    if looked.size in (0, upper.size):
        return _mean(looked), 0.0 if looked.size else np.nan
    share = looked.size / upper.size
    return _mean(looked), float(looked.std(ddof=1) * np.sqrt((1 - share) / looked.size))


def pair_interval(distances: FloatArray, rng: np.random.Generator) -> Interval:
    """Interval of a mean over pairs of runs, over new runs on the same examples.

    Args:
        distances: Symmetric, shape (n_runs, n_runs).
        rng: Generator of the resamples.

    Returns:
        Jackknife interval below 20 runs, percentile bootstrap over runs from 20; no interval below
        three runs.

    Source: Du & Nguyen 2023, bootstrap over seeds. Differs: pairs of a run with its own copy are
        left out, since their distance of 0 would bias the mean downwards. Below 20 runs its
        coverage was too low in simulations (78 to 96%); that of the jackknife was 92 to 98%.
    """
    runs = len(distances)
    known = _known(distances).astype(float)
    known_distances = np.where(known > 0, distances, 0.0)
    if runs < 3 or not known.any():
        return no_interval("n_too_small")
    if runs < ENOUGH_TO_RESAMPLE:
        left = known.sum() - 2 * known.sum(axis=1)
        rest = known_distances.sum() - 2 * known_distances.sum(axis=1)
        left_out = np.divide(rest, left, out=np.full(runs, np.nan), where=left > 0)
        return jackknife_interval(pair_mean(distances)[0], left_out)
    weights = resample_counts(runs, N_BOOT, rng)
    pairs = ((weights @ known) * weights).sum(axis=1)
    sums = ((weights @ known_distances) * weights).sum(axis=1)
    low, high = np.quantile(sums[pairs > 0] / pairs[pairs > 0], ENDS)
    return Interval(float(low), float(high), "bootstrap", "zero_variance" if low == high else "")


def jackknife_interval(estimate: float, left_out: FloatArray) -> Interval:
    """Jackknife interval of a statistic of several runs, over new runs on the same examples.

    Args:
        estimate: The statistic.
        left_out: Jackknife values, the statistic without each run in turn, shape (n_runs,).

    Returns:
        t interval with n_runs - 1 degrees of freedom; no interval below three runs
        (`n_too_small`) or if the statistic or a jackknife value is not finite (`not_identified`).

    Source: Tukey 1958. Not the bootstrap, since the copies of a run in a resample agree.
    """
    runs = left_out.size
    if runs < 3:
        return no_interval("n_too_small")
    if not np.isfinite(estimate) or not np.isfinite(left_out).all():
        return no_interval("not_identified")
    error = np.sqrt((runs - 1) / runs * ((left_out - left_out.mean()) ** 2).sum())
    return student_interval(estimate, float(error), df=runs - 1, method="jackknife")


def _mean(values: npt.NDArray[np.generic]) -> float:
    """Mean without NaN; NaN if nothing is left."""
    known = values[~np.isnan(values.astype(np.float64))]
    return float(known.astype(np.float64).mean()) if known.size else np.nan


def _right(counts: IntArray, gold: IntArray) -> IntArray:
    return np.asarray(np.take_along_axis(counts, gold[:, None], axis=1)[:, 0])


def _known(distances: FloatArray) -> BoolArray:
    return ~np.isnan(distances) & ~np.eye(len(distances), dtype=bool)


def _valid(probabilities: FloatArray) -> bool:
    """Whether there are probabilities, non-negative and summing to 1 within 1e-4."""
    sums = np.abs(probabilities.sum(axis=-1) - 1)
    valid = (sums <= 1e-4).all() and (probabilities >= 0).all()  # NaN fails both comparisons
    return bool(valid and probabilities.size)


def _entropy(probabilities: FloatArray) -> float:
    """Mean entropy over examples, in nats, of probabilities of shape (n_examples, n_classes)."""
    return float(special.entr(probabilities).sum() / len(probabilities))
