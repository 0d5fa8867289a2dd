from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.aggregate import Runs, aggregate, resampled
from analysis.statistics.profiles import run_profile, task_profile
from tests.analysis.oracles import EXACT, oracle

NAMES = ("mean", "median", "iqm", "optimality_gap")


def found_of(scores, resamples=2000, *, unit="cell", tasks="fixed", seed=0):
    rng = np.random.default_rng(seed)
    return aggregate(scores, unit=unit, tasks=tasks, resamples=resamples, rng=rng)


def suite(runs=8, tasks=6, techniques=3, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0.4, 0.9, (1, tasks, techniques))
    return centres + rng.normal(0, 0.03, (runs, tasks, techniques))


@oracle("stratified_bootstrap")
def test_stratified_bootstrap_oracle(inputs, check):
    x = np.array(inputs["x"])[:, :, None]
    found = found_of(x, inputs["reps"])
    for name in NAMES:
        estimate, low, high = getattr(found, name)[:, 0]
        check.within(EXACT, **{name: estimate})
        check(**{f"{name}_lo": low, f"{name}_hi": high})


@oracle("suite_aggregates")
def test_suite_aggregates_oracle(inputs, check):
    found = found_of(np.array(inputs["x"])[:, :, None], 10)
    check(**{name: getattr(found, name)[0, 0] for name in NAMES})


def test_iqm_of_a_resample_equals_iqm_of_its_runs():
    """Two tasks of three runs: all 27 x 27 resamples listed, against drawn ones."""
    x = np.array([[0.1, 0.5], [0.2, 0.9], [0.6, 0.7]])
    listed = [
        stats.trim_mean([*a, *b], 0.25)
        for a in product(x[:, 0], repeat=3)
        for b in product(x[:, 1], repeat=3)
    ]
    assert len(listed) == 729
    found = found_of(x[:, :, None], 40_000)
    low, high = np.quantile(listed, [0.025, 0.975])
    assert found.iqm[0, 0] == pytest.approx(stats.trim_mean(x.ravel(), 0.25))
    assert found.iqm[1:, 0] == pytest.approx([low, high], abs=0.006)


def test_tasks_weigh_equally_with_unequal_run_counts():
    """Runs 0.2 and 0.4 on one task, 0.6 on the other: halves; the cut quarter is 0 of 3 runs."""
    x = np.array([[0.2, 0.6], [0.4, np.nan]])[:, :, None]
    found = found_of(x, 10)
    assert found.mean[0, 0] == found.median[0, 0] == pytest.approx(0.45)
    assert found.iqm[0, 0] == pytest.approx(0.45)
    more = np.full((8, 2, 1), np.nan)
    more[:8, 0, 0], more[:1, 1, 0] = np.tile([0.2, 0.4], 4), 0.6
    cut = Fraction(2, 9)  # a quarter of nine runs, rounded down; each of eight weighs 1 / 16
    below, above = (Fraction(1, 4) - cut) * Fraction(2, 10), Fraction(1, 4) * Fraction(4, 10)
    middle = (below + above + (Fraction(1, 2) - cut) * Fraction(6, 10)) / (1 - 2 * cut)
    assert found_of(more, 10).mean[0, 0] == pytest.approx(0.45)
    assert found_of(more, 10).iqm[0, 0] == pytest.approx(float(middle))


@pytest.mark.parametrize("unit", ["cell", "seed"])
@pytest.mark.parametrize("tasks", ["fixed", "resampled"])
def test_techniques_do_not_affect_each_other(unit, tasks):
    x = suite()
    x[5:, 2, 1] = x[3:, :, 2] = np.nan
    together = found_of(x, 300, unit=unit, tasks=tasks)
    for k in range(3):
        alone = found_of(x[:, :, [k]], 300, unit=unit, tasks=tasks)
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[:, 0], all_[:, k], rtol=1e-6)


def test_order_of_seeds_does_not_matter():
    x = suite()
    moved = np.random.default_rng(1).permuted(x, axis=0)
    for one, other in zip(found_of(x, 200), found_of(moved, 200), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_scaling_scores_scales_all_but_the_gap():
    x = suite()
    one, other = found_of(x, 200), found_of(3 * x + 100, 200)
    for name in NAMES[:3]:
        np.testing.assert_allclose(getattr(other, name), 3 * getattr(one, name) + 100, rtol=1e-7)


def test_common_seed_effect_needs_resampling_of_whole_seeds():
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 0.03, (20, 1, 1)) + rng.normal(0, 0.005, (20, 8, 1)) + 0.7
    by_cell, by_seed = (found_of(shared, unit=unit).mean[:, 0] for unit in ("cell", "seed"))
    error = shared.mean(axis=1).std() / np.sqrt(20)  # of means over whole rows
    assert by_seed[2] - by_seed[1] == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert by_seed[2] - by_seed[1] > 2 * (by_cell[2] - by_cell[1])


def test_resampled_tasks_add_between_task_variance():
    """Variance of a mean over tasks drawn anew: between their means, plus that within."""
    x = suite(runs=30, tasks=12, techniques=1)
    means = x[..., 0].mean(axis=0)
    within = x[..., 0].var(axis=0).mean() / 30 / 12
    error = np.sqrt(means.var() / 12 + within)
    found = found_of(x, 4000, tasks="resampled").mean[:, 0]
    assert found[2] - found[1] == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_incomplete_rows_are_left_out_if_seeds_are_resampled():
    x = suite(techniques=1)
    x[4, 3] = np.nan
    whole = np.delete(x, 4, axis=0)
    found = found_of(x, 100, unit="seed")
    np.testing.assert_allclose(found.mean, found_of(whole, 100, unit="seed").mean, rtol=1e-6)


def test_no_interval_from_too_few_runs_or_tasks():
    x = suite(runs=3, tasks=4)
    x[1:, 0, 1] = np.nan
    x[:, 1, 2] = np.nan
    found = found_of(x, 50)
    assert np.isfinite(found.iqm[:, 0]).all()
    assert np.isfinite(found.iqm[0, 1])  # one run on a task: an estimate, but it cannot move
    assert np.isnan(found.iqm[1:, 1]).all()
    for number in found:
        assert np.isnan(number[:, 2]).all()
    assert np.isnan(found_of(x, 50, tasks="resampled").mean[1:, 0]).all()  # four tasks


def test_constant_scores_have_zero_width_intervals():
    for number in found_of(np.full((4, 3, 1), 0.7), 50)[:3]:
        np.testing.assert_allclose(number[:, 0], 0.7, rtol=1e-12)


def test_coverage_for_normal_scores():
    """Eight seeds on six tasks; nominal 95%, less what sqrt(7 / 8) takes from the width: 93%."""
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, (8, 6, 400))
    found = found_of(x, 500)
    for name in ("mean", "iqm"):
        _, low, high = getattr(found, name)
        assert 0.90 < ((low < 0) & (high > 0)).mean() < 0.965, name


def profiles_of(x, thresholds, resamples=500):
    x = np.asarray(x)[:, :, None]
    rng = np.random.default_rng(0)
    return [
        profile(x, np.asarray(thresholds), unit="cell", resamples=resamples, rng=rng)[:, 0]
        for profile in (run_profile, task_profile)
    ]


@oracle("performance_profile")
def test_performance_profile_oracle(inputs, check):
    runs, tasks = profiles_of(inputs["x"], inputs["tau"])
    check(run_profile=runs[0], task_mean_profile=tasks[0])


def test_area_under_a_profile_is_the_mean_of_clipped_scores():
    x = suite(techniques=1)[..., 0] * 4 - 2
    assert (x < 0).any()
    assert (x > 1).any()
    clipped = np.clip(x, 0, 1)
    steps = np.unique([0, 1, *clipped.ravel()])
    share = profiles_of(x, steps[:-1])[0][0]
    assert (share * np.diff(steps)).sum() == pytest.approx(clipped.mean())


def test_profile_weighs_tasks_equally():
    x = [[0.2, 0.9], [0.2, np.nan], [0.2, np.nan]]
    for share, _, _ in profiles_of(x, [0.5]):
        assert share == pytest.approx(0.5)


def test_bands_contain_the_share_and_have_binomial_width():
    x = np.random.default_rng(4).uniform(0, 1, (50, 4))
    share, low, high = profiles_of(x, [0.5], 4000)[0]
    assert low <= share <= high
    part = (x > 0.5).mean(axis=0)
    error = np.sqrt((part * (1 - part) / 50).sum()) / 4
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.12)
    for share, low, high in profiles_of(x, np.linspace(0, 1, 21)):
        assert ((low <= share) & (share <= high)).all()
        assert (np.diff(share) <= 0).all()


def test_no_band_from_fewer_than_two_runs():
    runs, tasks = profiles_of([[0.4, 0.6]], [0.5])
    for found in (runs, tasks):
        assert found[0] == 0.5
        assert np.isnan(found[1:]).all()
    assert np.isnan(profiles_of([[0.4, np.nan]], [0.5])[0]).all()


@pytest.mark.parametrize("tasks", ["fixed", "resampled"])
def test_windowed_iqm_equals_iqm_of_the_explicit_resample(tasks):
    scores = np.random.default_rng(0).normal(0.7, 0.1, (100, 8, 1))
    how = {"unit": "cell", "tasks": tasks, "resamples": 300}
    found = aggregate(scores, **how, rng=np.random.default_rng(1))
    runs = Runs.of(scores, "cell")
    pooled = runs.values[:, :, 0].T.ravel()  # task by task, as the weights are stacked
    replicates = []
    for weights, _ in resampled(runs, **how, rng=np.random.default_rng(1)):
        counts = np.rint(800 * np.concatenate(list(weights.values()))).astype(int)
        replicates += [stats.trim_mean(np.repeat(pooled, own), 0.25) for own in counts.T]
    expected = np.quantile(replicates, [0.025, 0.975])
    assert found.iqm[1:, 0] == pytest.approx(expected, abs=1e-6)
