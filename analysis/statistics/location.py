"""Two-sample and paired tests of location: t, rank and permutation tests.

The t tests, and the rank tests in their normal approximation, are own code, since a report tests
every pair of cells and scipy's versions take 10 to 50 times as long.
"""

from typing import NamedTuple

import numpy as np
from scipy import special, stats

from analysis.statistics.common import DECIMALS, FloatArray, Significance, constant
from analysis.statistics.effects import wins
from analysis.statistics.estimates import mean, sd
from analysis.statistics.intervals import student_interval
from analysis.statistics.resampling import relabellings, signs
from analysis.statistics.summary import Scores


class Difference(NamedTuple):
    """First mean minus second, in the unit of the scores.

    Attributes:
        estimate: The difference; NaN only if a side has no scores.
        low: Lower end of the 95% interval; NaN where `reason` says why.
        high: Upper end.
        statistic: Student's t.
        df: Its degrees of freedom.
        p: Two-sided p-value.
        reason: `n_too_small` or `zero_variance`; otherwise empty.
    """

    estimate: float
    low: float
    high: float
    statistic: float
    df: float
    p: float
    reason: str


def welch(a: FloatArray, b: FloatArray) -> Difference:
    """Welch's unequal-variances t test of a difference of means, with its interval.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Returns:
        NaN p-value and interval below two scores on a side (`n_too_small`), or if both variances
        are 0 (`zero_variance`); the difference itself is always defined.

    Source: Welch 1947.
    """
    estimate = mean(a) - mean(b)
    if min(a.size, b.size) < 2:
        return _unknown(estimate, "n_too_small")
    errors = np.array([sd(a) ** 2 / a.size, sd(b) ** 2 / b.size])  # squared, of each mean
    if not errors.any():
        return _unknown(estimate, "zero_variance")
    df = errors.sum() ** 2 / (errors**2 / [a.size - 1, b.size - 1]).sum()
    return _student(estimate, np.sqrt(errors.sum()), df)


def paired_t(a: FloatArray, b: FloatArray) -> Difference:
    """Paired t test of runs with the same seeds, with the paired t interval.

    Args:
        a: Scores, shape (n,), no NaN.
        b: Scores of the same seeds in the same order, shape (n,), no NaN.

    Returns:
        As `welch`; `zero_variance` if all differences are equal.

    Source: Student 1908.
    """
    gap = a - b
    if gap.size < 2:
        return _unknown(mean(gap), "n_too_small")
    if constant(gap):
        return _unknown(mean(gap), "zero_variance")
    return _student(mean(gap), sd(gap) / np.sqrt(gap.size), gap.size - 1)


def _student(estimate: float, error: float, df: float) -> Difference:
    ends = student_interval(estimate, error, df=df, method="t")
    t = float(estimate / error)
    p = float(2 * special.stdtr(df, -abs(t)))
    return Difference(estimate, ends.low, ends.high, t, float(df), p, "")


def _unknown(estimate: float, reason: str) -> Difference:
    return Difference(estimate, *(np.nan,) * 5, reason)


def mann_whitney(a: FloatArray, b: FloatArray) -> Significance:
    """Mann-Whitney U test of stochastic superiority; not a test of means.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.

    Returns:
        U, the number of pairs in which a is higher, ties counting half, and its p-value: exact
        without ties and with at most eight scores on a side, else the normal approximation with
        tie and continuity corrections. p is 1 if all scores are equal, NaN below two on a side.

    Source: Mann & Whitney 1947; the choice of method as scipy 1.17 makes it.
    """
    u = wins(a, b)
    if min(a.size, b.size) < 2:
        return Significance(u, np.nan, "n_too_small")
    pooled = np.round(np.concatenate([a, b]), DECIMALS)
    shared = np.unique(pooled, return_counts=True)[1].astype(np.float64)
    n, product = pooled.size, a.size * b.size
    if min(a.size, b.size) <= 8 and shared.size == n:
        return Significance(u, float(stats.mannwhitneyu(a, b, method="exact").pvalue), "")
    variance = product / 12 * (n + 1 - (shared**3 - shared).sum() / (n * (n - 1)))
    if shared.size == 1:
        return Significance(u, 1.0, "")
    z = (abs(u - product / 2) - 0.5) / np.sqrt(variance)
    return Significance(u, min(1.0, float(2 * special.ndtr(-z))), "")


def wilcoxon(a: FloatArray, b: FloatArray) -> Significance:
    """Wilcoxon signed-rank test of runs with the same seeds.

    Args:
        a: Scores, shape (n,), no NaN.
        b: Scores of the same seeds in the same order, shape (n,), no NaN.

    Returns:
        The smaller sum of signed ranks and its p-value; zero differences are dropped. Exact up to
        50 seeds without ties, by all sign changes up to 13 seeds with ties, else the normal
        approximation. NaN below two seeds, or if all pairs are equal (`all_tied`).

    Source: Wilcoxon 1945; the choice of method as scipy 1.17 makes it.
    """
    gap = np.round(a - b, DECIMALS)
    if gap.size < 2:
        return Significance(np.nan, np.nan, "n_too_small")
    moved = gap[gap != 0]
    if not moved.size:
        return Significance(np.nan, np.nan, "all_tied")
    if gap.size <= 50:
        found = stats.wilcoxon(gap)
        return Significance(float(found.statistic), float(found.pvalue), "")
    n = moved.size
    ranks = stats.rankdata(np.round(np.abs(moved), DECIMALS))
    shared = np.unique(ranks, return_counts=True)[1].astype(np.float64)
    up = float(ranks[moved > 0].sum())
    low = min(up, n * (n + 1) / 2 - up)
    variance = n * (n + 1) * (2 * n + 1) / 24 - (shared**3 - shared).sum() / 48
    z = (low - n * (n + 1) / 4) / np.sqrt(variance)
    return Significance(low, float(2 * special.ndtr(z)), "")


def permutation(a: FloatArray, b: FloatArray) -> Significance:
    """Permutation test of the difference of means.

    Args:
        a: Scores, shape (n_a,), no NaN; failed runs at their floor.
        b: Scores, shape (n_b,), likewise.

    Returns:
        The difference and its two-sided p-value; all cells of these sizes share the relabellings.
        NaN p below two scores on a side, or if all scores are equal.

    Source: Fisher 1935; see `Ways.p`.
    """
    estimate = mean(a) - mean(b)
    if min(a.size, b.size) < 2:
        return Significance(estimate, np.nan, "n_too_small")
    if constant(np.concatenate([a, b])):
        return Significance(estimate, np.nan, "zero_variance")
    pooled = np.concatenate([a, b])
    off = (
        pooled - pooled.mean()
    )  # sums to 0, so that the sum of one group determines the difference
    ways = relabellings(a.size, b.size)
    p = ways.p(np.abs(off.take(ways.tried).sum(axis=0)), abs(off[: a.size].sum()))
    return Significance(estimate, p, "")


def paired_permutation(a: FloatArray, b: FloatArray) -> Significance:
    """Paired permutation test of the mean difference, by sign flips.

    Args:
        a: Scores, shape (n,), no NaN; failed runs at their floor.
        b: Scores of the same seeds in the same order, shape (n,), likewise.

    Returns:
        The difference and its two-sided p-value; NaN p below two seeds, or if all pairs are equal.

    Source: Fisher 1935; see `Ways.p`.
    """
    gap = a - b
    if gap.size < 2:
        return Significance(mean(gap), np.nan, "n_too_small")
    if not np.round(gap, DECIMALS).any():
        return Significance(0.0, np.nan, "zero_variance")
    ways = signs(gap.size)
    return Significance(mean(gap), ways.p(np.abs(gap @ ways.tried), abs(gap.sum())), "")


def mean_difference(first: Scores, second: Scores) -> tuple[Difference, str]:
    """Difference of the means of two cells, by Welch's test or, if a run failed, by permutation.

    Args:
        first: A cell; its failed runs enter at their score, or the floor.
        second: Another cell, likewise.

    Returns:
        The difference with Welch's interval, and the test of its p-value: `Welch` or
        `permutation`.

    Source: Welch 1947; Fisher 1935. Differs: the p-value is the permutation test's where failed
        runs make the scores far from normal; the interval stays Welch's.
    """
    a, b = first.all_floor, second.all_floor
    gap = welch(a, b)
    if first.failed.any() or second.failed.any():
        return gap._replace(p=permutation(a, b).p), "permutation"
    return gap, "Welch"
