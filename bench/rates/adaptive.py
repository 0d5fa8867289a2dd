"""Adaptive seeds: how often the better of two techniques is excluded, by its rival's failures."""

import numpy as np

from analysis.statistics.sequential import look
from rates.common import Rate

PROMISE = "adaptive rule: the best is excluded"
LOOKS = ((4, 20), (4, 6, 9, 13, 20), (13, 20))
FAILING = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
MEAN, LEAD, SD, FLOOR = 0.70, 0.03, 0.018, 0.527
BEFORE = {  # by looks, in the order of FAILING
    (4, 20): (0.0, 0.0, 0.0, 0.312, 0.202, 0.106),
    (4, 6, 9, 13, 20): (0.0, 0.0, 0.0, 0.372, 0.244, 0.126),
    (13, 20): (0.0, 0.0, 0.0, 0.150, 0.068, 0.012),
}


def rates(trials: int) -> list[Rate]:
    """The rival leads by 0.03 where it does not fail; from 15% of failures it is the worse one."""
    found = []
    for looks in LOOKS:
        for failing, before in zip(FAILING, BEFORE[looks], strict=True):
            rng = np.random.default_rng(len(found))
            lost = sum(loses(failing, looks, rng) for _ in range(trials))
            case = f"looks {', '.join(map(str, looks))}; rival fails in {failing:.0%}"
            found.append(Rate(PROMISE, case, lost, trials, bar=0.05, before=before))
    return found


def loses(failing: float, looks: tuple[int, ...], rng: np.random.Generator) -> bool:
    """Whether one block ends with the better technique excluded."""
    size = looks[-1]
    scores = MEAN + np.array([[0.0], [LEAD]]) + SD * rng.standard_normal((2, size))
    failed = np.stack([np.zeros(size, bool), rng.random(size) < failing])
    scores = np.where(failed, FLOOR, scores)
    means = (MEAN, FLOOR + (1 - failing) * (MEAN + LEAD - FLOOR))
    n, found, running = np.zeros(2, int), None, np.ones(2, bool)
    for number, seeds in enumerate(looks):
        n[running] = seeds
        seen = np.where(np.arange(size) < n[:, None], scores, np.nan)
        found = look(seen, failed, FLOOR, looks=looks, number=number, before=found)
        running = np.array(found.status) == "active"
    return found is not None and found.status[int(np.argmax(means))] == "out"
