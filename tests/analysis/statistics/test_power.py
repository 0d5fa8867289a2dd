"""How many seeds a question needs."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.power import (
    brown_forsythe_power,
    crossing,
    f_power,
    fisher_power,
    minimum_detectable_ratio,
    paired_t_power,
    pooled_sd,
    seeds_for_difference,
    seeds_for_failures,
    seeds_for_paired_difference,
    seeds_for_ratio,
    seeds_for_robust_ratio,
    t_power,
)
from tests.analysis.oracles import oracle


def rng(seed=0):
    return np.random.default_rng(seed)


@oracle("n_per_group_two_sample_t")
def test_two_means_oracle(inputs, check):
    effect, alpha = inputs["effect_size_d"], inputs["alpha"]
    found = crossing(lambda n, d=effect, a=alpha: t_power(n, d, alpha=a), inputs["power"])
    check(n=found)
    whole = seeds_for_difference(effect, 1.0, alpha=alpha, power=inputs["power"])
    assert whole == math.ceil(found)


@oracle("n_pairs_paired_t")
def test_paired_means_oracle(inputs, check):
    effect, alpha = inputs["effect_size_dz"], inputs["alpha"]
    found = crossing(lambda n, d=effect, a=alpha: paired_t_power(n, d, alpha=a), inputs["power"])
    check(n=found)
    whole = seeds_for_paired_difference(effect, 1.0, alpha=alpha, power=inputs["power"])
    assert whole == math.ceil(found)


@oracle("n_per_group_F_sd_ratio")
def test_two_sds_oracle(inputs, check):
    ratio, alpha = inputs["sd_ratio"], inputs["alpha"]
    n = seeds_for_ratio(ratio, alpha=alpha, power=inputs["power"])
    check(n=n, power_at_n=f_power(n, ratio, alpha=alpha))


# What the specification lists, from statsmodels and scipy.
@pytest.mark.parametrize(
    ("effect", "one", "of_eleven"),
    [(0.3, 176, 303), (0.5, 64, 111), (0.75, 29, 51), (1, 17, 30), (1.5, 9, 15), (2.5, 4, 7)],
)
def test_seeds_for_a_difference(effect, one, of_eleven):
    assert seeds_for_difference(effect, 1.0) == one
    assert seeds_for_difference(effect, 1.0, alpha=0.05 / 11) == of_eleven
    assert seeds_for_difference(0.02 * effect, 0.02) == one


@pytest.mark.parametrize(
    ("ratio", "seeds"), [(1.25, 160), (1.5, 50), (2, 19), (2.5, 12), (3, 9), (4, 6)]
)
def test_seeds_for_a_ratio(ratio, seeds):
    assert seeds_for_ratio(ratio) == seeds == seeds_for_ratio(1 / ratio)


@pytest.mark.parametrize(("n", "others"), [(20, 0), (20, 4), (15, 11), (50, 4)])
def test_detectable_ratio_is_found_in_80_percent_by_the_test_that_is_made(n, others):
    """Brown-Forsythe by scipy against a baseline, Holm by hand, beside equal configurations."""
    ratio, draw, found = minimum_detectable_ratio(n, others + 1), rng(3), 0
    for _ in range(400):
        scores = draw.standard_normal((others + 2, n))
        scores[1] *= ratio
        p = stats.levene(scores[[1]], scores[[0]], center="median", axis=1).pvalue[0]
        rest = scores[2:]
        base = np.broadcast_to(scores[0], rest.shape)
        if others:
            rest_p = stats.levene(rest, base, center="median", axis=1).pvalue
            ranked = np.sort([*rest_p, p])
            steps = np.maximum.accumulate(ranked * np.arange(others + 1, 0, -1))
            p = steps[np.flatnonzero(ranked == p)[0]]
        found += p < 0.05
    assert found / 400 == pytest.approx(0.81, abs=0.05)  # Holm's later steps add a little


def test_few_seeds_find_no_ratio_of_spreads():
    """With 3 runs the statistic of two cells cannot become significant; below, there is none."""
    for n, comparisons in ((2, 1), (3, 1), (5, 11)):
        assert np.isnan(minimum_detectable_ratio(n, comparisons))
    assert minimum_detectable_ratio(20, 4) > minimum_detectable_ratio(20) > 2.0  # an F test's


def test_robust_ratio_needs_more_seeds_and_reaches_its_power():
    n = seeds_for_robust_ratio(2.0, rng=rng())
    assert 22 <= n <= 26
    assert seeds_for_robust_ratio(0.5, rng=rng()) == n
    assert brown_forsythe_power(n, 2.0, rng=rng(1)) == pytest.approx(0.8, abs=0.03)


# The specification's own simulation, whose error is some 0.015.
@pytest.mark.parametrize(
    ("ratio", "n", "power"),
    [(2, 5, 0.03), (2, 10, 0.30), (2, 20, 0.73), (2, 30, 0.90), (2, 50, 0.99)]
    + [(1.5, 10, 0.11), (1.5, 20, 0.32), (1.5, 50, 0.72), (3, 10, 0.64), (3, 20, 0.98)],
)
def test_power_of_brown_forsythe(ratio, n, power):
    assert brown_forsythe_power(n, ratio, rng=rng()) == pytest.approx(power, abs=0.045)


def test_simulated_power_matches_scipys_levene():
    drawn = rng(7).standard_normal((2, 4_000, 9))
    p = stats.levene(3 * drawn[0], drawn[1], center="median", axis=1).pvalue
    assert brown_forsythe_power(9, 3.0, rng=rng(7)) == (p < 0.05).mean()


@pytest.mark.parametrize(
    ("rate", "other", "n", "power"),
    [(0, 0.1, 20, 0.04), (0, 0.1, 50, 0.38), (0, 0.2, 20, 0.37), (0, 0.2, 30, 0.57)]
    + [(0, 0.2, 50, 0.95), (0.1, 0.5, 10, 0.30), (0.1, 0.5, 20, 0.74), (0.1, 0.5, 30, 0.91)],
)
def test_power_of_fisher(rate, other, n, power):
    assert fisher_power(n, rate, other) == pytest.approx(power, abs=0.0055)
    assert fisher_power(n, other, rate) == pytest.approx(fisher_power(n, rate, other))


def test_power_of_fisher_by_enumeration_with_scipy():
    wanted = sum(
        stats.binom.pmf(a, 6, 0.2) * stats.binom.pmf(b, 6, 0.9)
        for a in range(7)
        for b in range(7)
        if stats.fisher_exact([[a, 6 - a], [b, 6 - b]]).pvalue < 0.05
    )
    assert fisher_power(6, 0.2, 0.9) == pytest.approx(wanted)


def test_seeds_for_failures_are_minimal():
    n = seeds_for_failures(0.1, 0.5)
    assert fisher_power(n, 0.1, 0.5) >= 0.8
    assert all(fisher_power(k, 0.1, 0.5) < 0.8 for k in range(2, n))
    assert seeds_for_failures(0.0, 1.0) == 4  # 1/35 is the first p below 0.05


@pytest.mark.parametrize(
    "asked",
    [
        lambda: seeds_for_difference(0, 1),
        lambda: seeds_for_paired_difference(1, -1),
        lambda: seeds_for_ratio(1),
        lambda: seeds_for_robust_ratio(0, rng=rng()),
        lambda: seeds_for_failures(0.2, 0.2),
        lambda: seeds_for_failures(0.2, 1.2),
        lambda: seeds_for_failures(0.2, 0.201),
        lambda: seeds_for_difference(1e-6, 1),
    ],
)
def test_invalid_arguments_raise(asked):
    with pytest.raises(ValueError):
        asked()


def test_large_effects_need_two_seeds():
    assert seeds_for_difference(100.0, 1.0) == 2


def test_the_pooled_sd_leaves_out_cells_without_scatter():
    assert pooled_sd(np.array([3.0, 4.0, 0.0, np.nan])) == pytest.approx(np.sqrt(12.5))
    assert np.isnan(pooled_sd(np.array([0.0, np.nan])))
