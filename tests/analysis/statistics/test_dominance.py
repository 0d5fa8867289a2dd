from itertools import product

import numpy as np
import pytest

from analysis.statistics.dominance import DOMINATES, almost_stochastic_order, violation_ratio
from tests.analysis.oracles import EXACT, oracle


def order(a, b, *, failed=False, comparisons=1, resamples=4000, seed=0):
    settings = {"failed": failed, "comparisons": comparisons, "resamples": resamples}
    return almost_stochastic_order(a, b, **settings, rng=np.random.default_rng(seed))


def on_a_grid(a, b, dt):
    """As deepsig 1.2.8 adds it up: a Riemann sum that skips its first point in the numerator."""
    t = np.arange(dt, 1, dt)
    x, y = (np.sort(s)[np.ceil(np.round(s.size * t, 9)).astype(int).clip(1) - 1] for s in (a, b))
    square = (x - y) ** 2
    return square[1:][x[1:] < y[1:]].sum() / square.sum() if square.any() else 0.5


@oracle("almost_stochastic_order")
def test_almost_stochastic_order_oracle(inputs, check):
    a, b = np.array(inputs["a"]), np.array(inputs["b"])
    check.within(EXACT, violation_ratio_exact=violation_ratio(a, b))
    for found in (violation_ratio(a, b), on_a_grid(a, b, 0.0005)):
        check.within(0.01, violation_ratio_deepsig_dt0005=found)
    check(eps_min=order(a, b, comparisons=inputs["num_comparisons"]).bound)


def test_by_hand_with_unequal_sizes():
    """0, 3 against 1, 1, 4: steps of 1/3, 1/6, 1/6, 1/3 with gaps -1, -1, 2, -1."""
    a, b = np.array([0.0, 3.0]), np.array([4.0, 1.0, 1.0])
    assert violation_ratio(a, b) == pytest.approx((5 / 6) / (5 / 6 + 4 / 6))


@pytest.mark.parametrize(("n", "m"), product((1, 4, 7), repeat=2))
def test_both_directions_sum_to_one(n, m):
    rng = np.random.default_rng(n * 10 + m)
    a, b = rng.normal(size=n).round(1), rng.normal(size=m).round(1)
    if n != m or (np.sort(a) != np.sort(b)).any():
        assert violation_ratio(a, b) == pytest.approx(1 - violation_ratio(b, a))


def test_invariant_to_order_and_unit_of_scores():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=9), rng.normal(0.3, 2, size=12)
    assert violation_ratio(a[::-1], b) == violation_ratio(a, b)
    assert violation_ratio(5 * a - 2, 5 * b - 2) == pytest.approx(violation_ratio(a, b))


def test_reverse_bound_equals_the_bound_of_swapped_cells():
    """The second scatters more about the same middle, so that neither bound reaches 1."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 150), rng.normal(0, 3, 200)
    one, other = order(a, b), order(b, a)
    assert max(one.bound, one.reverse) < 1
    assert one.bound - one.epsilon == pytest.approx(one.reverse - (1 - one.epsilon))
    assert (other.bound, other.reverse) == pytest.approx((one.reverse, one.bound), abs=0.02)


def test_more_comparisons_widen_the_bound():
    rng = np.random.default_rng(1)
    a, b = rng.normal(1.0, 1, 15), rng.normal(0, 1, 15)
    one, many = order(a, b), order(a, b, comparisons=10)
    assert (many.bound - many.epsilon) / (one.bound - one.epsilon) == pytest.approx(
        2.5758 / 1.6449, rel=1e-3
    )


def test_equal_distributions_give_half_and_few_scores_no_bound():
    same = np.full(6, 0.8)
    assert violation_ratio(same, same) == 0.5
    assert violation_ratio(np.full(3, 0.1 + 0.2), np.full(4, 0.3)) == 0.5  # noise is no gap
    failed = order(np.arange(19.0), np.arange(30.0), failed=True)
    assert (np.isnan(failed.bound), failed.reason) == (True, "n_too_small")
    assert np.isfinite(order(np.arange(20.0), np.arange(30.0), failed=True).bound)
    few = order(np.arange(4.0), np.arange(9.0))
    assert np.isnan([few.bound, few.reverse]).all()
    assert few.reason == "n_too_small"
    assert np.isnan(order(np.array([]), same).epsilon)


@pytest.mark.parametrize(("n", "m", "most"), [(5, 5, 0.07), (20, 20, 0.05), (5, 20, 0.11)])
def test_false_alarms_are_as_rare_as_the_caption_says(n, m, most):
    """Of equal distributions, by the published threshold; the bound of 0.5 gave 17 to 24%."""
    rng = np.random.default_rng(7)
    bounds = [
        order(rng.normal(size=n), rng.normal(size=m), resamples=300, seed=i).bound
        for i in range(300)
    ]
    assert np.mean(np.array(bounds) < DOMINATES) <= most
