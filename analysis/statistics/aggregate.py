"""Aggregate scores over a suite of tasks, with stratified bootstrap intervals."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.statistics.common import ENDS, FloatArray

Unit = Literal["cell", "seed"]
Tasks = Literal["fixed", "resampled"]
Key = tuple[int, int]  # a stratum: a task, and the number of runs that a technique has on it
Weights = dict[Key, npt.NDArray[Any]]  # of a stratum's runs in each resample, shape (n, block)
Whole = npt.NDArray[np.intp]
Windows = tuple[tuple[int, int], tuple[int, int]]  # start and end around each quartile
Numbers = npt.NDArray[np.floating]

BLOCK = 512  # resamples at a time, so that the counts of a suite fit the CPU cache
PERFECT = 1.0  # the score that the optimality gap is measured from
LEAST_TASKS = 5  # with fewer, an interval from resampled tasks means nothing


class Aggregate(NamedTuple):
    """Aggregate scores, each of shape (3, n_techniques): estimate, then ends of its interval.

    Attributes:
        mean: Mean over tasks of the mean over runs.
        median: Median over tasks of the mean over runs.
        iqm: Interquartile mean of all runs, tasks weighted equally.
        optimality_gap: Mean over tasks and runs of max(1 - score, 0); lower is better.
    """

    mean: FloatArray
    median: FloatArray
    iqm: FloatArray
    optimality_gap: FloatArray


def aggregate(
    scores: FloatArray, *, unit: Unit, tasks: Tasks, resamples: int, rng: np.random.Generator
) -> Aggregate:
    """Mean, median, interquartile mean and optimality gap with stratified bootstrap intervals.

    Args:
        scores: Higher is better, shape (n_runs, n_tasks, n_techniques); NaN where a technique has
            no such run on a task.
        unit: `cell` resamples the runs within each task. `seed` resamples whole rows, which is
            right where a seed affects all tasks alike; rows with a NaN are then left out for that
            technique.
        tasks: `fixed` makes inference about new seeds on these tasks, `resampled` about new seeds
            and new tasks.
        resamples: Number of bootstrap resamples.
        rng: Generator of the resamples. Techniques with the same number of runs on a task share
            them; results for one technique depend on no other.

    Returns:
        NaN for a technique without runs on some task. NaN ends of the interval where a task has a
        single run, and, for resampled tasks, below five tasks.

    Source: Agarwal et al. 2021, sections 4.1 and 4.3, for equal numbers of runs per task. Differs:
        a run weighs 1 / (n_tasks n_runs of its task), and the trimmed quarter is rounded down to
        whole runs, as a share of all runs. Like every percentile bootstrap interval it is too short
        by about sqrt((n - 1) / n) for n runs per task.
    """
    runs = Runs.of(scores, unit)
    zero = np.zeros((4, scores.shape[2]))
    once = {(t, n): np.full((n, 1), 1 / (runs.tasks * n)) for t, n in runs.strata()}
    centre = _numbers(runs, zero, weights=once, drawn=np.arange(runs.tasks)[:, None])[..., 0]
    found = np.concatenate(
        [
            _numbers(runs, centre, weights=weights, drawn=drawn)
            for weights, drawn in resampled(
                runs, unit=unit, tasks=tasks, resamples=resamples, rng=rng
            )
        ],
        axis=-1,
    )
    ends = np.quantile(found, ENDS, axis=-1)  # (2, 4, n_techniques)
    least = runs.sizes.min(axis=0)
    few = (least < 2) | (tasks == "resampled" and runs.tasks < LEAST_TASKS)
    centre = np.where(least > 0, centre, np.nan)
    numbers = np.stack([centre, *np.where(few, np.nan, ends)], axis=1)
    mean, median, iqm, met = numbers  # each (3, n_techniques)
    return Aggregate(mean, median, iqm, PERFECT - met[[0, 2, 1]])


@dataclass(frozen=True)
class Runs:
    """The runs of a suite, packed to the front of each task and technique.

    Attributes:
        values: Scores, shape (n_runs, n_tasks, n_techniques), padded with NaN at the end.
        sizes: Number of runs, shape (n_tasks, n_techniques).
    """

    values: FloatArray
    sizes: Whole

    @classmethod
    def of(cls, scores: FloatArray, unit: Unit) -> "Runs":
        """Pack an array with NaN in any position, as `aggregate` takes it."""
        if unit == "cell":
            values = np.sort(scores, axis=0)  # makes results independent of the order of seeds
        else:
            values = np.where(np.isnan(scores).any(axis=1, keepdims=True), np.nan, scores)
            order = np.argsort(np.isnan(values), axis=0, kind="stable")
            values = np.take_along_axis(values, order, axis=0)
        return cls(values, (~np.isnan(values)).sum(axis=0))

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return len(self.sizes)

    def strata(self) -> list[Key]:
        """Every task with each number of runs that some technique has on it."""
        return [(t, int(n)) for t in range(self.tasks) for n in np.unique(self.sizes[t]) if n]


def resampled(
    runs: Runs, *, unit: Unit, tasks: Tasks, resamples: int, rng: np.random.Generator
) -> Iterator[tuple[Weights, Whole]]:
    """Yield stratified bootstrap resamples of a suite, in blocks, as weights of its runs.

    Args:
        runs: The suite.
        unit: As for `aggregate`.
        tasks: As for `aggregate`.
        resamples: Number of resamples.
        rng: Generator of the resamples.

    Yields:
        By task and number of runs n the weight of each run, shape (n, block), where a column sums
        to 1 over all tasks; and the tasks drawn, shape (n_tasks, block).
    """
    root = int(rng.integers(2**63))
    keys = runs.strata()
    # One random stream per task and size, so that no resample depends on the other techniques.
    names: dict[Key, tuple[int, ...]] = {key: key[1:] if unit == "seed" else key for key in keys}
    streams = {name: np.random.default_rng([root, *name]) for name in names.values()}
    choice = np.random.default_rng([root])
    every = np.arange(runs.tasks)[:, None]
    for start in range(0, resamples, BLOCK):
        width = min(BLOCK, resamples - start)
        drawn = np.repeat(every, width, axis=1)
        if tasks == "resampled":
            drawn = choice.integers(runs.tasks, size=drawn.shape)
        times = np.stack([(drawn == t).sum(axis=0) for t in range(runs.tasks)])
        counts = {key: times[key[0]] for key in keys}
        if unit == "seed":
            once = np.ones(width, np.intp)
            rows = {name: _counts(name[-1], once, rng=own) for name, own in streams.items()}
            counts = {key: rows[names[key]] * counts[key] for key in keys}
        else:
            counts = {key: _counts(key[1], counts[key], rng=streams[key]) for key in keys}
        yield (
            {(t, n): (c / (runs.tasks * n)).astype(np.float32) for (t, n), c in counts.items()},
            drawn,
        )


def _counts(n: int, times: Whole, *, rng: np.random.Generator) -> Whole:
    """Counts of n runs in `times` draws of n with replacement per column, shape (n, block)."""
    column = np.repeat(np.arange(times.size), n * times)
    flat = rng.integers(n, size=column.size) * times.size + column
    return np.bincount(flat, minlength=n * times.size).reshape(n, times.size)


def task_parts(values: Numbers, runs: Runs, weights: Weights) -> FloatArray:
    """Contribution of each task to a mean over tasks, shape (n_tasks, ..., block).

    Args:
        values: One value per run, shape (n_runs, n_tasks, n_techniques, ...).
        runs: The suite, which says how many of them exist.
        weights: As `resampled` yields them.
    """
    first = next(iter(weights.values()))
    shape = (runs.tasks, *values.shape[2:], first.shape[1])
    found = np.zeros(shape, first.dtype)
    for (t, n), weight in weights.items():
        own = runs.sizes[t] == n
        found[t, own] = np.tensordot(values[:n, t, own].astype(weight.dtype), weight, axes=(0, 0))
    return found


def task_means(parts: FloatArray, drawn: Whole) -> FloatArray:
    """Means of the drawn tasks, shape (n_tasks, ..., block).

    Args:
        parts: As `task_parts` returns them, shape (n_tasks, ..., block).
        drawn: The tasks of each resample, shape (n_tasks, block).
    """
    tasks = len(parts)
    times = np.stack([(drawn == t).sum(axis=0) for t in range(tasks)])  # (n_tasks, block)
    between = (1,) * (parts.ndim - 2)
    means = parts * (tasks / np.maximum(times, 1)).reshape(tasks, *between, -1)
    return np.take_along_axis(means, drawn.reshape(tasks, *between, -1), axis=0)


def _numbers(runs: Runs, centre: FloatArray, *, weights: Weights, drawn: Whole) -> FloatArray:
    """Mean, median, interquartile mean and mean of min(x, 1), shape (4, n_techniques, block).

    Sums are of differences from `centre`, shape (4, n_techniques), so that float32 is accurate
    enough.
    """
    mean, median = (task_parts(runs.values - middle, runs, weights) for middle in centre[:2])
    met = task_parts(np.minimum(runs.values, PERFECT) - centre[3], runs, weights)
    middle = np.median(task_means(median, drawn), axis=0)
    iqm = _interquartile(runs, centre[2], weights)
    found = np.stack([mean.sum(axis=0), middle, iqm, met.sum(axis=0)])
    return np.asarray(found + centre[..., None], dtype=np.float64)


def _interquartile(runs: Runs, centre: FloatArray, weights: Weights) -> FloatArray:
    """Interquartile mean minus the centre, shape (n_techniques, block)."""
    starts = np.cumsum([0, *(len(weight) for weight in weights.values())])
    rows = {key: start + np.arange(key[1]) for key, start in zip(weights, starts, strict=False)}
    stacked = np.concatenate(list(weights.values()))
    width = stacked.shape[1]
    found = np.full((centre.size, width), np.nan)
    ascending: dict[int, tuple[FloatArray, Whole]] = {}  # scores, and the rows of their weights
    for k in map(int, np.flatnonzero(runs.sizes.min(axis=0))):
        keys = [(t, int(n)) for t, n in enumerate(runs.sizes[:, k])]
        x = np.concatenate([runs.values[:n, t, k] for t, n in keys]) - centre[k]
        order = np.argsort(x, kind="stable")
        ascending[k] = x[order], np.concatenate([rows[key] for key in keys])[order]
    windows = {k: own for k, (x, _) in ascending.items() if (own := _windows(x.size))}
    # One matrix product for all that needs no cumulative sums: the weight before each window, and
    # the part of the integral between the windows.
    sums = np.zeros((len(windows), 3, len(stacked)), stacked.dtype)
    for own, (k, ((low, high), (far, _))) in zip(sums, windows.items(), strict=True):
        x, order = ascending[k]
        own[0, order[:low]] = own[1, order[:far]] = 1
        own[2, order[:far]] = x[far] - x[np.maximum(np.arange(far), high)]
    products = sums.reshape(-1, len(stacked)) @ stacked
    known = dict(zip(windows, products.reshape(len(windows), 3, width), strict=True))
    for k, (x, order) in ascending.items():
        if k in windows:
            found[k] = _middle_by_windows(x, stacked, order, windows=windows[k], known=known[k])
        else:
            found[k] = _middle(x, stacked[order])
    return found


def _windows(n: int) -> Windows | None:
    """Positions where resamples of n runs are nearly always trimmed: quartile ± 4 sd.

    None if the windows would overlap.
    """
    half = int(np.ceil(4 * np.sqrt(n * 3 / 16)))
    low, high = n // 4, n - n // 4
    if low < half or low + half > high - half or high + half > n - 1:
        return None
    return (low - half, low + half), (high - half, high + half)


def _middle_by_windows(
    x: FloatArray,
    stacked: npt.NDArray[Any],
    order: Whole,
    *,
    windows: Windows,
    known: npt.NDArray[Any],
) -> FloatArray:
    """The same as `_middle`, with cumulative sums of weights only near the quartiles.

    Args:
        x: Ascending scores, shape (n,).
        stacked: Weights of all runs, shape (n_all, block).
        order: Rows of the weights of x, shape (n,).
        windows: Positions near the quartiles.
        known: Weight before each window, and the sum over the steps between the windows of step
            times cumulative weight; shape (3, block).
    """
    cut = (x.size // 4) / x.size
    inside = cut * (x[windows[0][0]] - x[0]) + known[2] + (1 - cut) * (x[-1] - x[windows[1][1]])
    missed = (known[0] > cut) | (known[1] > 1 - cut)
    steps = np.diff(x).astype(stacked.dtype)
    for (begin, end), before, bound in zip(windows, known, (cut, 1 - cut), strict=False):
        weights = stacked[order[begin:end]]
        weights[0] += before
        for i in range(1, len(weights)):
            weights[i] += weights[i - 1]
        missed |= weights[-1] < bound
        inside = inside + steps[begin:end] @ np.clip(weights, cut, 1 - cut)
    found = (x[-1] * (1 - cut) - x[0] * cut - inside) / (1 - 2 * cut)
    if missed.any():
        found[missed] = _middle(x, stacked[:, missed][order])
    return np.asarray(found)


def _middle(x: FloatArray, weights: npt.NDArray[Any]) -> FloatArray:
    """Interquartile mean of ascending scores, shape (n,), with weights of shape (n, block)."""
    cut = (x.size // 4) / x.size
    for i in range(1, x.size):  # cumulative weights; np.cumsum is slower along this axis
        weights[i] += weights[i - 1]
    inside = np.clip(weights[:-1], cut, 1 - cut)
    steps = np.diff(x).astype(weights.dtype)
    return np.asarray((x[-1] * (1 - cut) - x[0] * cut - steps @ inside) / (1 - 2 * cut))
