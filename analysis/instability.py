"""Within a cell: where its scores lie, how far they scatter, and how often runs fail."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Statistic = Callable[[FloatArray], Any]  # reduces the last axis

LEVEL = 0.95  # of every interval
ALPHA = 0.05  # of every test, two-sided
POWER = 0.8  # at which a difference counts as detectable
N_BOOT = 5_000
RESTARTS = 3  # how many runs the best and the worst of several are expected over
DECIMALS = 12  # scores closer than this are equal: accuracies are multiples of 1 / n_rows


class Interval(NamedTuple):
    """A 95 % interval.

    Attributes:
        low: Lower end, in the unit of the estimate; NaN where there is no interval.
        high: Upper end, likewise.
        method: How it was made, such as `t` or `BCa`; empty where there is no interval.
        reason: Why there is no interval, or why it has no width: `n_too_small`, `zero_variance`
            or `all_tied`; otherwise empty.
    """

    low: float
    high: float
    method: str
    reason: str


def no_interval(reason: str) -> Interval:
    """An interval that could not be made."""
    return Interval(np.nan, np.nan, "", reason)


@dataclass(frozen=True)
class Scores:
    """The scores of one cell on one split.

    Attributes:
        values: Score per run, shape (n_runs,); NaN where the run diverged or is missing.
        diverged: Whether the loss became non-finite, shape (n_runs,).
        collapsed: Whether it ended no better than the constant predictor, shape (n_runs,).
        floor: Score of the constant predictor on this split; NaN if unknown.
    """

    values: FloatArray
    diverged: BoolArray
    collapsed: BoolArray
    floor: float

    @property
    def failed(self) -> BoolArray:
        """Whether the run diverged or collapsed, shape (n_runs,)."""
        return self.diverged | self.collapsed

    @property
    def finished(self) -> int:
        """How many runs have a score or failed; the others are missing."""
        return int((self.failed | ~np.isnan(self.values)).sum())

    @cached_property
    def all_floor(self) -> FloatArray:
        """Sorted scores of the finished runs; a failed one without a score enters as the floor."""
        coded = np.where(self.failed & np.isnan(self.values), self.floor, self.values)
        return np.sort(coded[~np.isnan(coded)])

    @cached_property
    def excluded(self) -> FloatArray:
        """Sorted scores of the finished runs that did not fail."""
        return np.sort(self.values[~self.failed & ~np.isnan(self.values)])


@dataclass(frozen=True)
class Summary:
    """What is said about one cell on one split; scores in the metric's own unit.

    Failed runs enter with their score, or the floor where they have none. The fields beginning
    with `clean` leave them out; with the failure rate they are the two-part view.

    Attributes:
        n: Runs that the statistics rest on: finished, with a score or a floor.
        missing: Runs that were asked for and have neither score nor failure.
        diverged: Runs whose loss became non-finite.
        collapsed: Completed runs no better than the constant predictor.
        mean: Mean; NaN if n is 0. So are median, iqm, minimum and maximum.
        mean_low: Lower end of its interval; NaN where `mean_reason` says why.
        mean_high: Upper end.
        mean_method: `t` or `BCa`.
        mean_reason: Reason code, or empty; `non_finite` if a failed run had no floor to enter as.
        sd: Sample standard deviation (n - 1); NaN below two runs.
        sd_low: Lower end of its interval; NaN where `sd_reason` says why.
        sd_high: Upper end.
        sd_method: `chi-square` or `BCa`.
        sd_reason: Reason code, or empty.
        median: Median.
        median_low: Lower end of its interval, from ten runs.
        median_high: Upper end.
        iqm: Interquartile mean.
        iqm_low: Lower end of its interval, from ten runs.
        iqm_high: Upper end.
        minimum: Smallest score.
        maximum: Largest score.
        highest_of_3: Expected largest of three runs; NaN below six runs.
        lowest_of_3: Expected smallest of three runs; NaN below six runs.
        failure_rate: Share of the finished runs that failed; NaN if there are none.
        failure_low: Lower end of its Wilson interval.
        failure_high: Upper end.
        clean_n: Runs that did not fail.
        clean_mean: Their mean; NaN if there are none.
        clean_low: Lower end of its t interval.
        clean_high: Upper end.
        clean_sd: Their sample standard deviation; NaN below two.
        clean_sd_low: Lower end of its chi-square interval.
        clean_sd_high: Upper end.
    """

    n: int
    missing: int
    diverged: int
    collapsed: int
    mean: float
    mean_low: float
    mean_high: float
    mean_method: str
    mean_reason: str
    sd: float
    sd_low: float
    sd_high: float
    sd_method: str
    sd_reason: str
    median: float
    median_low: float
    median_high: float
    iqm: float
    iqm_low: float
    iqm_high: float
    minimum: float
    maximum: float
    highest_of_3: float
    lowest_of_3: float
    failure_rate: float
    failure_low: float
    failure_high: float
    clean_n: int
    clean_mean: float
    clean_low: float
    clean_high: float
    clean_sd: float
    clean_sd_low: float
    clean_sd_high: float


def stream(*key: str) -> np.random.Generator:
    """A generator of its own for whatever the key names.

    What one cell draws thus depends on no other cell, nor on the order in which they come.
    """
    digest = hashlib.sha256("\x1f".join(key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def constant(scores: FloatArray) -> bool:
    """Whether all scores are equal to twelve decimals; shape (n,), n at least 1."""
    return bool(np.ptp(np.round(scores, DECIMALS)) == 0)


def mean(scores: FloatArray) -> float:
    """Mean; NaN of no scores. Shape (n,), no NaN.

    Source: elementary.
    """
    return float(scores.mean()) if scores.size else np.nan


def sd(scores: FloatArray) -> float:
    """Sample standard deviation, divisor n - 1; NaN below two scores, exactly 0 if all are equal.

    Args:
        scores: Shape (n,), no NaN.

    Source: elementary. Differs: Du & Nguyen 2023 divide by n.
    """
    if scores.size < 2:
        return np.nan
    return 0.0 if constant(scores) else float(scores.std(ddof=1))


def iqm(scores: FloatArray) -> float:
    """Mean of the middle half: floor(n / 4) scores are cut at each end; NaN of no scores.

    Args:
        scores: Shape (n,), no NaN.

    Source: Agarwal et al. 2021, interquartile mean; here within one cell.
    """
    return float(_iqm(scores)) if scores.size else np.nan


_iqm: Statistic = partial(stats.trim_mean, proportiontocut=0.25, axis=-1)
_median: Statistic = partial(np.median, axis=-1)
_mean: Statistic = partial(np.mean, axis=-1)
_sd: Statistic = partial(np.std, axis=-1, ddof=1)


def mean_interval(scores: FloatArray) -> Interval:
    """Student's t interval of the mean.

    Args:
        scores: Shape (n,), no NaN.

    Returns:
        No interval below two scores; no width, and `zero_variance`, if all are equal.

    Source: Student 1908; exact for normal data.
    """
    if scores.size < 2:
        return no_interval("n_too_small")
    quantile = stats.t.ppf((1 + LEVEL) / 2, scores.size - 1)
    half = float(quantile * sd(scores) / np.sqrt(scores.size))
    centre = mean(scores)
    return Interval(centre - half, centre + half, "t", "zero_variance" if half == 0 else "")


def sd_interval(scores: FloatArray) -> Interval:
    """Chi-square interval of the standard deviation; wrong where runs fail.

    Args:
        scores: Shape (n,), no NaN.

    Returns:
        No interval below two scores; no width, and `zero_variance`, if all are equal.

    Source: elementary; exact for normal data.
    """
    if scores.size < 2:
        return no_interval("n_too_small")
    df = scores.size - 1
    spread = sd(scores)
    high, low = stats.chi2.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], df)
    reason = "zero_variance" if spread == 0 else ""
    return Interval(
        float(spread * np.sqrt(df / low)), float(spread * np.sqrt(df / high)), "chi-square", reason
    )


def bca_interval(
    scores: FloatArray, statistic: Statistic, *, resamples: int, rng: np.random.Generator
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval.

    Args:
        scores: Shape (n,), no NaN; at least two.
        statistic: Reduces the last axis; shape (..., n) to (...).
        resamples: How many to draw.
        rng: Draws them.

    Returns:
        No width where all scores are equal (`zero_variance`) or too many of them for the
        correction to exist (`all_tied`).

    Source: Efron 1987. Resamples that equal the estimate count half.
    """
    estimate = float(statistic(scores))
    if constant(scores):
        return Interval(estimate, estimate, "BCa", "zero_variance")
    n = scores.size
    replicates = statistic(scores[rng.integers(n, size=(resamples, n))])
    above = np.round(estimate - replicates, DECIMALS)
    below = ((above > 0).sum() + (above == 0).sum() / 2) / resamples
    left_out = statistic(np.broadcast_to(scores, (n, n))[~np.eye(n, dtype=bool)].reshape(n, n - 1))
    pull = np.round(left_out.mean() - left_out, DECIMALS)
    if below in (0, 1) or not pull.any():
        return Interval(estimate, estimate, "BCa", "all_tied")
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    bias = stats.norm.ppf(below)
    moved = bias + stats.norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    levels = stats.norm.cdf(bias + moved / (1 - acceleration * moved))
    low, high = np.quantile(replicates, levels)
    return Interval(float(low), float(high), "BCa", "")


def wilson_interval(count: int, n: int) -> Interval:
    """Interval of a rate, such as the share of failed runs.

    Args:
        count: How many of them.
        n: Out of how many; 0 gives [0, 1] and `n_too_small`.

    Raises:
        ValueError: If count is not in 0..n.

    Source: Wilson 1927.
    """
    if not 0 <= count <= n:
        raise ValueError(f"count = {count} is not in 0..n = {n}.")
    if n == 0:
        return Interval(0.0, 1.0, "Wilson", "n_too_small")
    rate = count / n
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    width = 1 + z**2 / n
    centre = (rate + z**2 / (2 * n)) / width
    half = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / width
    low = 0.0 if count == 0 else float(centre - half)
    high = 1.0 if count == n else float(centre + half)
    return Interval(low, high, "Wilson", "")


def expected_best(scores: FloatArray, k: int) -> float:
    """Expected largest of k runs drawn without replacement: unbiased for the best of k new runs.

    Args:
        scores: Higher is better, shape (n,), no NaN; failed runs at their floor.
        k: How many runs one would do.

    Returns:
        NaN if k > n / 2, where it would rest on a few largest scores.

    Raises:
        ValueError: If k is below 1.

    Source: Tang et al. 2020, the unbiased estimator. Dodge et al. 2019 draw with replacement.
    """
    if k < 1:
        raise ValueError(f"k = {k} is below 1.")
    n = scores.size
    if k > n / 2:
        return np.nan
    weights = np.zeros(n)
    weights[-1] = k / n
    for i in range(n - 1, 0, -1):
        weights[i - 1] = weights[i] * (i + 1 - k) / i
    return float(weights @ np.sort(scores))


def minimum_detectable_ratio(n: int) -> float:
    """Ratio of two standard deviations that an F test finds four times in five.

    Args:
        n: Runs in each of the two cells.

    Returns:
        Larger over smaller standard deviation, above 1; NaN below two runs.

    Source: elementary; power of the two-sided F test at 5 %, normal data.
    """
    if n < 2:
        return np.nan
    df = n - 1
    low, high = stats.f.ppf([ALPHA / 2, 1 - ALPHA / 2], df, df)

    def excess(ratio: float) -> float:
        found = stats.f.sf(high / ratio**2, df, df) + stats.f.cdf(low / ratio**2, df, df)
        return float(found) - POWER

    return float(optimize.brentq(excess, 1, 1e4))


def summarise(scores: Scores, rng: np.random.Generator) -> Summary:
    """Everything that is said about one cell on one split.

    Args:
        scores: The runs of the cell.
        rng: Draws the resamples of the bootstrap intervals; a `stream` named after the cell.

    Returns:
        Intervals by what the runs allow: without failures t for the mean and chi-square for the
        standard deviation; with failures BCa for the mean from 50 runs and t below, and BCa for
        the standard deviation from 20 runs and none below. Median and interquartile mean: BCa
        from ten runs. Statistics of too few runs are NaN.

    Source: choice of intervals by their simulated coverage, with and without 10 % failed runs.
    """
    x = scores.all_floor
    clean = scores.excluded
    failures = int(scores.failed.sum())
    bootstrapped = partial(bca_interval, x, resamples=N_BOOT, rng=rng)
    by_mean = bootstrapped(_mean) if failures and x.size >= 50 else mean_interval(x)
    if not failures or (x.size > 1 and constant(x)):
        by_sd = sd_interval(x)
    else:
        by_sd = bootstrapped(_sd) if x.size >= 20 else no_interval("n_too_small")
    enough = x.size >= 10
    by_median = bootstrapped(_median) if enough else no_interval("n_too_small")
    by_iqm = bootstrapped(_iqm) if enough else no_interval("n_too_small")
    rate = wilson_interval(failures, scores.finished)
    clean_mean, clean_sd = mean_interval(clean), sd_interval(clean)
    return Summary(
        n=x.size,
        missing=scores.values.size - scores.finished,
        diverged=int(scores.diverged.sum()),
        collapsed=int(scores.collapsed.sum()),
        mean=mean(x),
        mean_low=by_mean.low,
        mean_high=by_mean.high,
        mean_method=by_mean.method,
        mean_reason="non_finite" if x.size < scores.finished else by_mean.reason,
        sd=sd(x),
        sd_low=by_sd.low,
        sd_high=by_sd.high,
        sd_method=by_sd.method,
        sd_reason=by_sd.reason,
        median=float(np.median(x)) if x.size else np.nan,
        median_low=by_median.low,
        median_high=by_median.high,
        iqm=iqm(x),
        iqm_low=by_iqm.low,
        iqm_high=by_iqm.high,
        minimum=float(x[0]) if x.size else np.nan,
        maximum=float(x[-1]) if x.size else np.nan,
        highest_of_3=expected_best(x, RESTARTS),
        lowest_of_3=-expected_best(-x, RESTARTS),
        failure_rate=failures / scores.finished if scores.finished else np.nan,
        failure_low=rate.low,
        failure_high=rate.high,
        clean_n=clean.size,
        clean_mean=mean(clean),
        clean_low=clean_mean.low,
        clean_high=clean_mean.high,
        clean_sd=sd(clean),
        clean_sd_low=clean_sd.low,
        clean_sd_high=clean_sd.high,
    )
