"""Variance components of crossed seeds, and both kinds of resampling together."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from analysis import sources, sources_table, to_text
from analysis.plots.variance import plot_sources
from analysis.statistics.metrics import (
    accuracy,
    brier,
    calibration_error,
    confusion,
    f1,
    log_loss,
    macro_f1,
    matthews,
)
from analysis.statistics.multibootstrap import mean_of, multibootstrap, one_hot_confusion
from analysis.statistics.variance_components import (
    complete_grid,
    components,
    factor_shares,
    one_way,
)
from tests.analysis.conftest import one_run
from tests.analysis.oracles import EXACT, oracle

RNG = np.random.default_rng


def crossed(sds, shape, seed=0):
    """Scores with effects of these sds by factors, such as {(0,): 1.0, (0, 1): 0.5}."""
    rng, y = RNG(seed), np.zeros(shape)
    for axes, sd in sds.items():
        own = [n if axis in axes else 1 for axis, n in enumerate(shape)]
        y = y + sd * rng.normal(size=own)
    return y


def by_factors(found):
    return {part.factors: part for part in found}


@oracle("variance_components")
def test_components_oracle(inputs, check):
    y = np.array(inputs["y"])
    found = by_factors(components(y, ("a", "b"), RNG(0)))
    a, b, ab = found[("a",)], found[("b",)], found[("a", "b")]
    check(MS_a=a.mean_square, MS_b=b.mean_square, MS_ab=ab.mean_square)
    check(var_a=a.variance, var_b=b.variance)
    if y.shape[-1] > 1:
        rest = found[("residual",)]
        check(MS_e=rest.mean_square, var_e=rest.variance, var_ab=ab.variance, F_a=a.f, p_a=a.p)
    else:
        check(var_res=ab.variance, icc2_identity=a.raw_share)
        check(icc2_single_pingouin=a.raw_share)


@oracle("eta_omega_squared")
def test_one_way_oracle(inputs, check):
    levels, y = np.array(inputs["levels"]), np.array(inputs["y"])
    found = one_way([y[levels == level] for level in np.unique(levels)])
    check(eta2=found.eta2, omega2=found.omega2, F=found.f, p=found.p)


@oracle("variance_shares")
def test_factor_shares_oracle(inputs, check):
    found = factor_shares({tuple(effect): v for effect, v in inputs["V"].items()})
    for name, share in found.items():
        check(**{f"S_{name}": share.first, f"T_{name}": share.total})
        check(**{f"phi_{name}": share.shapley})


@oracle("multibootstrap")
def test_multibootstrap_oracle(inputs, check):
    """The oracle's percentiles are those of the standard error without widening, to its noise."""
    gold = np.array(inputs["labels"], dtype=int)
    sides = [np.array(inputs[name], dtype=int) for name in ("pred_expt", "pred_base")]
    ours, theirs = ((side == gold).astype(float) for side in sides)
    settings = {"paired": bool(inputs["paired"]), "rng": RNG(0)}
    found = multibootstrap(ours, theirs, mean_of, **settings)
    check.within(EXACT, point_delta=found.estimate)
    check(boot_mean_delta=found.both.mean, boot_sd_delta=found.both.sd)
    check(delta_lo=found.estimate - 1.96 * found.both.sd)
    check(delta_hi=found.estimate + 1.96 * found.both.sd)
    parts = [one_hot_confusion(side, gold, 2) for side in sides]
    same = multibootstrap(*parts, accuracy, **settings)
    check.within(EXACT, point_delta=same.estimate)
    assert tuple(same.both) == pytest.approx(tuple(found.both), abs=0.01)  # other draws


def test_a_two_by_two_table_by_hand():
    """Means 1.5 and 3.5, 2 and 3, interaction none: squares 4, 1 and 0."""
    found = by_factors(components(np.array([[[1.0], [2.0]], [[3.0], [4.0]]]), ("a", "b"), RNG(0)))
    assert found[("a",)].variance == pytest.approx((4 - 0) / 2)
    assert found[("b",)].variance == pytest.approx((1 - 0) / 2)
    assert found[("a", "b")].variance == pytest.approx(0)
    assert found[("a",)].share == pytest.approx(0.8)


def test_three_factors_by_their_formulas():
    y = crossed({(0,): 2, (1,): 1, (0, 2): 1, (0, 1, 2): 0.5}, (4, 3, 5))
    found = by_factors(components(y[..., None], ("a", "b", "c"), RNG(0)))
    ms = {factors: part.mean_square for factors, part in found.items()}
    a = ms[("a",)] - ms[("a", "b")] - ms[("a", "c")] + ms[("a", "b", "c")]
    assert found[("a",)].variance == pytest.approx(a / 15)
    assert found[("a", "b")].variance == pytest.approx((ms[("a", "b")] - ms[("a", "b", "c")]) / 5)
    assert found[("b", "c")].f == pytest.approx(ms[("b", "c")] / ms[("a", "b", "c")])
    squares = sum(part.mean_square * part.df for part in found.values())
    assert squares == pytest.approx(((y - y.mean()) ** 2).sum())


def test_components_are_unbiased_and_covered():
    """5 x 4 levels, true variances 4, 1 and 1; the share of the first is 2/3."""
    true = {(0,): 2.0, (1,): 1.0, (0, 1): 1.0}
    found = [
        components(crossed(true, (5, 4), seed)[..., None], ("a", "b"), RNG(seed))
        for seed in range(300)
    ]
    mean = np.mean([[part.variance for part in each] for each in found], axis=0)
    np.testing.assert_allclose(mean, [4, 1, 1], rtol=0.2)
    for place, (variance, share) in enumerate(((4, 2 / 3), (1, 1 / 6), (1, 1 / 6))):
        parts = [each[place] for each in found]
        assert np.mean([p.low <= variance <= p.high for p in parts]) > 0.91
        assert np.mean([p.share_low <= share <= p.share_high for p in parts]) > 0.91


def test_renaming_and_rescaling_components():
    y = crossed({(0,): 2, (0, 1): 1}, (5, 6))
    one = by_factors(components(y[..., None], ("a", "b"), RNG(0)))
    other = by_factors(components(3 * y[::-1].T[..., None] + 7, ("b", "a"), RNG(0)))
    for name in "ab":
        assert other[(name,)].variance == pytest.approx(9 * one[(name,)].variance)
        assert other[(name,)].share == pytest.approx(one[(name,)].share)


def test_scores_that_are_all_equal_have_no_shares():
    for part in components(np.full((3, 4, 2), 0.7), ("a", "b"), RNG(0)):
        assert (part.variance, part.low, part.high) == (0, 0, 0)
        assert np.isnan([part.share, part.share_low, part.raw_share, part.p]).all()


def test_factors_that_do_not_cross_are_refused():
    with pytest.raises(ValueError, match="do not cross"):
        components(np.zeros((1, 4, 1)), ("a", "b"), RNG(0))


def test_one_gap_removes_one_level():
    there = np.ones((5, 4), dtype=bool)
    there[2, 3] = False
    rows, columns = complete_grid(np.argwhere(there))
    assert (rows.sum(), columns.sum()) == (4, 4)
    assert not rows[2]


def test_the_grid_has_no_gaps_and_is_mostly_the_largest():
    rng, found = RNG(0), []
    for _ in range(60):
        there = rng.random((5, 5)) > 0.12
        kept = complete_grid(np.argwhere(there))
        assert there[np.ix_(*kept)].all()
        subsets = (np.arange(1, 32)[:, None] >> np.arange(5)) & 1 == 1
        largest = max(rows.sum() * there[rows].all(axis=0).sum() for rows in subsets)
        found.append(kept[0].sum() * kept[1].sum() / largest)
    assert np.mean(found) > 0.97


def test_one_way_without_scatter_or_groups():
    assert one_way([np.ones(3), np.ones(2)]).reason == "zero_variance"
    assert one_way([np.arange(3.0)]).reason == "n_too_small"
    assert one_way([np.ones(1), np.zeros(1)]).reason == "n_too_small"


def test_variance_of_examples_and_seeds_adds_up():
    """Independent answers: variance over seeds p q / (R N), as over examples; both is their sum."""
    rng = RNG(3)
    ours, theirs = ((rng.random((20, 300)) < p).astype(float) for p in (0.8, 0.7))
    found = multibootstrap(ours, theirs, mean_of, paired=False, rng=rng)
    assert found.both.sd > max(found.seeds.sd, found.examples.sd)
    truth = np.sqrt((0.16 + 0.21) / (20 * 300))
    assert found.seeds.sd == pytest.approx(truth, rel=0.3)
    assert found.examples.sd == pytest.approx(truth, rel=0.15)
    assert found.both.low < found.estimate < found.both.high


@pytest.mark.parametrize("sizes", [(3, 3), (2, 6)])
def test_seeds_alone_give_the_t_interval_of_the_runs_scores(sizes):
    """Widened, the bootstrap variance of a mean is s^2 / n: the paired t and Welch's interval."""
    rng = RNG(sum(sizes))
    ours, theirs = (
        (rng.random((n, 50)) < p).astype(float) for n, p in zip(sizes, (0.8, 0.6), strict=True)
    )
    paired = sizes[0] == sizes[1]
    found = multibootstrap(ours, theirs, mean_of, paired=paired, rng=rng, resamples=40_000).seeds
    sides = ours.mean(axis=1), theirs.mean(axis=1)
    if paired:
        wanted = stats.ttest_rel(*sides, alternative="greater")
        ends = stats.ttest_rel(*sides).confidence_interval()
    else:
        wanted = stats.ttest_ind(*sides, equal_var=False, alternative="greater")
        ends = stats.ttest_ind(*sides, equal_var=False).confidence_interval()
    assert found.p == pytest.approx(wanted.pvalue, rel=0.05)
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=0.01)


def test_intervals_over_seeds_and_examples_hold_at_three_seeds():
    """Equal techniques whose runs differ in accuracy; 95% and, of the one-sided test, 5%."""
    rng, covered, rejected = RNG(1), 0, 0
    for _ in range(300):
        skill = 0.8 + 0.03 * rng.normal(size=(2, 3, 1))
        ours, theirs = (rng.random((2, 3, 80)) < skill).astype(float)
        settings = {"paired": False, "rng": rng, "resamples": 200}
        found = multibootstrap(ours, theirs, mean_of, **settings).both
        covered += found.low <= 0 <= found.high
        rejected += found.p < 0.05
    assert covered / 300 > 0.95 - 2 * np.sqrt(0.95 * 0.05 / 300)
    assert rejected / 300 < 0.05 + 2 * np.sqrt(0.95 * 0.05 / 300)


def test_a_gain_without_any_scatter_has_no_p_value():
    found = multibootstrap(np.ones((3, 20)), np.zeros((3, 20)), mean_of, paired=True, rng=RNG(0))
    assert (found.estimate, found.both.low, found.both.high) == (1, 1, 1)
    assert np.isnan(found.both.p)


def test_a_side_compared_with_itself_has_no_difference():
    same = (RNG(0).random((5, 40)) < 0.5).astype(float)
    found = multibootstrap(same, same, mean_of, paired=True, rng=RNG(1), resamples=200)
    assert (found.estimate, found.both.low, found.both.high, found.both.p) == (0, 0, 0, 1)


def test_sides_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="paired"):
        multibootstrap(np.ones((3, 4)), np.ones((2, 4)), mean_of, paired=True, rng=RNG(0))
    with pytest.raises(ValueError, match="cannot be compared with"):
        multibootstrap(np.ones((3, 4)), np.ones((3, 5)), mean_of, paired=False, rng=RNG(0))


def test_matthews_by_examples_resamples_its_counts():
    """Each draw's coefficient is that of the drawn examples, not of their mean."""
    rng = RNG(4)
    gold = rng.integers(2, size=60)
    given = np.where(rng.random((4, 60)) < 0.8, gold, 1 - gold)
    found = multibootstrap(
        one_hot_confusion(given, gold, 2),
        one_hot_confusion(1 - given, gold, 2),
        matthews,
        paired=True,
        rng=RNG(5),
    )
    every = []
    for _ in range(1500):
        drawn = rng.integers(60, size=60)
        every.append(2 * matthews(confusion(given[:, drawn], gold[drawn], 2)).mean())
    assert found.examples.sd == pytest.approx(np.std(every), rel=0.08)
    assert found.estimate == pytest.approx(2 * matthews(confusion(given, gold, 2)).mean())


def test_metrics_agree_with_scikit_learn():
    rng = RNG(0)
    gold = rng.integers(4, size=200)
    given = rng.integers(4, size=(4, 200))
    given[0] = 2  # constant
    given[1][given[1] == 3] = 0  # a class that is never given
    table = confusion(given, gold, 4)
    for ours, theirs in (
        (accuracy, sk.accuracy_score),
        (matthews, sk.matthews_corrcoef),
        (macro_f1, lambda a, b: sk.f1_score(a, b, average="macro", zero_division=0)),
    ):
        np.testing.assert_allclose(ours(table), [theirs(gold, row) for row in given], atol=1e-12)
    two = given // 2
    wanted = [sk.f1_score(gold // 2, row, zero_division=0) for row in two]
    np.testing.assert_allclose(f1(confusion(two, gold // 2, 2)), wanted, atol=1e-12)
    with pytest.raises(ValueError, match="two classes"):
        f1(table)


def test_scores_of_probabilities():
    rng = RNG(0)
    gold = rng.integers(3, size=100)
    given = rng.dirichlet(np.ones(3), size=(2, 100))
    logs = np.log(given)
    wanted = [sk.log_loss(gold, run) for run in given]
    np.testing.assert_allclose(log_loss(logs, gold), wanted, rtol=1e-9)
    squares = [((run - np.eye(3)[gold]) ** 2).sum(axis=1).mean() for run in given]
    np.testing.assert_allclose(brier(logs, gold), squares, rtol=1e-9)


def test_calibration_error_by_hand():
    """Two bins: 0.9 sure of two, one right (gap 0.4); 0.6 sure of two, both right (gap 0.4)."""
    given = np.log([[[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]]])
    assert calibration_error(given, np.array([0, 1, 0, 0])) == pytest.approx([0.4])


# --- frames -----------------------------------------------------------------------------------


def study(grid, *, configuration="Standard", streams=("head", "order"), task="terms", **changes):
    """Runs of a cell whose test scores are the grid's."""
    rows = []
    for place, score in np.ndenumerate(grid):
        row = one_run(task, configuration, 0, dev=0.8, test=score)
        row |= dict.fromkeys(("head", "order", "noise"), 0) | {"seed": pd.NA}
        row |= dict(zip(streams, place, strict=True))
        row["key"] = f"{configuration}-{'-'.join(map(str, place))}"
        rows.append(row | changes)
    return pd.DataFrame(rows)


def test_sources_of_a_known_study():
    """Effects whose variances over the levels are 16, 4 and about 1: shares 16/21 and so on."""
    steps = np.linspace(-1, 1, 20) / np.linspace(-1, 1, 20).std(ddof=1)
    grid = 4 * steps[:, None] + 2 * steps[::-1] + crossed({(0, 1): 1}, (20, 20))
    found = sources(study(0.8 + 0.005 * grid)).set_index("source")
    assert list(found.index) == ["head", "order", "head × order"]
    for source, share in (("head", 16 / 21), ("order", 4 / 21), ("head × order", 1 / 21)):
        row = found.loc[source]
        assert row["share"] == pytest.approx(share, abs=0.02)
        assert row["share_low"] < share < row["share_high"]
    assert (found["n"] == 400).all()
    assert set(found["levels"]) == {"20 × 20"}
    assert set(found["fixed"]) == {"noise"}
    assert found["share"].sum() == pytest.approx(1)
    assert found["shapley"].sum() == pytest.approx(1)
    assert found.loc["head", "p"] < 1e-6


def test_three_streams_have_seven_sources():
    grid = 0.8 + 0.01 * crossed({(0,): 1, (1, 2): 1, (0, 1, 2): 0.3}, (4, 4, 3))
    found = sources(study(grid, streams=("head", "order", "noise")))
    assert len(found) == 7
    assert found["shapley"].sum() == pytest.approx(1)


def test_order_of_rows_does_not_matter():
    runs = study(0.8 + 0.01 * crossed({(0,): 1, (0, 1): 1}, (4, 5)))
    moved = runs.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(sources(runs), sources(moved))


def test_failures_are_decomposed_too():
    grid = 0.8 + 0.01 * crossed({(0,): 1, (0, 1): 1}, (5, 4))
    runs = study(grid)
    bad = runs["head"] == 2  # one head that always fails
    runs.loc[bad, ["test", "dev"]] = np.nan
    runs.loc[bad, "outcome"] = "diverged"
    found = sources(runs).set_index(["of", "source"])
    assert found.loc[("failure", "head"), "share"] == pytest.approx(1)
    assert (found["failed"] == 4).all()
    assert (found["n"] == 20).all()
    assert found.loc[("score", "head"), "share"] > 0.9  # at the floor, far below the others


def test_missing_runs_remove_a_level_and_are_counted():
    runs = study(0.8 + 0.01 * crossed({(0,): 1, (0, 1): 1}, (5, 4)))
    gone = runs["head"].eq(1) & runs["order"].eq(2)
    runs.loc[gone, ["test", "dev"]] = np.nan
    runs.loc[gone, "outcome"] = "missing"
    found = sources(runs).iloc[0]
    assert (found["n"], found["asked"], found["missing"], found["unused"]) == (16, 20, 1, 3)
    assert found["levels"] == "4 × 4"


@pytest.mark.parametrize("streams", [("head", "order", "noise"), ("head",)])
def test_seeds_that_are_not_crossed_have_a_reason(streams, clean):
    runs = clean
    if streams == ("head",):
        runs = clean.assign(order=0, noise=0)
    found = sources(runs)
    assert set(found["reason"]) == {"not_identified"}
    assert (found["n"] == 0).all()
    assert (found["unused"] == 7).all()
    assert "not crossed" in to_text(sources_table(found))


def test_seeds_set_alike_need_no_memory_of_their_cross():
    """1,000 seeds of three streams cross to 1e9 combinations; the runs are 1,000 of these."""
    diagonal = np.repeat(np.arange(1_000)[:, None], 3, axis=1)
    tracemalloc.start()
    kept = complete_grid(diagonal)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    assert sum(mask.sum() for mask in kept) == 0


def test_a_crossed_design_is_found_among_seeds_set_alike():
    """The grid of 4 head seeds and 5 orders, whatever else was run beside it."""
    crossed_runs = study(0.8 + 0.01 * crossed({(0,): 1, (0, 1): 1}, (4, 5)))
    beside = study(RNG(1).normal(0.8, 0.01, 300), streams=("head",))
    beside = beside.assign(order=beside["head"] + 100, head=beside["head"] + 100)
    beside["key"] = "beside" + beside["key"]
    found = sources(pd.concat([beside, crossed_runs]))
    alone = sources(crossed_runs)
    assert (found["unused"] == 300).all()
    same = ["source", "variance", "share", "share_low", "share_high", "levels", "n"]
    pd.testing.assert_frame_equal(found[same], alone[same])


def test_constant_scores_have_no_sources():
    found = sources(study(np.full((3, 3), 0.7)))
    assert set(found["reason"]) == {"zero_variance"}
    assert found["share"].isna().all()


def test_sources_table_and_plot_show_the_shares():
    grid = 0.8 + 0.01 * crossed({(0,): 1, (0, 1): 0.4}, (6, 6))
    runs = pd.concat([study(grid), study(grid[:2], configuration="Mixout(0.1)")])
    runs.loc[runs.index[-1:], "collapsed"] = True
    found = sources(runs)
    table = sources_table(found)
    head = table.body[0][table.header.index("head")]
    share = found.loc[found["source"] == "head", "share"].iloc[0]
    assert head.startswith(f"{share:.0%}")
    assert "noise fixed" in to_text(table)
    assert table.frame is found
    assert [axes.get_xlabel() for axes in plot_sources(found).axes]


def test_no_runs_give_an_empty_frame(runs):
    assert sources(runs.iloc[:0]).empty
    assert sources_table(sources(runs.iloc[:0])).body == ()
