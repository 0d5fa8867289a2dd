"""Several techniques over several tasks by rank: the tasks are the sample, not the seeds."""

import math

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from analysis.statistics.common import ALPHA, DECIMALS, FloatArray, Significance
from analysis.statistics.multiplicity import holm


def ranks(scores: FloatArray) -> FloatArray:
    """Places within each task: 1 is the best, equal scores share the mean of their places.

    Args:
        scores: One number per task and technique, higher is better, shape (n_tasks,
            n_techniques), no NaN; scores equal to twelve decimals are tied.

    Returns:
        Shape (n_tasks, n_techniques); the mean of a column is the average rank.
    """
    return np.asarray(stats.rankdata(-np.round(scores, DECIMALS), axis=1), dtype=np.float64)


def friedman(scores: FloatArray) -> Significance:
    """Do all techniques rank alike over tasks?

    Args:
        scores: As for `ranks`.

    Returns:
        Friedman's chi-square, corrected for ties, and its p-value; none below two tasks or three
        techniques, or if every task has one score for all (`all_tied`).

    Source: Friedman 1937; Demšar 2006.
    """
    t, k = scores.shape
    if t < 2 or k < 3:
        return Significance(np.nan, np.nan, "n_too_small")
    rounded = np.round(scores, DECIMALS)
    if not np.ptp(rounded, axis=1).any():
        return Significance(np.nan, np.nan, "all_tied")
    found = stats.friedmanchisquare(*rounded.T)
    return Significance(float(found.statistic), float(found.pvalue), "")


def iman_davenport(chi2: float, *, tasks: int, techniques: int) -> Significance:
    """Friedman's statistic as an F, which is less cautious.

    Args:
        chi2: As `friedman` gives it; NaN if there is none.
        tasks: How many tasks it rests on.
        techniques: How many techniques were ranked.

    Returns:
        F and its p-value; none without a chi-square (`n_too_small`), nor where all tasks rank
        alike, so that F is infinite (`zero_variance`).

    Source: Iman & Davenport 1980. With the chi-square corrected for ties it is the F of a two-way
        analysis of variance of the places.
    """
    if np.isnan(chi2):
        return Significance(np.nan, np.nan, "n_too_small")
    left = tasks * (techniques - 1) - chi2
    if round(left, DECIMALS) <= 0:
        return Significance(np.inf, np.nan, "zero_variance")
    f = (tasks - 1) * chi2 / left
    df = techniques - 1
    return Significance(f, float(stats.f.sf(f, df, df * (tasks - 1))), "")


def critical_difference(*, tasks: int, techniques: int) -> float:
    """How far average ranks must lie apart to differ at 5 %, all pairs considered.

    Args:
        tasks: How many tasks the averages are over.
        techniques: How many techniques were ranked.

    Returns:
        In ranks; NaN below one task or two techniques.

    Source: Nemenyi 1963; Demšar 2006.
    """
    if tasks < 1 or techniques < 2:
        return np.nan
    quantile = float(stats.studentized_range.ppf(1 - ALPHA, techniques, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(techniques * (techniques + 1) / (6 * tasks))


def nemenyi(average_ranks: FloatArray, *, tasks: int) -> FloatArray:
    """P-value of every pair of average ranks.

    Args:
        average_ranks: Shape (n_techniques,), no NaN.
        tasks: How many tasks the averages are over.

    Returns:
        Shape (n_techniques, n_techniques), symmetric, 1 on the diagonal; already adjusted for the
        number of pairs.

    Source: Nemenyi 1963. A verdict depends on which other techniques were ranked; `wilcoxon_holm`
        has no such flaw.
    """
    k = average_ranks.size
    apart = np.abs(average_ranks[:, None] - average_ranks)
    q = np.round(apart, DECIMALS) * math.sqrt(12 * tasks / (k * (k + 1)))
    different, place = np.unique(q, return_inverse=True)
    p = stats.studentized_range.sf(different, k, np.inf)
    return np.asarray(np.clip(p[place.reshape(q.shape)], 0, 1), dtype=np.float64)


def maximal_groups(average_ranks: FloatArray, difference: float) -> list[tuple[int, ...]]:
    """The bars of a critical-difference diagram: largest sets whose ranks lie close together.

    Own code, since no package that is installed anyway groups ranks.

    Args:
        average_ranks: Shape (n_techniques,); NaN stands in no group.
        difference: The critical difference; NaN gives no groups.

    Returns:
        Positions in `average_ranks`, best first; every technique is in a group, if only its own,
        and no group lies inside another.

    Source: Demšar 2006.
    """
    order = np.argsort(average_ranks, kind="stable")[: np.isfinite(average_ranks).sum()]
    if np.isnan(difference):
        return []
    sorted_ranks = average_ranks[order]
    groups: list[tuple[int, ...]] = []
    reached = 0
    for first, rank in enumerate(sorted_ranks):
        near = np.round(sorted_ranks - rank - difference, DECIMALS) < 0
        end = int(near.sum())
        if end > reached:
            groups.append(tuple(map(int, order[first:end])))
            reached = end
    return groups


def least_tasks(comparisons: int) -> int:
    """Tasks below which no signed-rank test can reach 5 % after Holm's adjustment.

    Args:
        comparisons: How many pairs are tested, at least 1.
    """
    return math.floor(1 + math.log2(comparisons / ALPHA)) + 1


def signed_rank_p(gaps: FloatArray) -> FloatArray:
    """Wilcoxon's signed-rank test of each column, two-sided.

    Own code: scipy's `wilcoxon` takes one pair at a time, and there are hundreds.

    Args:
        gaps: Differences, shape (n_tasks, n_pairs), no NaN; equal to twelve decimals is equal.

    Returns:
        Shape (n_pairs,); NaN where all differences are 0 or there are none. Zeros are left out.
        Exact up to 13 tasks, and up to 50 where no difference is 0 or has the size of another;
        else normal, corrected for ties.

    Source: Wilcoxon 1945; the choice of method is scipy's.
    """
    t, pairs = gaps.shape
    if not t:
        return np.full(pairs, np.nan)
    gaps = np.round(gaps, DECIMALS)
    zeros = gaps == 0
    n = t - zeros.sum(axis=0)
    places = stats.rankdata(np.round(np.abs(gaps), DECIMALS), axis=0) - (t - n)
    places = np.where(zeros, 0.0, places)
    up = np.where(gaps > 0, places, 0).sum(axis=0)
    squares = (places**2).sum(axis=0)
    untied = (n == t) & (np.round(squares - n * (n + 1) * (2 * n + 1) / 6, DECIMALS) == 0)
    p = np.full(pairs, np.nan)
    exact = (n > 0) & (untied if t > 13 else True) & (t <= 50)
    rest = (n > 0) & ~exact
    z = (up[rest] - n[rest] * (n[rest] + 1) / 4) / np.sqrt(squares[rest] / 4)
    p[rest] = 2 * special.ndtr(-np.abs(z))
    if exact.any():
        p[exact] = _all_signs(places[:, exact], up[exact])
    return p


def _all_signs(places: FloatArray, up: FloatArray) -> FloatArray:
    """Share of all signs whose sum of positive places is as extreme, doubled; shape (n_pairs,)."""
    steps = np.rint(2 * np.sort(places, axis=0)).astype(np.intp)  # mid-ranks are halves
    patterns, own = np.unique(steps, axis=1, return_inverse=True)
    sums = np.arange(patterns.sum(axis=0).max() + 1)
    share = np.zeros((sums.size, patterns.shape[1]))
    share[0] = 1.0
    columns = np.arange(patterns.shape[1])
    for step in patterns:
        before = sums[:, None] - step  # the sum without this place
        moved = np.where(before >= 0, share[np.maximum(before, 0), columns], 0.0)
        share = (share + moved) / 2
    low = np.cumsum(share, axis=0)
    own = own.reshape(-1)
    at = np.rint(2 * up).astype(np.intp)
    below, here = low[at, own], share[at, own]
    return np.asarray(np.minimum(1, 2 * np.minimum(below, 1 - below + here)), dtype=np.float64)


def wilcoxon_holm(scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Signed-rank test of every pair of techniques over tasks, and adjusted over all pairs.

    Args:
        scores: As for `ranks`.

    Returns:
        P-values and Holm's, both of shape (n_techniques, n_techniques), symmetric; NaN on the
        diagonal and for pairs that are equal on every task. Below `least_tasks` none can be small.

    Source: Wilcoxon 1945, Holm 1979; over Nemenyi's test by Benavoli et al. 2016.
    """
    k = scores.shape[1]
    first, second = np.triu_indices(k, 1)
    p = signed_rank_p(scores[:, first] - scores[:, second])
    return _symmetric(p, k), _symmetric(holm(p), k)


def _symmetric(values: FloatArray, k: int) -> FloatArray:
    matrix = np.full((k, k), np.nan)
    upper: tuple[npt.NDArray[np.intp], ...] = np.triu_indices(k, 1)
    matrix[upper] = values
    matrix.T[upper] = values
    return matrix
