"""Two-sample and paired tests of location: t, rank and permutation tests.

The t tests, and the rank tests in their normal approximation, are own code, since a report tests
every pair of cells and scipy's versions take 10 to 50 times as long.
"""

from math import comb
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from analysis.statistics.common import (
    DECIMALS,
    LEVEL,
    N_BOOT,
    FloatArray,
    Significance,
    constant,
)
from analysis.statistics.effects import wins
from analysis.statistics.estimates import mean, sd
from analysis.statistics.intervals import student_interval
from analysis.statistics.resampling import relabellings, signs
from analysis.statistics.summary import Scores

FINEST = 1 / (N_BOOT + 1)  # smallest p of drawn relabellings: none is as extreme


class Difference(NamedTuple):
    """First mean minus second, in the unit of the scores.

    Attributes:
        estimate: The difference; NaN only if a side has no scores.
        low: Lower end of the interval, 95% if nothing else is asked for; NaN where `reason` says
            why.
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


def welch(a: FloatArray, b: FloatArray, level: float = LEVEL) -> Difference:
    """Welch's unequal-variances t test of a difference of means, with its interval.

    Args:
        a: Scores, shape (n_a,), no NaN.
        b: Scores, shape (n_b,), no NaN.
        level: Coverage of the interval.

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
    return _student(estimate, np.sqrt(errors.sum()), df, level)


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
    return _student(mean(gap), sd(gap) / np.sqrt(gap.size), gap.size - 1, LEVEL)


def _student(estimate: float, error: float, df: float, level: float) -> Difference:
    ends = student_interval(estimate, error, df=df, method="t", level=level)
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
    """Permutation test of equal means, studentised: valid with unequal sizes and variances.

    Args:
        a: Scores, shape (n_a,), no NaN; failed runs at their floor.
        b: Scores, shape (n_b,), likewise.

    Returns:
        The difference and its two-sided p-value; all cells of these sizes share the relabellings.
        NaN p below two scores on a side, or if all scores are equal.

    Source: Janssen 1997; Chung & Romano 2013: the statistic is Welch's t, recomputed in each
        relabelling; see `Ways.p`. Relabelled differences of means alone would test that the two
        distributions are equal, not their means.
    """
    estimate = mean(a) - mean(b)
    if min(a.size, b.size) < 2:
        return Significance(estimate, np.nan, "n_too_small")
    pooled = np.concatenate([a, b])
    if constant(pooled):
        return Significance(estimate, np.nan, "zero_variance")
    off = (pooled - pooled.mean()) / pooled.std()  # sums to 0, squares to n
    ways = relabellings(a.size, b.size)
    found = _shares(off[ways.tried], a.size, b.size)
    own = _shares(off[: a.size, None], a.size, b.size)
    return Significance(estimate, ways.p(found, float(own[0])), "")


def _shares(first: FloatArray, n_a: int, n_b: int) -> FloatArray:
    """t² / (1 + t²) of Welch's t, which increases with |t| and is 1 where both variances are 0.

    Args:
        first: Scores of the first group, shape (n_a, ways), where those of both groups have mean 0
            and variance 1.
        n_a: Size of the first group.
        n_b: Size of the second group.

    Returns:
        Shape (ways,), in [0, 1].
    """
    total, squares = first.sum(axis=0), (first**2).sum(axis=0)
    gap = total * (1 / n_a + 1 / n_b)
    within_a = squares - total**2 / n_a
    within_b = n_a + n_b - squares - total**2 / n_b
    error = within_a.clip(min=0) / (n_a * (n_a - 1)) + within_b.clip(min=0) / (n_b * (n_b - 1))
    return np.asarray(gap**2 / (gap**2 + error))


def paired_permutation(a: FloatArray, b: FloatArray) -> Significance:
    """Paired permutation test of the mean difference, by sign flips.

    Args:
        a: Scores, shape (n,), no NaN; failed runs at their floor.
        b: Scores of the same seeds in the same order, shape (n,), likewise.

    Returns:
        The difference and its two-sided p-value; NaN p below two seeds, or if all pairs are equal.

    Source: Fisher 1935; see `Ways.p`. Sign flips keep the sum of squares, so that the mean orders
        them as the paired t does: the test is studentised as it is.
    """
    gap = a - b
    if gap.size < 2:
        return Significance(mean(gap), np.nan, "n_too_small")
    if not np.round(gap, DECIMALS).any():
        return Significance(0.0, np.nan, "zero_variance")
    ways = signs(gap.size)
    return Significance(mean(gap), ways.p(np.abs(gap @ ways.tried), abs(gap.sum())), "")


def mean_difference(first: Scores, second: Scores, level: float = LEVEL) -> tuple[Difference, str]:
    """Difference of the means of two cells, by Welch's test or, if a run failed, by permutation.

    Args:
        first: A cell; its failed runs enter at their score, or the floor.
        second: Another cell, likewise.
        level: Coverage of the interval.

    Returns:
        The difference, its interval and its p-value, and the test: `Welch` or `permutation`.
        The latter is the studentised permutation test after one failed and one successful run are
        added to each cell; the interval is Welch's of the same scores. Where none of the drawn
        relabellings is as extreme, p is Welch's, but not below 1 of all relabellings.

    Source: Welch 1947; Chung & Romano 2013; Agresti & Caffo 2000 for the added runs, here of a
        mixture with failures instead of a proportion. Without them a cell in which no run or every
        run happened to fail seems to be certain of its mean.
    """
    gap = welch(first.all_floor, second.all_floor, level)
    if gap.reason == "n_too_small" or not (first.failed.any() or second.failed.any()):
        return gap, "Welch"
    a, b = _with_added_runs(first, second)
    wider, p = welch(a, b, level), permutation(a, b).p
    if p == FINEST:
        p = min(p, max(wider.p, 1 / comb(a.size + b.size, a.size)))
    return wider._replace(estimate=gap.estimate, p=p), "permutation"


def _with_added_runs(first: Scores, second: Scores) -> tuple[FloatArray, FloatArray]:
    """The sorted scores of two cells, each with one failed and one successful run added.

    A failed run has the mean score of those in both cells, a successful one that of its own cell,
    or of the other where its own has none.
    """
    sides = (first, second)
    failed = np.concatenate([side.coded[side.failed] for side in sides])
    if np.isnan(failed).all():  # their scores and the floor are unknown: they are left out
        return first.all_floor, second.all_floor
    low = np.nanmean(failed)
    known = np.concatenate([side.excluded for side in sides])
    other = mean(known) if known.size else low
    a, b = (
        np.sort([*side.all_floor, low, mean(side.excluded) if side.excluded.size else other])
        for side in sides
    )
    return a, b
