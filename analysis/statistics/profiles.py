"""Performance profiles: share of a suite's runs, or tasks, that score above a threshold."""

import numpy as np

from analysis.statistics.aggregate import Numbers, Runs, Unit, resampled, task_means, task_parts
from analysis.statistics.common import DECIMALS, ENDS, BoolArray, FloatArray


def run_profile(
    scores: FloatArray,
    thresholds: FloatArray,
    *,
    unit: Unit,
    resamples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Share of runs that score above each threshold, tasks weighted equally.

    Args:
        scores: Higher is better, shape (n_runs, n_tasks, n_techniques); NaN where there is no run.
        thresholds: Shape (n_thresholds,).
        unit: What is resampled, as for `aggregate`.
        resamples: Number of bootstrap resamples for the band.
        rng: Generator of the resamples.

    Returns:
        Shape (3, n_techniques, n_thresholds): the share, then the ends of its pointwise 95%
        interval. The ends are NaN for a technique with a single run on a task, and all three if it
        has none. The area under the profile from 0 to 1 is the mean of the scores clipped to
        [0, 1].

    Source: Dolan & Moré 2002; Agarwal et al. 2021, section 4.2, run-score distribution with a
        pointwise stratified bootstrap band.
    """
    runs = Runs.of(scores, unit)
    above = _above(runs.values[..., None], thresholds).astype(np.float32)
    share = np.mean([_of_task(runs, above, task) for task in range(runs.tasks)], axis=0)
    drawn = resampled(runs, unit=unit, tasks="fixed", resamples=resamples, rng=rng)
    found = [task_parts(above, runs, weights).sum(axis=0) for weights, _ in drawn]
    return _with_band(runs, share, np.concatenate(found, axis=-1))


def task_profile(
    scores: FloatArray,
    thresholds: FloatArray,
    *,
    unit: Unit,
    resamples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Share of tasks whose mean over runs is above each threshold.

    Args:
        scores: As for `run_profile`.
        thresholds: Shape (n_thresholds,).
        unit: What is resampled, as for `aggregate`.
        resamples: Number of bootstrap resamples for the band.
        rng: Generator of the resamples.

    Returns:
        As for `run_profile`.

    Source: Agarwal et al. 2021, section 4.2, average-score distribution.
    """
    runs = Runs.of(scores, unit)
    means = np.stack([_of_task(runs, runs.values, task) for task in range(runs.tasks)])
    share = _above(means[..., None], thresholds).mean(axis=0)
    drawn = resampled(runs, unit=unit, tasks="fixed", resamples=resamples, rng=rng)
    found = []
    for weights, tasks in drawn:
        each = means[..., None] + task_means(task_parts(runs.values - means, runs, weights), tasks)
        found.append(np.stack([_above(each, tau).mean(axis=0) for tau in thresholds], axis=1))
    return _with_band(runs, share, np.concatenate(found, axis=-1))


def _above(scores: FloatArray, thresholds: FloatArray) -> BoolArray:
    return np.asarray(np.round(scores - thresholds, DECIMALS) > 0)


def _of_task(runs: Runs, values: Numbers, task: int) -> FloatArray:
    """Mean over the runs of one task, shape (n_techniques, ...); NaN without runs."""
    sizes = runs.sizes[task]
    exists = np.arange(len(values))[:, None] < sizes  # (n_runs, n_techniques)
    exists = exists.reshape(*exists.shape, *(1,) * (values.ndim - 3))
    total = np.where(exists, values[:, task], 0.0).sum(axis=0)
    count = np.where(sizes, sizes, np.nan).reshape(-1, *(1,) * (values.ndim - 3))
    return np.asarray(total / count)


def _with_band(runs: Runs, share: FloatArray, found: FloatArray) -> FloatArray:
    band = np.quantile(found, ENDS, axis=-1)
    few = runs.sizes.min(axis=0) < 2
    return np.concatenate([share[None], np.where(few[:, None], np.nan, band)])
