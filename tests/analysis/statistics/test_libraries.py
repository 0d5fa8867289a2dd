"""Statistics computed by own code, for speed, against the library that has the same one."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from analysis.statistics.effects import probability_of_improvement
from analysis.statistics.estimates import iqm, mad
from analysis.statistics.intervals import student_interval, wilson_interval
from analysis.statistics.location import mann_whitney, paired_t, welch
from analysis.statistics.multiplicity import benjamini_hochberg, holm
from analysis.statistics.predictions import class_counts, fleiss_kappa
from analysis.statistics.spread import brown_forsythe, f_test, levene


@pytest.fixture(params=[(5, 5), (7, 12), (30, 20)])
def cells(request):
    rng = np.random.default_rng(sum(request.param))
    return [rng.normal(0.8, 0.02, n) for n in request.param]


def test_t_interval(cells):
    x = cells[0]
    found = student_interval(x.mean(), stats.sem(x), df=x.size - 1, method="t")
    wanted = stats.t.interval(0.95, x.size - 1, x.mean(), stats.sem(x))
    assert (found.low, found.high) == pytest.approx(wanted, rel=1e-12)


def test_differences_of_means(cells):
    a, b = cells
    n = min(a.size, b.size)
    pairs = (
        (welch(a, b), stats.ttest_ind(a, b, equal_var=False)),
        (paired_t(a[:n], b[:n]), stats.ttest_rel(a[:n], b[:n])),
    )
    for found, wanted in pairs:
        assert (found.statistic, found.p, found.df) == pytest.approx(
            (wanted.statistic, wanted.pvalue, wanted.df), rel=1e-9
        )
        ends = wanted.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((ends.low, ends.high), rel=1e-9)


def test_tests_of_spread(cells):
    a, b = cells
    for found, wanted in (
        (brown_forsythe(a, b), stats.levene(a, b, center="median")),
        (levene(a, b), stats.levene(a, b, center="mean")),
    ):
        assert found[:2] == pytest.approx((wanted.statistic, wanted.pvalue), rel=1e-9)
    f = a.var(ddof=1) / b.var(ddof=1)
    tail = stats.f(a.size - 1, b.size - 1)
    assert f_test(a, b)[:2] == pytest.approx((f, 2 * min(tail.cdf(f), tail.sf(f))), rel=1e-9)


def test_ranks(cells):
    a, b = cells
    wanted = stats.mannwhitneyu(a, b)
    assert mann_whitney(a, b)[:2] == pytest.approx((wanted.statistic, wanted.pvalue), rel=1e-9)
    share = wanted.statistic / (a.size * b.size)
    assert probability_of_improvement(a, b) == pytest.approx(share)


def test_robust_estimates(cells):
    for x in cells:
        assert iqm(x) == pytest.approx(stats.trim_mean(x, 0.25), rel=1e-12)
        assert mad(x) == pytest.approx(stats.median_abs_deviation(x), rel=1e-12)


def test_fleiss_kappa_of_two_runs():
    """It is Cohen's kappa where both runs give each class equally often."""
    rng = np.random.default_rng(0)
    first = rng.integers(3, size=90)
    second = np.where(rng.random(90) < 0.6, first, rng.permutation(first))
    both = np.array([[*first, *second], [*second, *first]])  # each as often as the other
    found = fleiss_kappa(class_counts(both, 3))
    assert found == pytest.approx(cohen_kappa_score(*both), rel=1e-12)


def test_holm_by_hand():
    """0.005 x 4, 0.01 x 3, 0.03 x 2, then 0.04, raised to the 0.06 before it."""
    found = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02])


def test_benjamini_hochberg_of_nan_only():
    assert np.isnan(benjamini_hochberg(np.full(3, np.nan))).all()
    assert benjamini_hochberg(np.empty(0)).size == 0


def test_wilson_interval_accepts_numpy_counts():
    assert wilson_interval(np.int64(3), np.int64(20)) == wilson_interval(3, 20)
