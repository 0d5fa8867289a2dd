"""Rank tests of several techniques over several tasks; tasks are the sampling unit, not seeds."""

import math

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from analysis.statistics.common import ALPHA, DECIMALS, FloatArray, Significance
from analysis.statistics.multiplicity import holm


def ranks(scores: FloatArray) -> FloatArray:
    """Ranks within each task: 1 is the best, ties get mid-ranks.

    Args:
        scores: One number per task and technique, higher is better, shape (n_tasks,
            n_techniques), no NaN; scores equal to twelve decimals are tied.

    Returns:
        Shape (n_tasks, n_techniques); the mean of a column is the average rank.

    Source: Demšar 2006, section 3.2.2.
    """
    return np.asarray(stats.rankdata(-np.round(scores, DECIMALS), axis=1), dtype=np.float64)


def friedman(scores: FloatArray) -> Significance:
    """Friedman test of equal ranks over tasks.

    Args:
        scores: As for `ranks`.

    Returns:
        Friedman's chi-square, corrected for ties, and its p-value; NaN below two tasks or three
        techniques (`n_too_small`), or if all techniques tie on every task (`all_tied`).

    Source: Friedman 1937; Demšar 2006, section 3.2.2.
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
    """Iman-Davenport F statistic of the Friedman test, which is less conservative.

    Args:
        chi2: Friedman's chi-square; NaN if there is none.
        tasks: Number of tasks.
        techniques: Number of techniques.

    Returns:
        F and its p-value; NaN without a chi-square (`n_too_small`). F is infinite and p NaN if all
        tasks have the same ranking (`zero_variance`).

    Source: Iman & Davenport 1980; Demšar 2006, section 3.2.2. With the chi-square corrected for
        ties it is the F of a two-way analysis of variance of the ranks.
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
    """Critical difference of average ranks in the Nemenyi test at 5%.

    Args:
        tasks: Number of tasks.
        techniques: Number of techniques.

    Returns:
        In ranks, by the quantile of the studentised range; NaN below one task or two techniques.

    Source: Nemenyi 1963; Demšar 2006, section 3.2.2.
    """
    if tasks < 1 or techniques < 2:
        return np.nan
    quantile = float(stats.studentized_range.ppf(1 - ALPHA, techniques, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(techniques * (techniques + 1) / (6 * tasks))


def nemenyi(average_ranks: FloatArray, *, tasks: int) -> FloatArray:
    """Nemenyi test of every pair of average ranks, by the studentised range.

    Args:
        average_ranks: Shape (n_techniques,), no NaN.
        tasks: Number of tasks.

    Returns:
        P-values adjusted for the number of pairs, shape (n_techniques, n_techniques), symmetric, 1
        on the diagonal.

    Source: Nemenyi 1963. The result for a pair depends on the other techniques ranked, unlike that
        of `wilcoxon_holm`.
    """
    k = average_ranks.size
    apart = np.abs(average_ranks[:, None] - average_ranks)
    q = np.round(apart, DECIMALS) * math.sqrt(12 * tasks / (k * (k + 1)))
    distinct, index = np.unique(q, return_inverse=True)  # each value is slow to compute
    p = stats.studentized_range.sf(distinct, k, np.inf)
    return np.asarray(np.clip(p[index.reshape(q.shape)], 0, 1), dtype=np.float64)


def maximal_groups(average_ranks: FloatArray, difference: float) -> list[tuple[int, ...]]:
    """Bars of a critical-difference diagram: maximal groups of ranks that do not differ.

    Own code, since no dependency of the project groups ranks.

    Args:
        average_ranks: Shape (n_techniques,); NaN is in no group.
        difference: Critical difference; NaN gives no groups.

    Returns:
        Indices into `average_ranks`, best first. Every technique is in a group, possibly alone, and
        no group contains another.

    Source: Demšar 2006, section 3.2.2.
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
    """Smallest number of tasks at which a signed-rank test can reach 5% after Holm adjustment.

    Args:
        comparisons: Number of pairs, at least 1.

    Source: elementary; the smallest two-sided p-value of n tasks is 2 ** (1 - n).
    """
    return math.floor(1 + math.log2(comparisons / ALPHA)) + 1


def signed_rank_p(gaps: FloatArray) -> FloatArray:
    """Two-sided Wilcoxon signed-rank test of each column.

    Own code, since scipy's `wilcoxon` is too slow for hundreds of pairs, one at a time.

    Args:
        gaps: Differences, shape (n_tasks, n_pairs), no NaN; compared to twelve decimals.

    Returns:
        P-values, shape (n_pairs,); NaN if all differences are 0 or there are none. Zeros are
        dropped. Exact up to 13 tasks, and up to 50 without zeros and ties; else the normal
        approximation with tie correction.

    Source: Wilcoxon 1945; the choice of method as in scipy.
    """
    t, pairs = gaps.shape
    if not t:
        return np.full(pairs, np.nan)
    gaps = np.round(gaps, DECIMALS)
    zeros = gaps == 0
    n = t - zeros.sum(axis=0)
    mid_ranks = stats.rankdata(np.round(np.abs(gaps), DECIMALS), axis=0) - (t - n)
    mid_ranks = np.where(zeros, 0.0, mid_ranks)
    up = np.where(gaps > 0, mid_ranks, 0).sum(axis=0)
    squares = (mid_ranks**2).sum(axis=0)
    untied = (n == t) & (np.round(squares - n * (n + 1) * (2 * n + 1) / 6, DECIMALS) == 0)
    p = np.full(pairs, np.nan)
    exact = (n > 0) & (untied if t > 13 else True) & (t <= 50)
    rest = (n > 0) & ~exact
    z = (up[rest] - n[rest] * (n[rest] + 1) / 4) / np.sqrt(squares[rest] / 4)
    p[rest] = 2 * special.ndtr(-np.abs(z))
    if exact.any():
        p[exact] = _all_signs(mid_ranks[:, exact], up[exact])
    return p


def _all_signs(mid_ranks: FloatArray, up: FloatArray) -> FloatArray:
    """Exact two-sided p-values over all sign changes, by convolution; shape (n_pairs,)."""
    steps = np.rint(2 * np.sort(mid_ranks, axis=0)).astype(np.intp)  # mid-ranks are halves
    patterns, own = np.unique(steps, axis=1, return_inverse=True)
    sums = np.arange(patterns.sum(axis=0).max() + 1)
    share = np.zeros((sums.size, patterns.shape[1]))
    share[0] = 1.0
    columns = np.arange(patterns.shape[1])
    for step in patterns:
        before = sums[:, None] - step  # the sum without this rank
        moved = np.where(before >= 0, share[np.maximum(before, 0), columns], 0.0)
        share = (share + moved) / 2
    low = np.cumsum(share, axis=0)
    own = own.reshape(-1)
    at = np.rint(2 * up).astype(np.intp)
    below, here = low[at, own], share[at, own]
    return np.asarray(np.minimum(1, 2 * np.minimum(below, 1 - below + here)), dtype=np.float64)


def wilcoxon_holm(scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Wilcoxon signed-rank test of every pair of techniques over tasks, with Holm adjustment.

    Args:
        scores: As for `ranks`.

    Returns:
        Raw and adjusted p-values, both of shape (n_techniques, n_techniques), symmetric; NaN on the
        diagonal and for pairs that tie on every task. Below `least_tasks` none can reach 5%.

    Source: Wilcoxon 1945, Holm 1979; preferred to the Nemenyi test by Benavoli et al. 2016.
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
