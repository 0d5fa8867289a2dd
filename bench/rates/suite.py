"""Interval of a suite score: coverage with runs of one task and with runs shared by all."""

import numpy as np

from analysis.statistics.intervals import weighted_mean_interval
from rates.common import Rate

PROMISE = "95% CI of a suite score"
TASKS = 6
SIZES = {f"{n} seeds": [n] * TASKS for n in (3, 5, 10, 20)} | {
    "3 to 10 seeds": [3, 4, 5, 6, 8, 10],
    "5 and 20 seeds": [5, 20] * 3,
}
BEFORE = {  # by seeds and whether runs are shared: the stratified bootstrap over tasks
    "3 seeds": (0.926, 0.570),
    "5 seeds": (0.930, 0.614),
    "10 seeds": (0.960, 0.638),
    "20 seeds": (0.944, 0.666),
    "3 to 10 seeds": (0.936, 0.694),
    "5 and 20 seeds": (0.930, 0.696),
}


def rates(trials: int) -> list[Rate]:
    """Coverage by the number of seeds; a shared run has most of its deviation on all tasks."""
    found = []
    for label, sizes in SIZES.items():
        for shared in (False, True):
            rng, covered = np.random.default_rng(len(found)), 0
            for _ in range(trials):
                scores, runs = suite(sizes, shared=shared, rng=rng)
                ends = weighted_mean_interval(scores, runs, [1 / TASKS] * TASKS)
                covered += ends.low < 0 < ends.high
            case = f"{TASKS} tasks, {label}, {'runs shared' if shared else 'separate runs'}"
            before = BEFORE[label][shared]
            found.append(
                Rate(PROMISE, case, covered, trials, bar=0.95, coverage=True, before=before)
            )
    return found


def suite(
    sizes: list[int], *, shared: bool, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[list[str]]]:
    """Scores of each task, with mean 0, and the runs that they are of."""
    common = rng.normal(size=max(sizes))
    scores, runs = [], []
    for task, n in enumerate(sizes):
        own = (1 + task / TASKS) * rng.normal(size=n)
        scores.append(own + 2 * common[:n] if shared else own)
        runs.append([f"{i}" if shared else f"{task} {i}" for i in range(n)])
    return scores, runs
