"""Bayesian comparison of two techniques with a region of practical equivalence (ROPE)."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.statistics.common import DECIMALS, FloatArray, constant

PRIOR = 0.5  # weight of the prior's pseudo-observation, a difference of 0
LEAST_TASKS = 5  # with fewer, the prior dominates


class Posterior(NamedTuple):
    """Posterior probabilities of a technique against another.

    Attributes:
        worse: Probability that it is worse by more than the region of practical equivalence.
        same: Probability that the difference lies inside that region.
        better: Probability that it is better by more than that; the three sum to 1.
        reason: `n_too_small`, all three being NaN; otherwise empty.
    """

    worse: float
    same: float
    better: float
    reason: str


def masses(
    differences: FloatArray, *, rope: float, samples: int, rng: np.random.Generator
) -> FloatArray:
    """Draw from the posterior of the Bayesian signed-rank test.

    Each draw gives the probability that the mean difference of two random tasks lies below, inside
    or above the region of practical equivalence.

    Args:
        differences: Technique minus other, one per task, higher is better; shape (n_tasks,), no
            NaN.
        rope: Half the width of the region of practical equivalence, in the differences' unit; 0
            for none.
        samples: Number of posterior draws.
        rng: Generator of the draws.

    Returns:
        Shape (samples, 3): below the region, inside, above; each row sums to 1. A value on an edge
        counts half on each side.

    Source: Benavoli et al. 2014, the signed-rank test with a Dirichlet process prior, whose
        pseudo-observation has difference 0 and weight 0.5, as in baycomp.
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
    """Heaviside step: 0, 1/2 at 0, 1."""
    return np.heaviside(np.round(x, DECIMALS), 0.5)


def bayes_signed_rank(
    differences: FloatArray, *, rope: float, samples: int, rng: np.random.Generator
) -> Posterior:
    """Bayesian signed-rank test over tasks.

    Args:
        differences: As for `masses`.
        rope: As for `masses`.
        samples: Number of posterior draws.
        rng: Generator of the draws.

    Returns:
        Share of the draws in which each of the three regions has the largest mass; ties are split
        equally. NaN below five tasks.

    Source: Benavoli et al. 2014, 2017. Differs: baycomp assigns a draw with equal masses
        to the first of them.
    """
    if differences.size < LEAST_TASKS:
        return Posterior(np.nan, np.nan, np.nan, "n_too_small")
    drawn = np.round(masses(differences, rope=rope, samples=samples, rng=rng), DECIMALS)
    largest = drawn == drawn.max(axis=1, keepdims=True)
    worse, same, better = (largest / largest.sum(axis=1, keepdims=True)).mean(axis=0)
    return Posterior(float(worse), float(same), float(better), "")


def correlated_t(differences: FloatArray, *, rope: float, rho: float) -> Posterior:
    """Bayesian correlated t-test of paired scores on one task.

    Args:
        differences: Technique minus other, one per seed or fold; shape (n,), no NaN.
        rope: As for `masses`.
        rho: Correlation of the differences: 0 for seeds on a fixed split; for cross-validation,
            whose training sets overlap, the test fold's share of the data.

    Returns:
        Probabilities under Student's t with n - 1 degrees of freedom; a point mass if all
        differences are equal. NaN below two differences.

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
