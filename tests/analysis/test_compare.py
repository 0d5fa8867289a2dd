import numpy as np
import pytest

from analysis.statistics.effects import cliffs_delta, probability_of_improvement
from analysis.statistics.location import permutation, welch
from analysis.statistics.multiplicity import holm
from analysis.statistics.spread import brown_forsythe, fisher, sd_ratio, sd_ratio_bootstrap


def arrays(inputs):
    return np.array(inputs["a"]), np.array(inputs["b"])


def test_brown_forsythe_oracle(oracle):
    for inputs, check in oracle("06_spread_tests", "spread_tests"):
        found = brown_forsythe(*map(np.array, inputs["groups"]))
        check(brown_forsythe_stat=found.statistic, brown_forsythe_p=found.p)


def test_fisher_oracle(oracle):
    for inputs, check in oracle("06_spread_tests", "fisher_failures"):
        (a, ok_a), (b, ok_b) = inputs["table"]
        check(p=fisher((a, a + ok_a), (b, b + ok_b)).p)


def test_holm_oracle(oracle):
    for inputs, check in oracle("07_multiplicity"):
        check(holm=holm(np.array(inputs["p"], dtype=float)))


def test_welch_and_permutation_oracle(oracle):
    for inputs, check in oracle("08_location_tests"):
        a, b = arrays(inputs)
        found = welch(a, b)
        check(welch_t=found.statistic, welch_p=found.p, welch_df=found.df)
        check(perm_exact_p=permutation(a, b, rng=np.random.default_rng(0)).p)


def test_effect_sizes_oracle(oracle):
    for inputs, check in oracle("09_effect_sizes", "effect_sizes"):
        a, b = arrays(inputs)
        check(cliffs_delta_sign_a_minus_b=cliffs_delta(a, b))
        check(prob_improvement=probability_of_improvement(a, b))


def test_welch_interval_by_hand():
    """Means 3 and 2, variances 2.5 over 5 each: se 1, df 8, t quantile 2.306."""
    found = welch(np.arange(1.0, 6), np.arange(0.0, 5))
    assert found.estimate == 1
    assert (found.low, found.high) == (
        pytest.approx(-1.306, abs=1e-3),
        pytest.approx(3.306, abs=1e-3),
    )


def test_sd_ratio_by_hand():
    """Twice the scatter at n = 5 each; F(0.975; 4, 4) is 9.604."""
    x = np.arange(5.0)
    found = sd_ratio(2 * x, x)
    assert found.estimate == pytest.approx(2)
    assert found.low == pytest.approx(2 / np.sqrt(9.604), rel=1e-3)
    assert found.high == pytest.approx(2 * np.sqrt(9.604), rel=1e-3)
    assert found.method == "F"


def test_sd_ratio_turns_round():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=12), rng.normal(size=8)
    one, other = sd_ratio(a, b), sd_ratio(b, a)
    assert (one.low, one.high) == (pytest.approx(1 / other.high), pytest.approx(1 / other.low))


def test_bootstrap_ratio_is_near_the_exact_one_for_normal_data():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 2, 200), rng.normal(0, 1, 200)
    exact, found = sd_ratio(a, b), sd_ratio_bootstrap(a, b, rng=rng)
    np.testing.assert_allclose(found[1:3], exact[1:3], rtol=0.07)
    assert found.method == "bootstrap"


def test_bootstrap_ratio_needs_twenty_scores():
    x = np.random.default_rng(0).normal(size=20)
    assert sd_ratio_bootstrap(x, x[:19], rng=np.random.default_rng(0)).reason == "n_too_small"
    assert sd_ratio_bootstrap(x, x, rng=np.random.default_rng(0)).reason == ""


CONSTANT, ONE, NONE = np.full(4, 0.8), np.array([0.8]), np.array([])


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (welch(CONSTANT, CONSTANT + 0.1), "zero_variance"),
        (welch(ONE, CONSTANT), "n_too_small"),
        (welch(NONE, CONSTANT), "n_too_small"),
        (brown_forsythe(CONSTANT, CONSTANT), "zero_variance"),
        (brown_forsythe(np.array([0.1, 0.2]), np.array([0.1, 0.4])), "n_too_small"),
        (sd_ratio(CONSTANT, np.arange(4.0)), "zero_variance"),
        (sd_ratio(ONE, np.arange(4.0)), "n_too_small"),
        (permutation(ONE, CONSTANT, rng=np.random.default_rng(0)), "n_too_small"),
        (permutation(CONSTANT, CONSTANT, rng=np.random.default_rng(0)), "zero_variance"),
        (fisher((0, 0), (1, 5)), "n_too_small"),
    ],
)
def test_too_little_gives_a_reason_not_a_number(found, reason):
    assert found.reason == reason
    assert np.isnan(found.p if hasattr(found, "p") else found.low)


def test_constant_cells_still_have_a_difference():
    assert welch(CONSTANT, CONSTANT + 0.1).estimate == pytest.approx(-0.1)


def test_rounding_noise_is_a_tie():
    assert probability_of_improvement(np.array([0.1 + 0.2]), np.array([0.3])) == 0.5
