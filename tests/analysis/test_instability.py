import numpy as np
import pytest
from scipy import stats

from analysis.statistics.cell import Scores, _iqm, _mean, _median, _sd, summarise
from analysis.statistics.common import stream
from analysis.statistics.estimates import expected_best
from analysis.statistics.intervals import bca_interval, mean_interval, sd_interval, wilson_interval
from analysis.statistics.power import minimum_detectable_ratio


def cell(values, *, diverged=(), collapsed=(), floor=0.5):
    values = np.array(values, dtype=float)
    flags = {
        name: np.isin(np.arange(values.size), at)
        for name, at in (("diverged", diverged), ("collapsed", collapsed))
    }
    return Scores(values=values, floor=floor, **flags)


def summary(scores):
    return summarise(scores, stream("a cell"))


def test_location_and_spread_oracle(oracle):
    for inputs, check in oracle("01_cell_summary"):
        found = summary(cell(inputs["x"]))
        check(mean=found.mean, sd=found.sd, median=found.median, iqm=found.iqm)
        check(min=found.minimum, max=found.maximum)


def test_expected_best_oracle(oracle):
    for inputs, check in oracle("02_expected_max"):
        x, k = np.array(inputs["x"]), inputs["k"]
        if k <= x.size / 2:
            check(E_U=expected_best(x, k))
        else:
            assert np.isnan(expected_best(x, k))


def test_parametric_intervals_oracle(oracle):
    for inputs, check in oracle("03_ci_parametric"):
        x = np.array(inputs["x"])
        mean, sd = mean_interval(x), sd_interval(x)
        check(t_lo=mean.low, t_hi=mean.high, sd_lo=sd.low, sd_hi=sd.high)


def test_wilson_oracle(oracle):
    for inputs, check in oracle("04_failure_rate"):
        found = wilson_interval(inputs["k"], inputs["n"])
        check(wilson_lo=found.low, wilson_hi=found.high)


def test_bca_oracle(oracle):
    statistics = {"mean": _mean, "sd": _sd, "median": _median}
    for inputs, check in oracle("05_bootstrap", "bootstrap_ci"):
        found = bca_interval(
            np.array(inputs["x"]),
            statistics[inputs["statistic"]],
            resamples=inputs["n_resamples"],
            rng=np.random.default_rng(1),
        )
        check(BCa_lo=found.low, BCa_hi=found.high)


def test_bca_agrees_with_scipy_on_the_interquartile_mean():
    x = np.random.default_rng(0).normal(size=30)
    theirs = stats.bootstrap((x,), _iqm, method="BCa", n_resamples=20_000, rng=2)
    found = bca_interval(x, _iqm, resamples=20_000, rng=np.random.default_rng(3))
    width = np.ptp(theirs.confidence_interval)
    np.testing.assert_allclose(found[:2], theirs.confidence_interval, rtol=0, atol=0.06 * width)


def test_detectable_ratio_oracle(oracle):
    for inputs, check in oracle("16_power", "n_per_group_F_sd_ratio"):
        n = check.expected["n"]  # the smallest n that shows the ratio
        assert minimum_detectable_ratio(n) <= inputs["sd_ratio"]
        assert minimum_detectable_ratio(n - 1) > inputs["sd_ratio"]


def test_failed_runs_by_hand():
    """0.7 and 0.9 completed, one diverged (enters as 0.5), one collapsed at 0.4, one missing."""
    found = summary(cell([0.7, 0.9, np.nan, 0.4, np.nan], diverged=[2], collapsed=[3]))
    assert (found.n, found.missing, found.diverged, found.collapsed) == (4, 1, 1, 1)
    assert found.mean == pytest.approx((0.7 + 0.9 + 0.5 + 0.4) / 4)
    assert (found.clean_n, found.clean_mean) == (2, pytest.approx(0.8))
    assert found.clean_sd == pytest.approx(0.2 / np.sqrt(2))
    assert found.failure_rate == 0.5
    assert np.isnan(found.sd_low)
    assert found.sd_reason == "n_too_small"


def test_mixture_identity():
    """Mean and variance of all runs follow from rate, floor and the runs that did not fail."""
    good = np.array([0.70, 0.72, 0.69, 0.71, 0.68, 0.73])
    found = summary(cell([*good, np.nan, np.nan], diverged=[6, 7], floor=0.5))
    p = found.failure_rate
    assert found.mean == pytest.approx(p * 0.5 + (1 - p) * good.mean())
    variance = (1 - p) * good.var() + p * (1 - p) * (good.mean() - 0.5) ** 2
    assert found.sd**2 * 7 / 8 == pytest.approx(variance)


def test_an_unknown_floor_is_said():
    found = summary(cell([0.7, 0.8, np.nan], diverged=[2], floor=np.nan))
    assert (found.n, found.missing, found.mean_reason) == (2, 0, "non_finite")


def test_which_interval_by_default():
    rng = np.random.default_rng(0)
    x = rng.normal(0.8, 0.01, 60)
    assert summary(cell(x)).mean_method == "t"
    assert summary(cell(x)).sd_method == "chi-square"
    assert summary(cell(x, collapsed=[0])).mean_method == "BCa"
    assert summary(cell(x, collapsed=[0])).sd_method == "BCa"
    assert summary(cell(x[:20], collapsed=[0])).mean_method == "t"
    assert summary(cell(x[:19], collapsed=[0])).sd_method == ""
    assert np.isnan(summary(cell(x[:9])).median_low)
    assert summary(cell(x[:10])).median_low < summary(cell(x[:10])).median_high


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_no_scores_give_nan_not_an_error(values):
    found = summary(cell(values))
    assert found.n == 0
    assert np.isnan([found.mean, found.sd, found.median, found.iqm, found.minimum]).all()
    assert np.isnan(found.failure_rate)
    assert (found.mean_reason, found.sd_reason) == ("n_too_small", "n_too_small")


def test_one_seed_has_no_scatter():
    found = summary(cell([0.8]))
    assert found.mean == 0.8
    assert np.isnan([found.sd, found.mean_low, found.sd_low]).all()


def test_constant_scores_have_exactly_no_scatter():
    found = summary(cell([0.1 + 0.2, 0.3, 0.3] * 4))
    assert (found.sd, found.sd_reason, found.median_low) == (0.0, "zero_variance", found.median)


def test_all_diverged_lie_on_the_floor():
    found = summary(cell([np.nan] * 5, diverged=range(5)))
    assert (found.mean, found.sd, found.failure_rate, found.clean_n) == (0.5, 0.0, 1.0, 0)


def test_order_of_runs_does_not_matter():
    x = np.random.default_rng(1).normal(0.8, 0.02, 12)
    assert summary(cell(x)) == summary(cell(x[::-1]))


def test_rescaling_rescales():
    x = np.random.default_rng(1).normal(0.8, 0.02, 12)
    one, other = summary(cell(x)), summary(cell(3 * x - 1))
    for field in ("mean", "mean_low", "median_low", "iqm_high", "minimum", "highest_of_3"):
        assert getattr(other, field) == pytest.approx(3 * getattr(one, field) - 1)
    for field in ("sd", "sd_low", "sd_high"):
        assert getattr(other, field) == pytest.approx(3 * getattr(one, field))


def test_streams_differ_by_key_and_repeat():
    assert stream("a", "b").random() == stream("a", "b").random()
    assert stream("a", "b").random() != stream("ab").random()


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match=r"k = 0"):
        expected_best(np.array([0.5]), 0)
    with pytest.raises(ValueError, match=r"count = 3"):
        wilson_interval(3, 2)
