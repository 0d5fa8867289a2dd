"""Within a cell: where its scores lie, how far they scatter, and how often runs fail."""

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from scipy import stats

from analysis.statistics.common import N_BOOT, BoolArray, FloatArray, Statistic, constant
from analysis.statistics.estimates import expected_best, iqm, mean, sd
from analysis.statistics.intervals import (
    bca_interval,
    mean_interval,
    no_interval,
    sd_interval,
    wilson_interval,
)

RESTARTS = 3  # how many runs the best and the worst of several are expected over


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


_mean: Statistic = partial(np.mean, axis=-1)
_sd: Statistic = partial(np.std, axis=-1, ddof=1)
_median: Statistic = partial(np.median, axis=-1)
_iqm: Statistic = partial(stats.trim_mean, proportiontocut=0.25, axis=-1)


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
