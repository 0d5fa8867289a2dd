"""The test scores of a configuration that was chosen on dev scores of the same runs."""

import numpy as np

from analysis.statistics.common import BoolArray, FloatArray
from analysis.statistics.location import mean_difference
from analysis.statistics.multiplicity import simultaneous
from analysis.statistics.summary import Scores, summarise
from analysis.statistics.tie_set import Preference, tie_set
from rates.common import Rate

MEAN = "95% CI of mean: contains the test mean of the one chosen"
SPREAD = "95% CI of sd: contains the test sd of the one chosen"
GAIN = "difference from the baseline: its 95% interval contains that of the one chosen"
BAR = 0.95

# Equal configurations, runs of each, the correlation of dev and test over seeds, and the criterion;
# then how often intervals for a configuration fixed in advance contain its mean, sd and gain.
CASES: dict[tuple[int, int, float, Preference], tuple[float | None, float | None, float | None]] = {
    (12, 20, 0.5, "score"): (0.905, 0.952, 0.927),
    (12, 20, 0.9, "score"): (0.755, 0.928, 0.855),
    (12, 10, 0.9, "score"): (0.808, 0.962, 0.883),
    (12, 5, 0.5, "score"): (0.907, 0.958, 0.934),
    (12, 5, 0.9, "score"): (0.833, 0.952, 0.891),
    (12, 3, 0.9, "score"): (0.902, 0.965, 0.919),
    (3, 5, 0.9, "score"): (0.938, 0.945, 0.940),
    (12, 20, 0.9, "stable"): (0.905, 0.825, 0.942),
}


def rates(trials: int) -> list[Rate]:
    """Coverage of the intervals of the configuration that was chosen."""
    found = []
    for (count, n, correlation, prefer), before in CASES.items():
        covered = _covered(count, n, correlation, prefer, trials)
        by = "highest dev mean" if prefer == "score" else "ties broken by dev sd where it is shown"
        case = f"{count} equal configurations, n = {n}, dev–test correlation {correlation}, {by}"
        found += [
            Rate(promise, case, int(hits.sum()), hits.size, BAR, coverage=True, before=earlier)
            for promise, hits, earlier in zip((MEAN, SPREAD, GAIN), covered, before, strict=True)
        ]
    return found


def _covered(
    count: int, n: int, correlation: float, prefer: Preference, trials: int
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Whether the intervals of mean, sd and gain contain 0, 1 and 0, of each trial."""
    rng = np.random.default_rng([count, n, round(10 * correlation), prefer == "stable"])
    names = [str(number) for number in range(count)]  # "0" is the baseline, and has no gain
    nothing = dict.fromkeys(names, 0)
    means, spreads, gains = [], [], []
    for _ in range(trials):
        dev = rng.normal(size=(count, n))
        test = correlation * dev + np.sqrt(1 - correlation**2) * rng.normal(size=(count, n))
        scores = dict(zip(names, dev, strict=True))
        name = tie_set(scores, failures=nothing, seconds=nothing, prefer=prefer).recommended
        own = _cell(test[int(name)])
        found = summarise(own, level=simultaneous(count)).whole
        means.append(found.mean_low <= 0 <= found.mean_high)
        spreads.append(found.sd_low <= 1 <= found.sd_high)
        if name != "0":
            gap, _ = mean_difference(own, _cell(test[0]), simultaneous(count - 1))
            gains.append(gap.low <= 0 <= gap.high)
    return np.array(means), np.array(spreads), np.array(gains)


def _cell(scores: FloatArray) -> Scores:
    none = np.zeros(scores.size, bool)
    return Scores(scores, none, none, np.nan)
