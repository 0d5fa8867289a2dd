"""The tie set: how often it loses a configuration that is as good as any other."""

import numpy as np

from analysis.statistics.tie_set import tie_set
from rates.common import Rate

PROMISE = "tied: all truly best configurations are among these in 95% of studies"
BAR = 0.05
FLOOR, MEAN, SD = 0.5, 0.75, 0.01

# Sizes by configuration, standard deviations in units of SD, and the rate with tests of the best
# against the others, Holm-adjusted over these.
EQUAL = {
    (count, n): before
    for count, befores in {
        3: (0.037, 0.047, 0.062, 0.073),
        5: (0.045, 0.077, 0.077, 0.103),
        12: (0.06, 0.117, 0.13, 0.145),
        20: (0.06, 0.103, 0.172, 0.17),
    }.items()
    for n, before in zip((3, 5, 10, 20), befores, strict=True)
}
UNEQUAL = (
    ([3, 20] * 6, [1, 1] * 6, 0.132),
    ([3, 20] * 10, [1, 1] * 10, 0.135),
    ([5, 20] * 6, [1, 1] * 6, 0.112),
    ([5, 10, 20] * 4, [3, 1, 1] * 4, 0.067),
    ([3, 5, 20] * 4, [5, 1, 1] * 4, 0.053),
)
# Number of configurations, runs of each, and the failure rate of the first.
FAILING = {
    (2, 20, 0.3): 0.038,
    (12, 20, 0.3): 0.087,
    (2, 20, 0.15): 0.095,
    (12, 20, 0.15): 0.132,
    (2, 10, 0.15): 0.202,
    (2, 5, 0.15): 0.402,
    (12, 5, 0.15): 0.508,
    (2, 3, 0.3): 0.365,
}


def rates(trials: int) -> list[Rate]:
    """How often one of several equally good configurations is not in the tie set."""
    found = []
    for (count, n), before in EQUAL.items():
        case = f"{count} equal configurations, n = {n}"
        found.append(_rate([n] * count, [1] * count, trials, case, before=before))
    for sizes, sds, before in UNEQUAL:
        each = f"n = {', '.join(map(str, sorted(set(sizes))))}"
        spread = f"sd {', '.join(map(str, sds[: len(set(sizes))]))}"
        case = f"{len(sizes)} equal configurations, {each}, {spread}"
        found.append(_rate(sizes, sds, trials, case, before=before))
    for (count, n, rate), before in FAILING.items():
        unseen = (1 - rate) ** n
        case = (
            f"{count} equal configurations, n = {n}, one fails in {rate:.0%} of its runs (shows no "
            f"failure with probability {unseen:.1%}, as the caption says)"
        )
        found.append(
            _rate([n] * count, [1] * count, trials, case, before, rate=rate, bar=BAR + unseen)
        )
    return found


def _rate(
    sizes: list[int],
    sds: list[int],
    trials: int,
    case: str,
    before: float | None,
    *,
    rate: float = 0.0,
    bar: float = BAR,
) -> Rate:
    rng = np.random.default_rng([*sizes, round(100 * rate)])
    count = 0
    nothing = dict.fromkeys(map(str, range(len(sizes))), 0)
    for _ in range(trials):
        drawn = zip(nothing, sizes, sds, strict=True)
        scores = {name: rng.normal(MEAN, SD * sd, n) for name, n, sd in drawn}
        failed = rng.random(sizes[0]) < rate
        good = rng.normal((MEAN - rate * FLOOR) / (1 - rate), SD, sizes[0])
        scores["0"] = np.where(failed, FLOOR, good) if rate else scores["0"]
        count += len(tie_set(scores, failures=nothing, seconds=nothing).members) < len(sizes)
    return Rate(PROMISE, case, count, trials, bar, before=before)
