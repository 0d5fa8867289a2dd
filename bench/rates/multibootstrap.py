"""Gain over the baseline with seeds and examples resampled: coverage and one-sided errors."""

import numpy as np

from analysis.statistics.multibootstrap import mean_of, multibootstrap
from rates.common import Rate

SIZES = ((3, 3), (5, 5), (10, 10), (20, 20), (3, 10), (5, 20))
EXAMPLES, RESAMPLES = 200, 300
BEFORE = {  # coverage, and one-sided rejections
    (3, 3): (0.900, 0.076),
    (5, 5): (0.922, 0.072),
    (10, 10): (0.944, 0.046),
    (20, 20): (0.958, 0.046),
    (3, 10): (0.892, 0.104),
    (5, 20): (0.906, 0.062),
}


def rates(trials: int) -> list[Rate]:
    """Two equal techniques, unpaired, whose runs differ in accuracy with an sd of 10 points."""
    found = []
    for number, sizes in enumerate(SIZES):
        rng, covered, rejected = np.random.default_rng(number), 0, 0
        for _ in range(trials):
            sides = [answers(n, rng) for n in sizes]
            both = multibootstrap(*sides, mean_of, paired=False, rng=rng, resamples=RESAMPLES).both
            covered += both.low <= 0 <= both.high
            rejected += both.p < 0.05
        case = f"{sizes[0]} and {sizes[1]} seeds, {EXAMPLES} examples"
        before = BEFORE[sizes]
        found += [
            Rate(
                "95% CI of a gain, both",
                case,
                covered,
                trials,
                bar=0.95,
                coverage=True,
                before=before[0],
            ),
            Rate("p of no gain, one-sided 5%", case, rejected, trials, bar=0.05, before=before[1]),
        ]
    return found


def answers(runs: int, rng: np.random.Generator) -> np.ndarray:
    """Correctness of each run on each example, shape (runs, EXAMPLES)."""
    skill = 0.7 + 0.1 * rng.normal(size=(runs, 1))
    return np.asarray(rng.random((runs, EXAMPLES)) < skill, dtype=np.float64)
