"""Summary statistics of one cell: location, spread and failure rate, with intervals."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from analysis.statistics.common import LEVEL, BoolArray, FloatArray, constant
from analysis.statistics.estimates import (
    best_weights,
    cv,
    expected_best,
    expected_worst,
    iqm,
    iqm_weights,
    mad,
    mean,
    mean_weights,
    median,
    median_weights,
    quantiles,
    sd,
)
from analysis.statistics.intervals import (
    LEAST_FOR_MEAN,
    LEAST_FOR_SD,
    Interval,
    bca_interval,
    mean_interval,
    no_interval,
    sd_interval,
    wilson_interval,
)
from analysis.statistics.resampling import left_out, sd_left_out, shared

RESTARTS = 3  # number of runs of the expected best and worst


@dataclass(frozen=True)
class Scores:
    """The scores of one cell on one split.

    Attributes:
        values: Score per run, shape (n_runs,); NaN where the run diverged or is missing.
        diverged: Whether the loss became non-finite, shape (n_runs,).
        collapsed: Whether the run is not clearly better than a constant answer, shape (n_runs,).
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
        """Number of runs that have a score or failed; the others are missing."""
        return int((self.failed | ~np.isnan(self.values)).sum())

    @cached_property
    def coded(self) -> FloatArray:
        """Score per run, shape (n_runs,); a failed run without a score enters at the floor."""
        return np.where(self.failed & np.isnan(self.values), self.floor, self.values)

    @cached_property
    def all_floor(self) -> FloatArray:
        """Sorted scores of the finished runs, failed ones as in `coded`."""
        return np.sort(self.coded[~np.isnan(self.coded)])

    @cached_property
    def excluded(self) -> FloatArray:
        """Sorted scores of the finished runs that did not fail."""
        return np.sort(self.values[~self.failed & ~np.isnan(self.values)])


@dataclass(frozen=True)
class Statistics:
    """Location and spread of some runs of one cell, in the metric's own unit.

    Ends of intervals are NaN where there is no interval; `mean_reason` and `sd_reason` say why, or
    why the width is zero.

    Attributes:
        n: Number of runs.
        mean: Mean; NaN if n is 0, as are all locations, quantiles and mad.
        mean_low: Lower end of its interval.
        mean_high: Upper end.
        mean_method: `t` or `BCa`.
        mean_reason: Reason code, or empty; `non_finite` if a failed run lacks score and floor.
        sd: Sample standard deviation (n - 1); NaN below two runs.
        sd_low: Lower end of its interval.
        sd_high: Upper end.
        sd_method: `chi-square` or `BCa`.
        sd_reason: Reason code, or empty.
        median: Median.
        median_low: Lower end of its BCa interval, from ten runs.
        median_high: Upper end.
        iqm: Interquartile mean.
        iqm_low: Lower end of its BCa interval, from ten runs.
        iqm_high: Upper end.
        minimum: Smallest score.
        q05: The 5% quantile.
        q25: Lower quartile.
        q75: Upper quartile.
        q95: The 95% quantile.
        maximum: Largest score.
        mad: Median absolute deviation, unscaled.
        cv: Coefficient of variation, unitless; NaN where `cv_reason` says why.
        cv_reason: `n_too_small`, or `not_identified` if the scores reach or cross 0, or the floor
            is 0.
        highest_of_3: Expected maximum of three runs; NaN below six runs.
        highest_of_3_low: Lower end of its BCa interval, from ten runs.
        highest_of_3_high: Upper end.
        lowest_of_3: Expected minimum of three runs; NaN below six runs.
        lowest_of_3_low: Lower end of its BCa interval, from ten runs.
        lowest_of_3_high: Upper end.
    """

    n: int
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
    q05: float
    q25: float
    q75: float
    q95: float
    maximum: float
    mad: float
    cv: float
    cv_reason: str
    highest_of_3: float
    highest_of_3_low: float
    highest_of_3_high: float
    lowest_of_3: float
    lowest_of_3_low: float
    lowest_of_3_high: float


@dataclass(frozen=True)
class Summary:
    """Summary of one cell on one split.

    Attributes:
        missing: Number of requested runs that have neither a score nor failed.
        diverged: Number of runs whose loss became non-finite.
        collapsed: Number of completed runs not clearly better than a constant answer.
        failure_rate: Share of the finished runs that failed; NaN if there are none.
        failure_low: Lower end of its Wilson interval.
        failure_high: Upper end.
        whole: Statistics of all finished runs; a failed one counts with its score, or the floor.
        clean: Statistics of the runs that did not fail; with the failure rate, the two-part view.
    """

    missing: int
    diverged: int
    collapsed: int
    failure_rate: float
    failure_low: float
    failure_high: float
    whole: Statistics
    clean: Statistics


def summarise(scores: Scores, *, level: float = LEVEL) -> Summary:
    """Summarise one cell on one split.

    Args:
        scores: The runs of the cell.
        level: Coverage of the intervals of mean and standard deviation; of all others it is 95%.

    Returns:
        Both views. Without failures, the mean has a t interval and the standard deviation a
        chi-square interval. With failures, the mean has a BCa interval from 50 runs and a t
        interval below; the standard deviation has a BCa interval from 20 runs and none below. All
        others have BCa intervals from ten runs. Statistics of too few runs are NaN.

    Source: intervals chosen by simulated coverage, with and without 10% failed runs.
    """
    failures = int(scores.failed.sum())
    rate = wilson_interval(failures, scores.finished)
    unknown = scores.all_floor.size < scores.finished
    whole = _view(
        scores.all_floor, scores.floor, failures=failures > 0, unknown=unknown, level=level
    )
    clean = whole
    if failures:
        clean = _view(scores.excluded, scores.floor, failures=False, unknown=False, level=level)
    return Summary(
        missing=scores.values.size - scores.finished,
        diverged=int(scores.diverged.sum()),
        collapsed=int(scores.collapsed.sum()),
        failure_rate=failures / scores.finished if scores.finished else np.nan,
        failure_low=rate.low,
        failure_high=rate.high,
        whole=whole,
        clean=clean,
    )


def spread_interval(scores: Scores, level: float) -> Interval:
    """Interval of the standard deviation of all finished runs, as `summarise` has it.

    Args:
        scores: The runs of the cell.
        level: Coverage.
    """
    return _spread_interval(scores.all_floor, failures=bool(scores.failed.any()), level=level)


def _spread_interval(x: FloatArray, *, failures: bool, level: float) -> Interval:
    if not failures or (x.size > 1 and constant(x)):
        return sd_interval(x, level)
    if x.size < LEAST_FOR_SD:
        return no_interval("n_too_small")
    resampled = x[shared(x.size)]
    return bca_interval(sd(x), resampled.std(axis=0, ddof=1), sd_left_out(x), level)


def _view(
    x: FloatArray, floor: float, *, failures: bool, unknown: bool, level: float
) -> Statistics:
    """The view of sorted scores; `unknown` if runs without score and floor are left out."""
    by_mean = mean_interval(x, level)
    by_sd = _spread_interval(x, failures=failures, level=level)
    bca = [no_interval("n_too_small")] * 5
    if x.size >= 10:
        resampled = x[shared(x.size)]  # (n, N_BOOT), ascending in each column
        bca = _bca_intervals(x, resampled, level)
    if failures and x.size >= LEAST_FOR_MEAN:
        by_mean = bca[0]
    _, by_median, by_iqm, by_highest, by_lowest = bca
    minimum, q05, q25, q75, q95, maximum = map(float, quantiles(x, (0, 0.05, 0.25, 0.75, 0.95, 1)))
    variation = np.nan if floor == 0 else cv(x)
    why = "n_too_small" if x.size < 2 else "not_identified"
    return Statistics(
        n=x.size,
        mean=mean(x),
        mean_low=by_mean.low,
        mean_high=by_mean.high,
        mean_method=by_mean.method,
        mean_reason="non_finite" if unknown else by_mean.reason,
        sd=sd(x),
        sd_low=by_sd.low,
        sd_high=by_sd.high,
        sd_method=by_sd.method,
        sd_reason=by_sd.reason,
        median=median(x),
        median_low=by_median.low,
        median_high=by_median.high,
        iqm=iqm(x),
        iqm_low=by_iqm.low,
        iqm_high=by_iqm.high,
        minimum=minimum,
        q05=q05,
        q25=q25,
        q75=q75,
        q95=q95,
        maximum=maximum,
        mad=mad(x),
        cv=variation,
        cv_reason=why if np.isnan(variation) else "",
        highest_of_3=expected_best(x, RESTARTS),
        highest_of_3_low=by_highest.low,
        highest_of_3_high=by_highest.high,
        lowest_of_3=expected_worst(x, RESTARTS),
        lowest_of_3_low=by_lowest.low,
        lowest_of_3_high=by_lowest.high,
    )


@lru_cache(maxsize=64)
def _weights(n: int) -> FloatArray:
    """Weights of n sorted scores in mean, median, IQM, best and worst of three, shape (5, n)."""
    best = best_weights(n, RESTARTS)
    return np.stack([mean_weights(n), median_weights(n), iqm_weights(n), best, best[::-1]])


def _bca_intervals(x: FloatArray, resampled: FloatArray, level: float) -> list[Interval]:
    """BCa intervals of the statistics in `_weights`; `resampled` is `x[shared(n)]`."""
    weights, fewer = _weights(x.size), _weights(x.size - 1)
    levels = (level, *(LEVEL,) * (len(weights) - 1))  # the mean is the first
    found = zip(weights @ x, weights @ resampled, fewer, levels, strict=True)
    return [bca_interval(float(own), all_, left_out(x, w), at) for own, all_, w, at in found]
