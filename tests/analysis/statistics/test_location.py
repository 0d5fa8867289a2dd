import numpy as np
import pytest
from scipy import stats

from analysis.statistics.effects import (
    cliffs_delta,
    cohens_d,
    hedges_g,
    improvement,
    magnitude,
    probability_of_improvement,
    wins,
)
from analysis.statistics.estimates import iqm, mean
from analysis.statistics.location import (
    mann_whitney,
    mean_difference,
    paired_permutation,
    paired_t,
    permutation,
    welch,
    wilcoxon,
)
from analysis.statistics.multiplicity import benjamini_hochberg, holm
from analysis.statistics.spread import (
    brown_forsythe,
    f_test,
    fisher,
    fligner_killeen,
    levene,
    pitman_morgan,
    sd_ratio,
    sd_ratio_bootstrap,
)
from analysis.statistics.summary import Scores
from tests.analysis.oracles import EXACT, oracle


def arrays(inputs):
    return np.array(inputs["a"]), np.array(inputs["b"])


@oracle("spread_tests")
def test_spread_oracle(inputs, check):
    groups = [np.array(group) for group in inputs["groups"]]
    found = brown_forsythe(*groups)
    check(brown_forsythe_stat=found.statistic, brown_forsythe_p=found.p)
    found = levene(*groups)
    check(levene_mean_stat=found.statistic, levene_mean_p=found.p)
    found = fligner_killeen(*groups)
    check(fligner_stat=found.statistic, fligner_p=found.p)
    if len(groups) == 2:
        found = f_test(*groups)
        check(F=found.statistic, F_p_two_sided=found.p)


@oracle("pitman_morgan")
def test_pitman_morgan_oracle(inputs, check):
    a, b = arrays(inputs)
    found = pitman_morgan(a, b)
    r = found.statistic
    check(r=r, p=found.p, t=r * np.sqrt((a.size - 2) / (1 - r**2)))


@oracle("fisher_failures")
def test_fisher_oracle(inputs, check):
    (a, ok_a), (b, ok_b) = inputs["table"]
    check(p=fisher((a, a + ok_a), (b, b + ok_b)).p)


@oracle("holm_bh")
def test_multiplicity_oracle(inputs, check):
    p = np.array(inputs["p"], dtype=float)
    check(holm=holm(p), bh=benjamini_hochberg(p))
    check(bonferroni=np.minimum(1, p * p.size))


@oracle("location_tests")
def test_location_oracle(inputs, check):
    a, b = arrays(inputs)
    found = welch(a, b)
    check(welch_t=found.statistic, welch_p=found.p, welch_df=found.df)
    check(perm_exact_p=permutation(a, b).p)
    found = mann_whitney(a, b)
    check(mwu_U=found.statistic, mwu_p=found.p)
    if a.size == b.size:
        found = paired_t(a, b)
        check(paired_t=found.statistic, paired_p=found.p)
        found = wilcoxon(a, b)
        check(wilcoxon_W=found.statistic, wilcoxon_p=found.p)
        check(signflip_exact_p=paired_permutation(a, b).p)


@oracle("effect_sizes")
def test_effect_sizes_oracle(inputs, check):
    a, b = arrays(inputs)
    check(cliffs_delta_sign_a_minus_b=cliffs_delta(a, b), cliffs_delta=cliffs_delta(a, b))
    check(prob_improvement=probability_of_improvement(a, b))
    check(hedges_g=hedges_g(a, b), cohen_d=cohens_d(a, b))


def by_task(inputs):
    """The columns of matrices whose rows are runs."""
    return list(np.array(inputs["x"]).T), list(np.array(inputs["y"]).T)


@oracle("probability_of_improvement_suite")
def test_suite_improvement_oracle(inputs, check):
    found = improvement(*by_task(inputs), resamples=10, rng=np.random.default_rng(0))
    check(value=found.estimate)


@oracle("stratified_bootstrap_poi")
def test_improvement_interval_oracle(inputs, check):
    found = improvement(*by_task(inputs), resamples=20_000, rng=np.random.default_rng(0))
    check.within(EXACT, value=found.estimate)
    check(lo=found.low, hi=found.high)


@oracle("suite_aggregates")
def test_pooled_runs_oracle(inputs, check):
    x = np.array(inputs["x"])
    check(mean=mean(x.ravel()), iqm=iqm(x.ravel()), median=np.median(x.mean(axis=0)))
    check(optimality_gap=1 - mean(np.minimum(x, 1).ravel()))


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


def test_swapped_sd_ratio_is_the_reciprocal():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=12), rng.normal(size=8)
    one, other = sd_ratio(a, b), sd_ratio(b, a)
    assert (one.low, one.high) == (pytest.approx(1 / other.high), pytest.approx(1 / other.low))


def test_bootstrap_ratio_is_close_to_the_exact_one_for_normal_data():
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
        (permutation(ONE, CONSTANT), "n_too_small"),
        (permutation(CONSTANT, CONSTANT), "zero_variance"),
        (paired_permutation(ONE, ONE), "n_too_small"),
        (paired_permutation(CONSTANT, CONSTANT), "zero_variance"),
        (paired_t(ONE, ONE), "n_too_small"),
        (paired_t(CONSTANT, CONSTANT - 0.1), "zero_variance"),
        (mann_whitney(ONE, CONSTANT), "n_too_small"),
        (mann_whitney(NONE, CONSTANT), "n_too_small"),
        (wilcoxon(ONE, ONE), "n_too_small"),
        (wilcoxon(CONSTANT, CONSTANT), "all_tied"),
        (f_test(CONSTANT, np.arange(4.0)), "zero_variance"),
        (levene(CONSTANT, CONSTANT), "zero_variance"),
        (fligner_killeen(CONSTANT, CONSTANT), "zero_variance"),
        (brown_forsythe(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0, 4, 4])), "all_tied"),
        (pitman_morgan(CONSTANT, CONSTANT), "zero_variance"),
        (pitman_morgan(np.arange(2.0), np.arange(2.0)), "n_too_small"),
        (improvement([ONE], [CONSTANT], resamples=9, rng=np.random.default_rng(0)), "n_too_small"),
        (fisher((0, 0), (1, 5)), "n_too_small"),
    ],
)
def test_undefined_results_have_a_reason(found, reason):
    assert found.reason == reason
    assert np.isnan(found.p if hasattr(found, "p") else found.low)


def test_rank_tests_of_many_seeds_match_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.8, 0.02, (2, 60)).round(2)  # ties within, between and in pairs
    ours, theirs = mann_whitney(a, b), stats.mannwhitneyu(a, b)
    assert ours[:2] == (theirs.statistic, pytest.approx(theirs.pvalue))
    ours, theirs = wilcoxon(a, b), stats.wilcoxon(np.round(a - b, 12))
    assert ours[:2] == (theirs.statistic, pytest.approx(theirs.pvalue))
    assert wins(a, b) == sum((x > y) + (x == y) / 2 for x in a for y in b)


def test_ranks_do_not_test_means():
    """Two of ten runs at the floor: the higher median has the lower mean."""
    a = np.array([0.5, 0.5, *np.linspace(0.71, 0.72, 8)])
    b = np.linspace(0.69, 0.70, 10)
    assert probability_of_improvement(a, b) == 0.8
    assert mann_whitney(a, b).p < 0.05
    assert permutation(a, b).statistic < 0


def welch_t(x, y, axis):
    """Absolute; both variances 0 with different means give infinity, as they must."""
    with np.errstate(divide="ignore"):
        found = stats.ttest_ind(x, y, axis=axis, equal_var=False).statistic
    return np.abs(found)


@pytest.mark.parametrize(("n_a", "n_b"), [(3, 3), (3, 10), (2, 20), (5, 5), (6, 7)])
def test_permutation_is_that_of_welch_statistic(n_a, n_b):
    """All relabellings by scipy."""
    rng = np.random.default_rng(n_a)
    a, b = rng.normal(0, 3, n_a), rng.normal(2, 1, n_b)
    exact = stats.permutation_test(
        (a, b), welch_t, n_resamples=np.inf, alternative="greater", vectorized=True
    )
    assert permutation(a, b).p == pytest.approx(exact.pvalue)


def test_permutation_by_hand_where_variances_vanish():
    """Of the ten ways to divide 0 0 1 1 1, only the observed one leaves no variance."""
    assert permutation(np.zeros(2), np.ones(3)).p == pytest.approx(1 / 10)
    assert permutation(np.array([0.0, 1.0]), np.ones(3)).p == pytest.approx(1)
    assert permutation(0.3 + np.zeros(3), np.array([0.1 + 0.2, 0.9, 0.9])).p == pytest.approx(0.4)


def test_random_relabellings_agree_with_exhaustive_ones():
    """16!/(8! 8!) is 12,870, more than are drawn; four standard errors of a share."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 8), rng.normal(0.9, 1, 8)
    exact = stats.permutation_test(
        (a, b), welch_t, n_resamples=np.inf, alternative="greater"
    ).pvalue
    error = np.sqrt(exact * (1 - exact) / 5000)
    assert permutation(a, b).p == pytest.approx(exact, abs=4 * error)
    a, b = rng.normal(size=(2, 12))
    assert permutation(10 + a, b - 10).p == 1 / 5001  # no drawn one is as extreme; never 0


def cell(good, failed, floor=0.5):
    """Scores of a cell: successful runs, and a number of runs that diverged."""
    values = np.array([*good, *[np.nan] * failed], dtype=float)
    lost = np.isnan(values)
    return Scores(values, lost, np.zeros(lost.size, bool), floor)


def test_difference_where_a_run_failed_by_hand():
    """One run at 0.5, and one at each cell's own mean of successful runs, are added to each."""
    good, other = [0.8, 0.82], [0.7, 0.72, 0.74]
    found, test = mean_difference(cell(good, 1), cell(other, 0))
    a, b = [0.5, 0.5, 0.8, 0.81, 0.82], [0.5, 0.7, 0.72, 0.72, 0.74]
    ends = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    exact = stats.permutation_test((a, b), welch_t, n_resamples=np.inf, alternative="greater")
    assert test == "permutation"
    assert found.estimate == pytest.approx((0.5 + 0.8 + 0.82) / 3 - 0.72)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
    assert found.p == pytest.approx(exact.pvalue)
    swapped, _ = mean_difference(cell(other, 0), cell(good, 1))
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))


def test_cells_that_failed_throughout_have_a_difference():
    found, test = mean_difference(cell([], 5), cell(0.8 + 0.01 * np.arange(5), 0))
    assert (test, found.p < 0.05, found.low < found.estimate < found.high) == (
        "permutation",
        True,
        True,
    )
    found, _ = mean_difference(cell([], 3), cell([], 4))
    assert (found.estimate, found.reason) == (0, "zero_variance")
    found, test = mean_difference(cell([], 3, floor=np.nan), cell([0.8, 0.81, 0.82], 0))
    assert (test, found.reason) == ("Welch", "n_too_small")


@pytest.mark.parametrize(
    ("n_a", "n_b", "rates"),
    [(20, 5, (0, 0.5)), (50, 10, (0, 0.3)), (40, 8, (0.1, 0.4)), (20, 3, (0.1, 0.4))],
)
def test_unequal_cells_with_failures_and_equal_means_are_rarely_told_apart(n_a, n_b, rates):
    """At most 7% of 200, and two standard errors; differences of means reject 20% to 40%."""
    rng, rejected = np.random.default_rng(0), 0
    for _ in range(200):
        sides = []
        for n, rate in ((n_a, rates[0]), (n_b, rates[1])):
            failed = int((rng.random(n) < rate).sum())
            sides.append(cell(rng.normal(0.5 + 0.25 / (1 - rate), 0.01, n - failed), failed))
        found, test = mean_difference(*sides)
        rejected += test == "permutation" and found.p < 0.05
    assert rejected / 200 < 0.07 + 2 * np.sqrt(0.07 * 0.93 / 200)


def test_sampled_signs_agree_with_the_t_test_of_normal_differences():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
    p = paired_t(a, b).p
    assert paired_permutation(a, b).p == pytest.approx(p, abs=0.02)


def test_pairing_removes_a_shared_seed_effect():
    rng = np.random.default_rng(4)
    seed = rng.normal(0, 0.05, 12)
    a, b = 0.81 + seed + rng.normal(0, 0.005, 12), 0.80 + seed + rng.normal(0, 0.005, 12)
    assert welch(a, b).p > 0.5
    assert paired_t(a, b).p < 0.01
    assert paired_t(a, b).estimate == pytest.approx(welch(a, b).estimate)


@pytest.mark.parametrize("test", [permutation, brown_forsythe, mann_whitney])
def test_false_positive_rate_is_at_most_alpha(test):
    """Of 400 pairs of equal cells at most 5% and three standard errors."""
    rng = np.random.default_rng(6)
    p = np.array([test(*rng.normal(size=(2, 12))).p for _ in range(400)])
    assert np.mean(p < 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_magnitude_labels_start_at_their_bounds():
    bounds = {0.1469: "negligible", -0.147: "small", 0.33: "medium", -0.474: "large", 1: "large"}
    assert {delta: magnitude(delta) for delta in bounds} == bounds
    assert magnitude(np.nan) == ""


def test_improvement_of_one_task_equals_probability_of_improvement():
    rng = np.random.default_rng(7)
    a, b = rng.normal(0.81, 0.01, 9).round(3), rng.normal(0.8, 0.01, 30).round(3)
    found = improvement([a], [b], resamples=2000, rng=rng)
    assert found.estimate == probability_of_improvement(a, b)
    assert found.low < found.estimate < found.high
    turned = improvement([b], [a], resamples=2000, rng=rng)
    assert turned.low == pytest.approx(1 - found.high, abs=0.03)


def test_improvement_of_counts_equals_that_of_the_resampled_scores():
    from analysis.statistics.effects import counts, resampled_improvement
    from analysis.statistics.resampling import drawn

    rng = np.random.default_rng(8)
    sides = [np.sort(rng.normal(0.8, 0.01, n).round(2)) for n in (6, 9)]  # many ties
    places = [drawn(x.size, resamples=20, rng=rng) for x in sides]
    found = resampled_improvement(*map(counts, sides, places))
    direct = [
        probability_of_improvement(sides[0][p], sides[1][q])
        for p, q in zip(places[0].T, places[1].T, strict=True)
    ]
    np.testing.assert_allclose(found, direct)


def test_constant_cells_have_a_difference():
    assert welch(CONSTANT, CONSTANT + 0.1).estimate == pytest.approx(-0.1)


def test_rounding_noise_is_a_tie():
    assert probability_of_improvement(np.array([0.1 + 0.2]), np.array([0.3])) == 0.5
