"""How probable is it that one technique is better than another, or practically equal?"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.statistics.common import DECIMALS, FloatArray, constant

PRIOR = 0.5  # weight of the prior's one task, on which both techniques score the same
LEAST_TASKS = 5  # below, the prior decides


class Posterior(NamedTuple):
    """What to believe of a technique against another.

    Attributes:
        worse: Probability that it is worse by more than the region of practical equivalence.
        same: Probability that it lies inside that region.
        better: Probability that it is better by more; the three add up to 1.
        reason: `n_too_small`, all three being NaN; otherwise empty.
    """

    worse: float
    same: float
    better: float
    reason: str


def masses(
    differences: FloatArray, *, rope: float, samples: int, rng: np.random.Generator
) -> FloatArray:
    """Draws from the posterior of where the mean of two tasks' differences lies.

    Args:
        differences: Technique minus other, one per task, higher is better; shape (n_tasks,), no
            NaN.
        rope: Half the width of the region of practical equivalence, in the differences' unit; 0
            for none.
        samples: How many draws.
        rng: Makes them.

    Returns:
        Shape (samples, 3): below the region, inside, above; each row adds up to 1. What lies on
        an edge counts half on each side.

    Source: Benavoli et al. 2014, the Dirichlet process version of the signed-rank test, with the
        prior's task at a difference of 0 and weight 0.5, as in baycomp.
    """
    z = np.concatenate([[0.0], differences])
    weights = rng.dirichlet([PRIOR, *np.ones(differences.size)], size=samples)
    sums = z[:, None] + z  # (n_tasks + 1, n_tasks + 1)
    above = _step(sums - 2 * rope)
    below = _step(-sums - 2 * rope)
    parts = [((weights @ part) * weights).sum(axis=1) for part in (below, above)]
    inside = np.maximum(1 - parts[0] - parts[1], 0) if rope > 0 else np.zeros(samples)
    return np.column_stack([parts[0], inside, parts[1]])


def _step(x: FloatArray) -> FloatArray:
    """1 above 0, a half at 0."""
    return np.heaviside(np.round(x, DECIMALS), 0.5)


def bayes_signed_rank(
    differences: FloatArray, *, rope: float, samples: int, rng: np.random.Generator
) -> Posterior:
    """Is a technique better over tasks, worse, or practically equal?

    Args:
        differences: As for `masses`.
        rope: As for `masses`.
        samples: How many draws.
        rng: Makes them.

    Returns:
        In which share of draws each side, or the region, has the largest mass; draws with equal
        ones are split. None below five tasks.

    Source: Benavoli et al. 2014, 2017. Differs: baycomp gives a draw whose masses are
        equal to the first of them.
    """
    if differences.size < LEAST_TASKS:
        return Posterior(np.nan, np.nan, np.nan, "n_too_small")
    drawn = np.round(masses(differences, rope=rope, samples=samples, rng=rng), DECIMALS)
    largest = drawn == drawn.max(axis=1, keepdims=True)
    worse, same, better = (largest / largest.sum(axis=1, keepdims=True)).mean(axis=0)
    return Posterior(float(worse), float(same), float(better), "")


def correlated_t(differences: FloatArray, *, rope: float, rho: float) -> Posterior:
    """Is a technique better on one task, worse, or practically equal, by paired scores?

    Args:
        differences: Technique minus other, one per seed or fold; shape (n,), no NaN.
        rope: As for `masses`.
        rho: Correlation of the differences: 0 for seeds on a fixed split, the test folds' share
            of the data for cross-validation, whose training sets overlap.

    Returns:
        Probabilities under Student's t with n - 1 degrees of freedom; all of it in one place where
        the differences do not scatter. None below two of them.

    Raises:
        ValueError: If rho is not in [0, 1).

    Source: Nadeau & Bengio 2003; Corani & Benavoli 2015.
    """
    if not 0 <= rho < 1:
        raise ValueError(f"rho = {rho} is not in [0, 1).")
    n = differences.size
    if n < 2:
        return Posterior(np.nan, np.nan, np.nan, "n_too_small")
    centre = float(differences.mean())
    if constant(differences):
        worse, better = (float(_step(np.array(x - rope))) for x in (-centre, centre))
        return Posterior(worse, 1 - worse - better, better, "")
    scale = differences.std(ddof=1) * np.sqrt(1 / n + rho / (1 - rho))
    worse = float(stats.t.cdf(-rope, n - 1, centre, scale))
    better = float(stats.t.sf(rope, n - 1, centre, scale))
    return Posterior(worse, 1 - worse - better, better, "")
