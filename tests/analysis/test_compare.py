import numpy as np
import pytest

from analysis.statistics.choice import probability_best, tie_set
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


def test_tie_set_oracle(oracle):
    for inputs, check in oracle("17_best_strategy"):
        scores = {name: np.array(x) for name, x in inputs["scores"].items()}
        found = tied(scores)
        others = check.expected["others"]
        assert found.best == check.expected["best"]
        assert sorted(found.members) == sorted(check.expected["tie_set"])
        check(p=[found.p[name] for name in others], p_holm=[found.p_holm[name] for name in others])


def tied(scores, *, failures=None, seconds=None):
    nothing = dict.fromkeys(scores, 0)
    return tie_set(scores, failures=failures or nothing, seconds=seconds or nothing)


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


def test_a_configuration_that_cannot_be_tested_stays_in_the_tie_set():
    found = tied({"A": np.array([0.9, 0.91, 0.92]), "B": np.array([0.1]), "C": NONE})
    assert (found.best, found.members, found.untested) == ("A", ("A", "B"), ("B",))
    assert found.unscored == ("C",)


def test_nothing_with_a_score_has_no_best():
    assert tied({"A": NONE}).recommended == ""


SPREAD = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])


@pytest.mark.parametrize(
    ("scores", "failures", "seconds", "recommended", "decided_by"),
    [
        ({"A": 0.9 + SPREAD, "B": 0.5 + SPREAD}, [0, 0], [1, 1], "A", "higher mean"),
        ({"A": 0.9 + SPREAD, "B": 0.89 + SPREAD}, [1, 0], [1, 2], "B", "lower failure rate"),
        ({"A": 0.9 + SPREAD, "B": 0.89 + SPREAD / 2}, [0, 0], [1, 2], "B", "smaller sd"),
        ({"A": 0.9 + SPREAD, "B": 0.9 + SPREAD}, [0, 0], [2, 1], "B", "lower cost"),
        ({"A": 0.9 + SPREAD, "B": 0.9 + SPREAD}, [0, 0], [1, 1], "A", "name"),
    ],
)
def test_secondary_criteria(scores, failures, seconds, recommended, decided_by):
    found = tied(
        scores,
        failures=dict(zip(scores, failures, strict=True)),
        seconds=dict(zip(scores, seconds, strict=True)),
    )
    assert (found.recommended, found.decided_by) == (recommended, decided_by)


def test_a_rate_that_differs_by_less_than_a_run_decides_nothing():
    scores = {"A": 0.9 + np.tile(SPREAD, 2), "B": 0.9 + SPREAD}
    assert tied(scores, failures={"A": 1, "B": 0}).decided_by == "smaller sd"


def test_probability_best_adds_up_and_separates():
    rng = np.random.default_rng(0)
    scores = {"A": 0.9 + SPREAD, "B": 0.5 + SPREAD, "C": np.array([0.99])}
    found = probability_best(scores, rng)
    assert (found["A"], found["B"]) == (1.0, 0.0)
    assert np.isnan(found["C"])
    equal = probability_best({"A": SPREAD, "B": SPREAD}, rng)
    assert sum(equal.values()) == pytest.approx(1)
    assert equal["A"] == pytest.approx(0.5, abs=0.03)


def test_probability_best_has_the_spread_of_the_mean():
    """B lies one standard error of the difference below A: the normal share is 0.841."""
    a = np.random.default_rng(1).normal(0.8, 0.01, 6)
    b = a - a.std(ddof=1) * np.sqrt(2 / 6)
    found = probability_best({"A": a, "B": b}, np.random.default_rng(0))
    assert found["A"] == pytest.approx(0.841, abs=0.015)


def test_renaming_renames_and_nothing_else():
    rng = np.random.default_rng(5)
    gains = {"A": 0.0, "B": 0.01, "C": 0.05}
    scores = {name: rng.normal(0.8 + gain, 0.01, 7) for name, gain in gains.items()}
    found, renamed = tied(scores), tied({f"x{name}": x for name, x in scores.items()})
    assert tuple(f"x{name}" for name in found.members) == renamed.members
    assert list(found.p_holm.values()) == list(renamed.p_holm.values())
