import numpy as np
import pytest
from scipy import stats

from analysis.statistics.bayes import bayes_signed_rank, correlated_t, masses
from tests.analysis.oracles import oracle


def drawn(differences, rope, samples=100_000):
    rng = np.random.default_rng(0)
    return bayes_signed_rank(np.asarray(differences), rope=rope, samples=samples, rng=rng)


def differences(inputs):
    return np.array(inputs["y"]) - np.array(inputs["x"])


def without_region(found, rope):
    """The library gives two probabilities where there is no region."""
    return [found[0], *([found[1]] if rope else []), found[2]]


@oracle("bayes_signed_rank")
def test_signed_rank_oracle(inputs, check):
    z, rope = differences(inputs), inputs["rope"]
    rng = np.random.default_rng(1)
    mass = masses(z, rope=rope, samples=100_000, rng=rng).mean(axis=0)
    check(probs=without_region(drawn(z, rope), rope), mean_mass_left_rope_right=mass)


@oracle("bayes_correlated_t")
def test_correlated_t_oracle(inputs, check):
    z, rope = differences(inputs), inputs["rope"]
    folds = z.size / inputs["runs"]
    found = correlated_t(z, rope=rope, rho=1 / folds)  # rho / (1 - rho) = 1 / (folds - 1)
    check(probs=without_region(found, rope))
    if "df" in check.wanted:
        sd = np.sqrt(check.want("var"))
        student = stats.t(check.want("df"), check.want("mean"), sd)
        for region in (rope, sd, 3 * sd):
            worse, _, better, _ = correlated_t(z, rope=region, rho=1 / folds)
            wanted = student.cdf(-region), student.sf(region)
            np.testing.assert_allclose((worse, better), wanted, rtol=1e-9)


def test_equal_scores_split_evenly_without_a_rope_and_are_same_with_one():
    assert drawn(np.zeros(5), 0.0, 100)[:3] == (0.5, 0, 0.5)
    assert drawn(np.zeros(5), 0.01, 100)[:3] == (0, 1, 0)


def test_masses_have_their_known_mean():
    """Moments of a Dirichlet: E w_i w_j = a_i a_j / (a (a + 1)), and a_i more on the diagonal."""
    z = np.array([-25, 1, 4, 13, 20, 50])  # thousandths; 20 and the prior's 0 lie on an edge
    a = np.array([0.5, *np.ones(6)])
    weights = (np.outer(a, a) + np.diag(a)) / (a.sum() * (a.sum() + 1))
    sums = np.add.outer([0, *z], [0, *z])
    above, below = (weights[sums > 20].sum(), weights[sums < -20].sum())
    above += weights[sums == 20].sum() / 2
    found = masses(z / 1000, rope=0.01, samples=50_000, rng=np.random.default_rng(0))
    np.testing.assert_allclose(found.mean(axis=0), [below, 1 - below - above, above], atol=2e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_negated_differences_swap_better_and_worse():
    z = np.random.default_rng(2).normal(0.01, 0.01, 12)
    one, other = drawn(z, 0.005, 2000), drawn(-z, 0.005, 2000)
    assert one[:3] == pytest.approx(other[:3][::-1])
    assert one[:3] == pytest.approx(drawn(z * 100, 0.5, 2000)[:3])


def test_order_of_tasks_only_changes_the_draws():
    z = np.random.default_rng(3).normal(0.004, 0.01, 10)
    assert drawn(z, 0.005, 20_000)[:3] == pytest.approx(drawn(z[::-1], 0.005, 20_000)[:3], abs=0.02)


def test_no_posterior_below_five_tasks():
    found = drawn(np.full(4, 0.1), 0.005)
    assert found.reason == "n_too_small"
    assert np.isnan(found[:3]).all()
    assert drawn(np.full(5, 0.1), 0.005).better > 0.99


def test_correlation_increases_uncertainty():
    z = np.random.default_rng(0).normal(0.02, 0.02, 10)
    assert correlated_t(z, rope=0.0, rho=0.3).better < correlated_t(z, rope=0.0, rho=0.0).better


def test_zero_variance_gives_a_point_mass():
    assert correlated_t(np.full(4, 0.02), rope=0.01, rho=0.0)[:3] == (0, 0, 1)
    assert correlated_t(np.full(4, -0.005), rope=0.01, rho=0.0)[:3] == (0, 1, 0)
    assert correlated_t(np.full(4, 0.01), rope=0.01, rho=0.0)[:3] == (0, 0.5, 0.5)
    assert correlated_t(np.array([0.1]), rope=0.01, rho=0.0).reason == "n_too_small"
    with pytest.raises(ValueError, match="rho"):
        correlated_t(np.zeros(3), rope=0.01, rho=1.0)
