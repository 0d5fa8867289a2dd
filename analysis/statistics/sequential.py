"""Seeds a look at a time: which techniques are out, which can wait, which still run.

One block, of techniques that take their seeds from one ordered list. The error that is kept is that
of ever losing a technique whose true mean is the highest. What is known at the end is a set of
techniques and one to use: scatter, and the means of those that stopped early, are not estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from analysis.statistics.common import ALPHA, DECIMALS, BoolArray, FloatArray

FUTILITY = 0.3  # conditional power below which more seeds would hardly separate two techniques
PRIOR_RUNS = 4.0  # that the failure rate of the block counts as, for each technique
WARY = 13  # seeds before which nothing is excluded once a run of the block has failed

Status = Literal["active", "frozen", "out"]


class Moments(NamedTuple):
    """What is known of the mean of each technique; each of shape (n_techniques,).

    Attributes:
        mean: Its estimate; NaN without a run.
        variance: Squared standard error; NaN where it is not known.
        df: Degrees of freedom of that.
    """

    mean: FloatArray
    variance: FloatArray
    df: FloatArray


def conditional_power(
    z: FloatArray | float, share: float, count: int, *, alpha: float = ALPHA
) -> FloatArray:
    """Chance of a significant difference at the end if the trend so far goes on.

    Args:
        z: Normal score of the difference so far.
        share: Share of all seeds that have been run, in (0, 1).
        count: Techniques at the start, at least 2.
        alpha: Two-sided level over all pairs of one technique.

    Source: Lan & Wittes 1988, the B-value under the current trend.
    """
    wanted = special.ndtri(1 - alpha / (2 * (count - 1)))
    return np.asarray(special.ndtr((z / np.sqrt(share) - wanted) / np.sqrt(1 - share)))


@dataclass(frozen=True)
class Look:
    """What one look decides; technique by technique, in the order of the rows given.

    Attributes:
        status: `active` takes seeds up to the next look; `frozen` stays in the tie set without
            more; `out` is worse than another.
        reason: Why, in words.
        p: Smallest p-value of the tests that another is better; NaN if none was made.
        against: Which technique that was, or for survivors the leader; -1 for none.
        conditional_power: Of telling it from the leader at the last look; NaN for the leader, the
            excluded, and at the last look.
        boundary: What p must be below for a technique to go out.
        wary: Whether a run of the block has failed, so that failures are reckoned with.
        leader: Survivor with the highest estimate.
        recommended: Survivor with the highest mean, failed runs at their score.
        finalists: The two survivors with the highest estimates, or the only one: to be run up to
            the last look where one name is wanted, which is then the one with the higher mean.
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
    """Level of each test of a pair at each look.

    Args:
        looks: Seeds per technique at the planned looks, rising; the last is the most.
        count: Techniques at the start, at least 2; those excluded later still count.
        alpha: Chance of ever excluding a technique with the highest mean.

    Returns:
        Shape (n_looks,); over looks and pairs of one technique it adds up to `alpha`.

    Source: Lan & DeMets 1983, spending by the square root of the share of seeds; the looks and
        the pairs by the union bound.
    """
    spent = alpha * np.sqrt(np.asarray(looks) / looks[-1])
    return np.diff(spent, prepend=0.0) / (count - 1)


def plain(scores: FloatArray) -> Moments:
    """Means as they are, for techniques of which no run failed.

    Args:
        scores: Shape (n_techniques, n_seeds); NaN where there is no run.

    Source: Welch 1947.
    """
    n, centre, variance = _moments(scores)
    return Moments(centre, variance / np.where(n > 1, n, np.nan), n - 1)


def two_part(scores: FloatArray, failed: BoolArray, floor: float) -> Moments:
    """Means with the risk of failures that have not been seen yet.

    Each technique's failure rate is drawn towards that of the block, by four runs' worth.

    Args:
        scores: Shape (n_techniques, n_seeds); NaN where there is no run.
        failed: Which of these runs failed, likewise.
        floor: Score of a failed run.

    Source: elementary, a beta prior on the failure rate. A technique below two sound runs has the
        mean variance of the others.
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
    """P-value that the technique of the column is better than that of the row, one-sided.

    Args:
        found: By `plain` or `two_part`.

    Returns:
        Shape (n_techniques, n_techniques); NaN where neither scatters or something is unknown.

    Source: Welch 1947.
    """
    total = found.variance[:, None] + found.variance
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (found.mean - found.mean[:, None]) / np.sqrt(total)
        parts = found.variance**2 / found.df
        df = total**2 / (parts[:, None] + parts)
    return np.where(total > 10.0 ** (-2 * DECIMALS), special.stdtr(df, -t), np.nan)


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
    """Decide which techniques go on.

    Args:
        scores: Runs so far, higher is better, shape (n_techniques, n_seeds), a column per seed in
            the order of the list; NaN where a technique has no such run. A run that crashed is to
            be run again first; a diverged one has its floor as its score.
        failed: Which of these runs failed, likewise.
        floor: Score of a constant answer.
        looks: Seeds per technique at the planned looks, rising; the last is the most.
        number: Which of them this is, from 0.
        before: What the last look decided; None at the first. Once nobody is active, the looks that
            remain are still held, on the runs there are: they can only exclude.
        alpha: Chance of ever excluding a technique with the highest mean.
        futility: Conditional power below which a technique is frozen.

    Raises:
        ValueError: If there are fewer than two techniques, or no such look.

    Source: group-sequential tests with the spending of Lan & DeMets 1983, and stochastic
        curtailment after Lan, Simon & Halperin 1982, which never excludes.
    """
    count = len(scores)
    if count < 2 or not 0 <= number < len(looks):
        raise ValueError(f"look {number} of {len(looks)} at {count} techniques cannot be held.")
    share = looks[number] / looks[-1]
    wary = bool((failed & ~np.isnan(scores)).any())
    boundary = float(spending(looks, count, alpha=alpha)[number])
    found = two_part(scores, failed, floor) if wary else plain(scores)
    p = better(found)
    gone = np.array([before is not None and before.status[i] == "out" for i in range(count)])
    p[gone, :] = p[:, gone] = np.nan
    np.fill_diagonal(p, np.nan)
    smallest = np.nanmin(np.where(np.isnan(p), np.inf, p), axis=1)
    rival = np.argmin(np.where(np.isnan(p), np.inf, p), axis=1)
    excluded = gone.copy()
    if not wary or looks[number] >= WARY:
        excluded |= smallest < boundary
    estimate = np.where(excluded | np.isnan(found.mean), -np.inf, np.round(found.mean, DECIMALS))
    order = np.argsort(-estimate, kind="stable")
    leader = int(order[0])
    power = np.full(count, np.nan)
    if share < 1:
        z = -special.ndtri(p[:, leader])
        power = np.where(excluded, np.nan, conditional_power(z, share, count, alpha=alpha))
    ended = share == 1 or (before is not None and "active" not in before.status)
    active = ~excluded & ~(power < futility) & (not ended)
    if not np.delete(active, leader).any():
        active[leader] = False
    status: list[Status] = [
        "out" if excluded[i] else "active" if active[i] else "frozen" for i in range(count)
    ]
    means = np.where(excluded | np.isnan(scores).all(axis=1), -np.inf, _moments(scores)[1])
    return Look(
        status=tuple(status),
        reason=tuple(
            _reason(status[i], gone=bool(gone[i]), leads=i == leader, ended=ended)
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
    """Seeds that each technique left has at the end of each phase, after which the worst goes out.

    Args:
        count: Techniques, at least 2.
        budget: Runs in all.

    Returns:
        Rising numbers, count - 1 of them; it gives one winner, and no set of equals.

    Source: Audibert et al. 2010.
    """
    weight = 0.5 + sum(1 / i for i in range(2, count + 1))
    left = np.arange(count, 1, -1)
    phases = np.ceil(np.round((budget - count) / (weight * left), DECIMALS))
    return [int(n) for n in phases]


def _reason(status: Status, *, gone: bool, leads: bool, ended: bool) -> str:
    if status == "out":
        return "excluded before" if gone else "another is better"
    if ended:
        return "no more seeds are run"
    if leads:
        return "leads" if status == "active" else "leads, and no other runs"
    return (
        "may be told from the leader" if status == "active" else "level with the leader to the end"
    )


def _moments(scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Runs, mean and sample variance of each row, without NaN; NaN where there are too few."""
    there = ~np.isnan(scores)
    n = there.sum(axis=1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.where(there, scores, 0.0).sum(axis=1) / np.where(n > 0, n, np.nan)
        gaps = np.where(there, scores - centre[:, None], 0.0)
        variance = (gaps**2).sum(axis=1) / np.where(n > 1, n - 1, np.nan)
    return n, centre, variance
