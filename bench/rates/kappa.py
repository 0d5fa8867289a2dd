"""Fleiss' kappa over seeds: coverage of its jackknife interval, with and without collapsed runs."""

import numpy as np

from analysis.statistics.predictions import class_counts, fleiss_kappa, jackknife_interval
from rates.common import Rate

PROMISE = "95% CI of kappa"
SIZES, EXAMPLES, ALL = (3, 5, 10, 20), 200, 4_000
FAILING = 0.1
BEFORE = {3: 0.743, 5: 0.450, 10: 0.580, 20: 0.843}  # of kappa with collapsed runs, in any case


def rates(trials: int) -> list[Rate]:
    """What the caption says: with no collapsed run kappa without them, else with them."""
    found = []
    for n in SIZES:
        rng = np.random.default_rng(n)
        likely = np.where(rng.random(EXAMPLES) < 0.3, 0.3, 0.05)  # of the rarer answer
        gold = rng.integers(2, size=EXAMPLES)
        truth = {
            some: kappa(answers(ALL, gold, likely, failing=FAILING * some, rng=rng))
            for some in (False, True)
        }
        held = {False: [0, 0], True: [0, 0]}  # covered, and of how many, by whether one collapsed
        for _ in range(trials):
            given = answers(n, gold, likely, failing=FAILING, rng=rng)
            some = bool((np.ptp(given, axis=1) == 0).any())
            left = np.array([kappa(np.delete(given, run, axis=0)) for run in range(n)])
            ends = jackknife_interval(kappa(given), left)
            held[some][0] += ends.low < truth[some] < ends.high
            held[some][1] += 1
        for some, (covered, of) in held.items():
            case = f"{n} seeds, {'some' if some else 'none'} collapsed of {FAILING:.0%}"
            if of and not (some and n < 5):  # there is no interval below five runs
                found.append(
                    Rate(PROMISE, case, covered, of, bar=0.95, coverage=True, before=BEFORE[n])
                )
    return found


def answers(
    runs: int, gold: np.ndarray, likely: np.ndarray, *, failing: float, rng: np.random.Generator
) -> np.ndarray:
    """Answers of two classes, shape (runs, EXAMPLES); a collapsed run gives the first class."""
    given = np.where(rng.random((runs, EXAMPLES)) < likely, 1 - gold, gold)
    given[rng.random(runs) < failing] = 0
    return given


def kappa(given: np.ndarray) -> float:
    """Fleiss' kappa of answers."""
    return fleiss_kappa(class_counts(given, 2))
