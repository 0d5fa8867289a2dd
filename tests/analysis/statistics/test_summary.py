import numpy as np
import pytest
from scipy import stats

from analysis.statistics.common import N_BOOT, stream
from analysis.statistics.estimates import (
    best_weights,
    cv,
    expected_best,
    expected_best_of_these,
    expected_worst,
    iqm,
    iqm_weights,
    iqr,
    mad,
    mean,
    mean_weights,
    median,
    median_weights,
    quantiles,
    sd,
)
from analysis.statistics.intervals import (
    bca_interval,
    clopper_pearson_interval,
    mean_interval,
    percentile_interval,
    sd_interval,
    wilson_interval,
)
from analysis.statistics.resampling import drawn, left_out, sd_left_out, shared
from analysis.statistics.summary import Scores, summarise
from tests.analysis.oracles import oracle


def cell(values, *, diverged=(), collapsed=(), floor=0.5):
    values = np.array(values, dtype=float)
    flags = {
        name: np.isin(np.arange(values.size), at)
        for name, at in (("diverged", diverged), ("collapsed", collapsed))
    }
    return Scores(values=values, floor=floor, **flags)


def view(scores):
    return summarise(scores).whole


@oracle("cell_summary")
def test_location_and_spread_oracle(inputs, check):
    x = np.array(inputs["x"])
    found = view(cell(x))
    check(mean=found.mean, sd=found.sd, median=found.median, iqm=found.iqm)
    check(min=found.minimum, max=found.maximum, mad_raw=found.mad, cv=found.cv)
    check(mean=mean(x), sd=sd(x), median=median(x), iqm=iqm(x), cv=cv(x))
    check(mad_raw=mad(x), mad_normal=1.482602218505602 * mad(x), iqr=iqr(x))
    check(sd0=np.sqrt((x.size - 1) / x.size) * sd(x) if x.size > 1 else 0.0)


@oracle("expected_max")
def test_expected_best_oracle(inputs, check):
    x, k = np.array(inputs["x"]), inputs["k"]
    check(E_V=expected_best_of_these(x, k))
    if k <= x.size:
        check(E_U=best_weights(x.size, k) @ np.sort(x))
    if k <= x.size / 2 or k > x.size:
        check(E_U=expected_best(x, k))
    else:
        assert np.isnan(expected_best(x, k))  # too few largest scores to rest on


def test_best_and_worst_mirror_each_other():
    x = np.random.default_rng(0).normal(size=11)
    for k in (1, 2, 5):
        assert expected_worst(x, k) == -expected_best(-x, k)
        assert expected_worst(x, k) - 1e-12 <= x.mean() <= expected_best(x, k) + 1e-12
        assert expected_best_of_these(x, k) <= expected_best(x, k) + 1e-12
    assert expected_best(x, 1) == pytest.approx(x.mean())
    assert np.isnan(expected_best_of_these(np.array([]), 2))


def test_quantiles_by_hand():
    """Of 0, 1, 2, 3 the quartiles lie at 0.75 and 2.25."""
    x = np.arange(4.0)
    np.testing.assert_allclose(quantiles(x, (0, 0.25, 0.75, 1)), [0, 0.75, 2.25, 3])
    assert iqr(x) == 1.5
    assert np.isnan(quantiles(np.array([]), (0.5,))).all()


def test_cv_is_undefined_at_zero():
    assert np.isnan(cv(np.array([-0.1, 0.2])))
    assert np.isnan(cv(np.array([0.0, 0.2])))
    assert cv(np.array([-0.1, -0.3])) == pytest.approx(np.sqrt(2) / 2)
    found = view(cell([0.4, 0.5, 0.6], floor=0.0))  # a constant predictor scores 0, as under MCC
    assert (np.isnan(found.cv), found.cv_reason) == (True, "not_identified")
    assert view(cell([0.5])).cv_reason == "n_too_small"
    assert view(cell([0.4, 0.5, 0.6])).cv == pytest.approx(0.2)


@oracle("ci_mean_t_and_sd_chi2")
def test_parametric_intervals_oracle(inputs, check):
    x = np.array(inputs["x"])
    mean, sd = mean_interval(x), sd_interval(x)
    check(t_lo=mean.low, t_hi=mean.high, sd_lo=sd.low, sd_hi=sd.high)


@oracle("failure_rate_ci")
def test_wilson_oracle(inputs, check):
    found = wilson_interval(inputs["k"], inputs["n"])
    check(wilson_lo=found.low, wilson_hi=found.high)
    found = clopper_pearson_interval(inputs["k"], inputs["n"])
    check(cp_lo=found.low, cp_hi=found.high)


def test_no_runs_give_the_full_interval():
    for interval in (wilson_interval, clopper_pearson_interval):
        assert interval(0, 0)[:2] == (0.0, 1.0)
        assert interval(0, 0).reason == "n_too_small"


def resampled(x, resamples, seed):
    return np.sort(x)[drawn(x.size, resamples=resamples, rng=np.random.default_rng(seed))]


def replicates_of(statistic, x, *, resamples):
    """Estimate, replicates and jackknife of a statistic by its name."""
    drawn_scores = resampled(x, resamples, 1)
    if statistic == "sd":
        return sd(x), drawn_scores.std(axis=0, ddof=1), sd_left_out(np.sort(x))
    weights = {"mean": mean_weights, "median": median_weights, "iqm": iqm_weights}[statistic]
    of_all, of_fewer = weights(x.size), weights(x.size - 1)
    return of_all @ np.sort(x), of_all @ drawn_scores, left_out(np.sort(x), of_fewer)


@oracle("bootstrap_ci")
def test_bootstrap_interval_oracle(inputs, check):
    x = np.array(inputs["x"])
    made = replicates_of(inputs["statistic"], x, resamples=inputs["n_resamples"])
    found = bca_interval(*made)
    check(BCa_lo=found.low, BCa_hi=found.high)
    found = percentile_interval(made[1])
    check(percentile_lo=found.low, percentile_hi=found.high)
    check(basic_lo=2 * made[0] - found.high, basic_hi=2 * made[0] - found.low)


@oracle("bootstrap_exact_distribution")
def test_resampling_oracle(inputs, check):
    """Against all n ** n resamples; within four standard errors."""
    resamples = 100_000
    x = np.array(inputs["x"])
    own, found, _ = replicates_of(inputs.get("statistic", "mean"), x, resamples=resamples)
    sd = check.want("boot_sd")
    check.within(4 * sd / np.sqrt(resamples), boot_mean=found.mean())
    check.within(0.02 * sd, boot_sd=found.std())
    gap = np.round(found - own, 12)
    check.within(0.007, p_below_mean=(gap < 0).mean(), p_equal_mean=(gap == 0).mean())
    check.within(0.007, p_zero=(np.round(found, 12) == 0).mean())


@pytest.mark.parametrize("n", [4, 5, 10, 11, 12, 13])
def test_closed_form_jackknife_values(n):
    x = np.sort(np.random.default_rng(n).normal(size=n))
    without = [np.delete(x, i) for i in range(n)]
    for weights, direct in (
        (mean_weights, np.mean),
        (median_weights, np.median),
        (iqm_weights, lambda y: stats.trim_mean(y, 0.25)),
    ):
        np.testing.assert_allclose(left_out(x, weights(n - 1)), [direct(y) for y in without])
    np.testing.assert_allclose(sd_left_out(x), [y.std(ddof=1) for y in without])


def test_resamples_are_shared_by_size_and_drawn_once():
    assert shared(12) is shared(12)
    assert shared(12).shape == (12, N_BOOT)
    assert (np.diff(shared(12), axis=0) >= 0).all()
    counts = np.bincount(shared(12).ravel())
    np.testing.assert_allclose(counts / N_BOOT, 1, atol=0.06)


def test_bca_agrees_with_scipy_on_the_interquartile_mean():
    x = np.random.default_rng(0).normal(size=30)

    def trimmed(y, axis):
        return stats.trim_mean(y, 0.25, axis=axis)

    theirs = stats.bootstrap((x,), trimmed, method="BCa", n_resamples=20_000, rng=2)
    found = bca_interval(*replicates_of("iqm", x, resamples=20_000))
    width = np.ptp(theirs.confidence_interval)
    np.testing.assert_allclose(found[:2], theirs.confidence_interval, rtol=0, atol=0.06 * width)


def test_failed_runs_by_hand():
    """0.7 and 0.9 completed, one diverged (enters as 0.5), one collapsed at 0.4, one missing."""
    found = summarise(cell([0.7, 0.9, np.nan, 0.4, np.nan], diverged=[2], collapsed=[3]))
    assert (found.missing, found.diverged, found.collapsed) == (1, 1, 1)
    assert (found.whole.n, found.whole.mean) == (4, pytest.approx((0.7 + 0.9 + 0.5 + 0.4) / 4))
    assert (found.clean.n, found.clean.mean) == (2, pytest.approx(0.8))
    assert found.clean.sd == pytest.approx(0.2 / np.sqrt(2))
    assert found.failure_rate == 0.5
    assert np.isnan(found.whole.sd_low)
    assert found.whole.sd_reason == "n_too_small"


def test_without_failures_both_views_are_equal():
    found = summarise(cell([0.7, 0.9, 0.8]))
    assert found.clean is found.whole


def test_clean_view_equals_the_view_without_failed_runs():
    x = np.random.default_rng(4).normal(0.8, 0.02, 30)
    found = summarise(cell([*x, np.nan, 0.5], diverged=[30], collapsed=[31]))
    assert found.clean == view(cell(x))
    assert found.whole.minimum == 0.5


def test_mixture_identity():
    """Mean and variance of all runs follow from rate, floor and the runs that did not fail."""
    good = np.array([0.70, 0.72, 0.69, 0.71, 0.68, 0.73])
    found = summarise(cell([*good, np.nan, np.nan], diverged=[6, 7], floor=0.5))
    p = found.failure_rate
    assert found.whole.mean == pytest.approx(p * 0.5 + (1 - p) * good.mean())
    variance = (1 - p) * good.var() + p * (1 - p) * (good.mean() - 0.5) ** 2
    assert found.whole.sd**2 * 7 / 8 == pytest.approx(variance)


def test_unknown_floor_is_reported():
    found = summarise(cell([0.7, 0.8, np.nan], diverged=[2], floor=np.nan))
    assert (found.whole.n, found.missing, found.whole.mean_reason) == (2, 0, "non_finite")


def test_default_intervals():
    x = np.random.default_rng(0).normal(0.8, 0.01, 60)
    assert view(cell(x)).mean_method == "t"
    assert view(cell(x)).sd_method == "chi-square"
    assert view(cell(x, collapsed=[0])).mean_method == "BCa"
    assert view(cell(x, collapsed=[0])).sd_method == "BCa"
    assert view(cell(x[:20], collapsed=[0])).mean_method == "t"
    assert view(cell(x[:19], collapsed=[0])).sd_method == ""
    few, enough = view(cell(x[:9])), view(cell(x[:10]))
    assert np.isnan([few.median_low, few.iqm_low, few.highest_of_3_low]).all()
    assert enough.median_low < enough.median_high
    assert enough.lowest_of_3_low < enough.lowest_of_3 < enough.highest_of_3
    assert enough.highest_of_3 < enough.highest_of_3_high


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_no_scores_give_nan_not_an_error(values):
    found = summarise(cell(values))
    own = found.whole
    assert own.n == 0
    assert np.isnan([own.mean, own.sd, own.median, own.iqm, own.minimum, own.q05, own.mad]).all()
    assert np.isnan(found.failure_rate)
    assert (own.mean_reason, own.sd_reason, own.cv_reason) == ("n_too_small",) * 3


def test_one_seed_has_no_sd():
    found = view(cell([0.8]))
    assert found.mean == 0.8
    assert np.isnan([found.sd, found.mean_low, found.sd_low, found.cv]).all()


def test_constant_scores_have_exactly_zero_sd():
    found = view(cell([0.1 + 0.2, 0.3, 0.3] * 4))
    assert (found.sd, found.sd_reason, found.cv) == (0.0, "zero_variance", 0.0)
    assert found.median_low == pytest.approx(found.median)


def test_all_diverged_enter_at_the_floor():
    found = summarise(cell([np.nan] * 5, diverged=range(5)))
    assert (found.whole.mean, found.whole.sd) == (0.5, 0.0)
    assert (found.failure_rate, found.clean.n) == (1.0, 0)


def test_order_of_runs_does_not_matter():
    x = np.random.default_rng(1).normal(0.8, 0.02, 12)
    assert summarise(cell(x)) == summarise(cell(x[::-1]))


def test_scale_equivariance():
    x = np.random.default_rng(1).normal(0.8, 0.02, 12)
    one, other = view(cell(x)), view(cell(3 * x - 1))
    for field in ("mean", "mean_low", "median_low", "iqm_high", "minimum", "q25", "highest_of_3"):
        assert getattr(other, field) == pytest.approx(3 * getattr(one, field) - 1)
    for field in ("sd", "sd_low", "sd_high", "mad"):
        assert getattr(other, field) == pytest.approx(3 * getattr(one, field))
    turned = view(cell(-x))
    assert turned.lowest_of_3 == pytest.approx(-one.highest_of_3)
    assert turned.lowest_of_3_low == pytest.approx(-one.highest_of_3_high, abs=0.002)


COVERAGE = {  # of 95% intervals: (normal, 10% failures) as the specification found them
    ("mean", "t", 5): (0.959, 0.805),
    ("mean", "t", 20): (0.954, 0.868),
    ("sd", "chi-square", 20): (0.951, 0.777),
    ("mean", "BCa", 50): (0.942, 0.947),
    ("sd", "BCa", 20): (0.879, 0.844),
    ("sd", "BCa", 50): (0.928, 0.957),
}


@pytest.mark.parametrize("case", sorted(COVERAGE))
@pytest.mark.parametrize("mixture", [0, 1])
def test_coverage_of_intervals(case, mixture):
    """In 1,000 cells; three standard errors of such a share, and of the specification's."""
    target, method, n = case
    rng = np.random.default_rng([n, mixture])
    x = rng.normal(0.70, 0.02, (1000, n))
    p, floor = (0.1, 0.527) if mixture else (0.0, 0.0)
    x[rng.random(x.shape) < p] = floor
    mean_, variance = (1 - p) * 0.70 + p * floor, (1 - p) * 0.02**2 + p * (1 - p) * 0.173**2
    truth = mean_ if target == "mean" else np.sqrt(variance)
    held = [low <= truth <= high for low, high in (interval_of(target, method, y, rng) for y in x)]
    wanted = COVERAGE[case][mixture]
    error = np.sqrt(wanted * (1 - wanted) * (1 / 1000 + 1 / 2000))
    assert np.mean(held) == pytest.approx(wanted, abs=3 * error + 0.002)


def interval_of(target, method, x, rng):
    if method != "BCa":
        return (mean_interval if target == "mean" else sd_interval)(x)[:2]
    x = np.sort(x)
    drawn_scores = x[drawn(x.size, resamples=500, rng=rng)]
    if target == "mean":
        made = x.mean(), drawn_scores.mean(axis=0), left_out(x, mean_weights(x.size - 1))
    else:
        made = sd(x), drawn_scores.std(axis=0, ddof=1), sd_left_out(x)
    return bca_interval(*made)[:2]


def test_streams_differ_by_key_and_are_reproducible():
    assert stream("a", "b").random() == stream("a", "b").random()
    assert stream("a", "b").random() != stream("ab").random()


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match=r"k = 0"):
        expected_best(np.array([0.5]), 0)
    with pytest.raises(ValueError, match=r"k = 0"):
        expected_best_of_these(np.array([0.5]), 0)
    with pytest.raises(ValueError, match=r"count = 3"):
        wilson_interval(3, 2)
