"""Group-sequential comparison of techniques, with elimination and futility stopping.

One block of techniques that take their seeds from one ordered list. The error controlled is that of
ever excluding the technique with the highest true mean. The result is a set of techniques and a
recommended one; spread, and the means of techniques that stopped early, are not estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from analysis.statistics.common import ALPHA, DECIMALS, BoolArray, FloatArray, IntArray

FUTILITY = 0.3  # conditional power below which a technique is frozen
PRIOR_RUNS = 4.0  # weight, in runs, of the block's failure rate as prior for each technique

Status = Literal["active", "frozen", "out"]


class Moments(NamedTuple):
    """Estimated mean of each technique; all of shape (n_techniques,).

    Attributes:
        mean: Estimate; NaN without a run.
        variance: Squared standard error; NaN where unknown.
        df: Degrees of freedom of the variance.
    """

    mean: FloatArray
    variance: FloatArray
    df: FloatArray


def conditional_power(
    z: FloatArray | float, share: float, count: int, *, alpha: float = ALPHA
) -> FloatArray:
    """Conditional power: probability of significance at the last look under the current trend.

    Args:
        z: z score of the difference so far.
        share: Information fraction: share of all seeds that have been run, in (0, 1).
        count: Number of techniques at the start, at least 2.
        alpha: Two-sided level over all pairs of one technique.

    Source: Lan & Wittes 1988, the B-value under the current trend.
    """
    wanted = special.ndtri(1 - alpha / (2 * (count - 1)))
    return np.asarray(special.ndtr((z / np.sqrt(share) - wanted) / np.sqrt(1 - share)))


@dataclass(frozen=True)
class Look:
    """Decisions at one look; one entry per technique, in the order of the rows given.

    Attributes:
        status: `active` gets seeds up to the next look; `frozen` stays in the tie set without
            further seeds; `out` is worse than another.
        reason: Explanation of the status.
        p: Smallest p-value of the tests that another technique is better whatever its failure
            rate (`certainly_better`); NaN without a test.
        against: Index of that technique, or for survivors of the leader; -1 for none.
        conditional_power: Conditional power of a difference from the leader at the last look; NaN
            for the leader, excluded techniques, and at the last look.
        boundary: Level below which p excludes a technique: half of its `spending`; the other half
            is for the limits of the failure rates.
        wary: Whether a run of the block has failed, so that estimates include the failure risk.
        leader: Index of the survivor with the highest estimate.
        recommended: Index of the survivor with the highest mean, failed runs at their score.
        finalists: The two survivors with the highest estimates, or the only one. To select a single
            technique, run both up to the last look and take the higher mean.
    """

    status: tuple[Status, ...]
    reason: tuple[str, ...]
    p: FloatArray
    against: tuple[int, ...]
    conditional_power: FloatArray
    boundary: float
    wary: bool
    leader: int
    recommended: int
    finalists: tuple[int, ...]


def spending(looks: Sequence[int], count: int, *, alpha: float = ALPHA) -> FloatArray:
    """Alpha spending: level of each pairwise test at each look.

    Args:
        looks: Seeds per technique at the planned looks, increasing; the last is the maximum.
        count: Number of techniques at the start, at least 2; excluded ones still count.
        alpha: Probability of ever excluding a technique with the highest mean.

    Returns:
        Shape (n_looks,); sums to `alpha` over looks and pairs of one technique.

    Source: Lan & DeMets 1983, with the square root of the information fraction as spending
        function; looks and pairs combine by the union bound.
    """
    spent = alpha * np.sqrt(np.asarray(looks) / looks[-1])
    return np.diff(spent, prepend=0.0) / (count - 1)


def plain(scores: FloatArray) -> Moments:
    """Sample means with their variances, for techniques without failed runs.

    Args:
        scores: Shape (n_techniques, n_seeds); NaN where there is no run.

    Source: Welch 1947.
    """
    n, centre, variance = _moments(scores)
    return Moments(centre, variance / np.where(n > 1, n, np.nan), n - 1)


def two_part(scores: FloatArray, failed: BoolArray, floor: float) -> Moments:
    """Means of a two-part model, which includes the risk of failures not yet observed.

    Each technique's failure rate is shrunk towards that of the block, which counts as four runs.

    Args:
        scores: Shape (n_techniques, n_seeds); NaN where there is no run.
        failed: Which of these runs failed, same shape.
        floor: Score of a failed run.

    Source: elementary, a beta prior on the failure rate. A technique with fewer than two runs that
        did not fail gets the mean variance of the others.
    """
    runs = (~np.isnan(scores)).sum(axis=1)
    k = (failed & ~np.isnan(scores)).sum(axis=1)
    sound, centre, variance = _moments(np.where(failed, np.nan, scores))
    known = variance[sound > 1]
    variance = np.where(sound > 1, variance, known.mean() if known.size else 0.0)
    drop = np.where(sound > 0, centre, floor) - floor
    rate = (k.sum() + 0.5) / (runs.sum() + 1)
    risk = (k + PRIOR_RUNS * rate) / (runs + PRIOR_RUNS)
    spread = (1 - risk) ** 2 * variance / np.maximum(sound, 1)
    spread += drop**2 * risk * (1 - risk) / (runs + PRIOR_RUNS + 1)
    unknown = np.where(runs > 0, 0.0, np.nan)
    return Moments(floor + (1 - risk) * drop + unknown, spread, np.maximum(sound - 1, 1))


def better(found: Moments) -> FloatArray:
    """One-sided p-values that the technique of the column is better than that of the row.

    Args:
        found: From `plain` or `two_part`.

    Returns:
        Shape (n_techniques, n_techniques); NaN if both variances are 0 or a moment is unknown.

    Source: Welch 1947.
    """
    total = found.variance[:, None] + found.variance
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (found.mean - found.mean[:, None]) / np.sqrt(total)
        parts = found.variance**2 / found.df
        df = total**2 / (parts[:, None] + parts)
    return np.where(total > 10.0 ** (-2 * DECIMALS), special.stdtr(df, -t), np.nan)


def certainly_better(
    scores: FloatArray, failed: BoolArray, floor: float, *, level: float
) -> FloatArray:
    """One-sided p-values that the column is better than the row at the limits of failure rates.

    Few runs without a failure do not show that a technique is safe: of one that fails in 15%, half
    of all blocks of four runs have none. So the technique of the column is taken to fail as often
    as the runs allow, and that of the row as seldom.

    Args:
        scores: Shape (n_techniques, n_seeds); NaN where there is no run.
        failed: Which of these runs failed, same shape.
        floor: Score of a failed run.
        level: One-sided level of the limits for a row: its own, and that of all its rivals.

    Returns:
        Shape (n_techniques, n_techniques); NaN if both variances are 0 or a moment is unknown. The
        error of tests of a row at level a each is at most (n_techniques - 1) a + 2 `level`.

    Source: Clopper & Pearson 1934 for the limits; Welch 1947 for the runs that did not fail. The
        upper limit of a technique without more failures than the row's other rivals is that of all
        these rivals together, which assumes that they are alike; with two techniques it is its
        own. A technique with fewer than two runs that did not fail excludes none, and as a row
        is taken to be as good as the best of the others where it does not fail.
    """
    runs = (~np.isnan(scores)).sum(axis=1)
    k = (failed & ~np.isnan(scores)).sum(axis=1)
    sound, centre, variance = _moments(np.where(failed, np.nan, scores))
    hidden = (runs > 0) & (sound < 2)  # how good it is without failing
    own_best = np.where(hidden, np.max(centre[sound > 1], initial=floor), centre)
    variance = np.where(hidden, 0.0, variance / np.maximum(sound, 1))
    seldom = np.where(k > 0, special.betaincinv(np.maximum(k, 1), runs - k + 1, level), 0.0)
    own = _upper(k, runs, level / (len(scores) - 1))
    k_others, others = k.sum() - k, runs.sum() - runs  # of the row: all its rivals
    together = _upper(k_others, others, level)
    more = k * others[:, None] > k_others[:, None] * runs  # the column than the rivals
    often = np.where(more, own, np.minimum(own, together[:, None]))  # (row, column)
    means = floor + (1 - often) * (np.where(hidden, np.nan, centre) - floor)
    np.fill_diagonal(means, floor + (1 - seldom) * (own_best - floor))
    df = np.maximum(sound - 1, 1)
    return np.array([better(Moments(row, variance, df))[i] for i, row in enumerate(means)])


def _upper(k: IntArray, n: IntArray, level: float) -> FloatArray:
    """One-sided upper Clopper-Pearson limit of a rate."""
    return np.asarray(
        np.where(k < n, special.betaincinv(k + 1, np.maximum(n - k, 1), 1 - level), 1.0)
    )


def look(
    scores: FloatArray,
    failed: BoolArray,
    floor: float,
    *,
    looks: Sequence[int],
    number: int,
    before: Look | None = None,
    alpha: float = ALPHA,
    futility: float = FUTILITY,
) -> Look:
    """Decide at a look which techniques continue.

    Args:
        scores: Runs so far, higher is better, shape (n_techniques, n_seeds), a column per seed in
            the order of the list; NaN where a technique has no such run. Repeat crashed runs
            first; a diverged run has the floor as its score.
        failed: Which of these runs failed, same shape.
        floor: Score of the constant predictor.
        looks: Seeds per technique at the planned looks, increasing; the last is the maximum.
        number: Index of this look, from 0.
        before: Result of the previous look; None at the first. Without an active technique the
            remaining looks still take place on the existing runs; they can only exclude.
        alpha: Probability of ever excluding a technique with the highest mean.
        futility: Conditional power below which a technique is frozen.

    Raises:
        ValueError: If there are fewer than two techniques, or no such look.

    Source: group-sequential tests with the alpha spending of Lan & DeMets 1983; a technique that
        is behind, but not at the limits of the failure rates, is frozen while the leader gets more
        seeds, which is what narrows the limits; stochastic
        curtailment after Lan, Simon & Halperin 1982, which freezes but never excludes.
    """
    count = len(scores)
    if count < 2 or not 0 <= number < len(looks):
        raise ValueError(f"no look {number} of {len(looks)} at {count} techniques.")
    share = looks[number] / looks[-1]
    wary = bool((failed & ~np.isnan(scores)).any())
    levels = spending(looks, count, alpha=alpha) / 2
    boundary, limits = float(levels[number]), (count - 1) * float(levels[number]) / 2
    found = two_part(scores, failed, floor) if wary else plain(scores)
    trend, p = better(found), certainly_better(scores, failed, floor, level=limits)
    gone = np.array([before is not None and before.status[i] == "out" for i in range(count)])
    p[gone, :] = p[:, gone] = np.nan
    np.fill_diagonal(p, np.nan)
    smallest = np.nanmin(np.where(np.isnan(p), np.inf, p), axis=1)
    rival = np.argmin(np.where(np.isnan(p), np.inf, p), axis=1)
    excluded = gone | (smallest < boundary)
    estimate = np.where(excluded | np.isnan(found.mean), -np.inf, np.round(found.mean, DECIMALS))
    order = np.argsort(-estimate, kind="stable")
    leader = int(order[0])
    power = np.full(count, np.nan)
    if share < 1:
        np.fill_diagonal(trend, np.nan)
        z = -special.ndtri(trend[:, leader])
        power = np.where(excluded, np.nan, conditional_power(z, share, count, alpha=alpha))
    ended = share == 1 or (before is not None and "active" not in before.status)
    # Behind whatever further runs of its own show: only the leader's can still exclude it.
    behind = ~excluded & (trend[:, leader] < levels[: number + 1].sum())
    active = ~excluded & ~behind & ~(power < futility) & (not ended)
    if not np.delete(active, leader).any():
        active[leader] = behind.any() and not ended
    status: list[Status] = [
        "out" if excluded[i] else "active" if active[i] else "frozen" for i in range(count)
    ]
    means = np.where(excluded | np.isnan(scores).all(axis=1), -np.inf, _moments(scores)[1])
    return Look(
        status=tuple(status),
        reason=tuple(
            _reason(
                status[i],
                gone=bool(gone[i]),
                leads=i == leader,
                ended=ended,
                behind=bool(behind[i]),
            )
            for i in range(count)
        ),
        p=np.where(np.isinf(smallest), np.nan, smallest),
        against=tuple(
            -1
            if gone[i] or (i == leader and not excluded[i])
            else int(rival[i])
            if excluded[i]
            else leader
            for i in range(count)
        ),
        conditional_power=power,
        boundary=boundary,
        wary=wary,
        leader=leader,
        recommended=int(np.argmax(np.round(means, DECIMALS))),
        finalists=tuple(int(i) for i in order[: min(2, int((~excluded).sum()))]),
    )


def successive_rejects(count: int, budget: int) -> list[int]:
    """Successive rejects: seeds per remaining technique at the end of each phase.

    The worst technique is dropped after each phase. The method yields one winner, not a tie set.

    Args:
        count: Number of techniques, at least 2.
        budget: Total number of runs.

    Returns:
        count - 1 increasing numbers.

    Source: Audibert et al. 2010.
    """
    weight = 0.5 + sum(1 / i for i in range(2, count + 1))
    left = np.arange(count, 1, -1)
    phases = np.ceil(np.round((budget - count) / (weight * left), DECIMALS))
    return [int(n) for n in phases]


def _reason(status: Status, *, gone: bool, leads: bool, ended: bool, behind: bool) -> str:
    if status == "out":
        return "excluded earlier" if gone else "another is better"
    if ended:
        return "no further seeds"
    if behind:
        return "behind, unless the leader fails more often than its runs show"
    if leads:
        return "leads" if status == "active" else "leads; no other is active"
    return (
        "may differ from the leader" if status == "active" else "unlikely to differ from the leader"
    )


def _moments(scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Count, mean and sample variance of each row, ignoring NaN; NaN if there are too few."""
    known = ~np.isnan(scores)
    n = known.sum(axis=1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.where(known, scores, 0.0).sum(axis=1) / np.where(n > 0, n, np.nan)
        gaps = np.where(known, scores - centre[:, None], 0.0)
        variance = (gaps**2).sum(axis=1) / np.where(n > 1, n - 1, np.nan)
    return n, centre, variance
