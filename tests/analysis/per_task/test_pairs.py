from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import pairs, pairs_table, to_csv, to_html, to_latex, to_markdown, to_text
from analysis.statistics.dominance import almost_stochastic_order
from analysis.statistics.effects import hedges_g, improvement
from analysis.statistics.multiplicity import benjamini_hochberg, holm
from analysis.statistics.spread import sd_ratio_bootstrap

P_VALUES = ["p", "welch_p", "rank_p", "paired_p", "signed_p", "spread_p", "clean_p"]


def equal(one, other):
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def at(frame, task, first, second):
    chosen = frame[frame["task"].eq(task) & frame["first"].eq(first) & frame["second"].eq(second)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def scored(runs, task, label):
    chosen = runs["task"].eq(task) & runs["configuration"].eq(label)
    return runs[chosen].sort_values("seed")["test"].to_numpy()


def many(clean, n, *, failed=()):
    """Two configurations on n seeds; some seeds of the first diverged."""
    rng = np.random.default_rng(0)
    parts = []
    for label, centre in (("Mixout(0.1)", 0.81), ("Standard", 0.80)):
        one = clean[clean["configuration"].eq(label) & clean["task"].eq("terms")].iloc[[0] * n]
        seeds = range(n)
        one = one.assign(test=rng.normal(centre, 0.01, n), key=[f"{label}{s}" for s in seeds])
        parts.append(one.assign(**dict.fromkeys(("seed", "head", "order", "noise"), seeds)))
    frame = pd.concat(parts, ignore_index=True)
    gone = frame["configuration"].eq("Mixout(0.1)") & frame["seed"].isin(failed)
    frame.loc[gone, ["dev", "test"]] = np.nan
    frame.loc[gone, "outcome"] = "diverged"
    return frame


def test_every_pair_of_a_block_occurs_once(clean):
    found = pairs(clean)
    labels = sorted(clean["configuration"].unique())
    for _, block in found.groupby("task"):
        label_pairs = zip(block["first"], block["second"], strict=True)
        assert list(label_pairs) == list(combinations(labels, 2))


def test_clean_pairs_are_what_scipy_says(clean):
    for row in pairs(clean).itertuples():
        a, b = (scored(clean, row.task, label) for label in (row.first, row.second))
        welch = stats.ttest_ind(a, b, equal_var=False)
        interval = welch.confidence_interval(0.95)
        assert (row.method, row.interval, row.reason) == ("Welch", "Welch", "")
        wanted = {
            "difference": a.mean() - b.mean(),
            "difference_low": interval.low,
            "difference_high": interval.high,
            "p": welch.pvalue,
            "welch_p": welch.pvalue,
            "clean_p": welch.pvalue,
            "rank_p": stats.mannwhitneyu(a, b).pvalue,
            "paired_p": stats.ttest_rel(a, b).pvalue,
            "signed_p": stats.wilcoxon(np.round(a - b, 12)).pvalue,
            "correlation": stats.pearsonr(a, b).statistic,
            "spread_p": stats.levene(a, b).pvalue,
            "ratio": a.std(ddof=1) / b.std(ddof=1),
            "improvement": stats.mannwhitneyu(a, b).statistic / 49,
            "hedges_g": hedges_g(a, b),
        }
        for name, value in wanted.items():
            assert getattr(row, name) == pytest.approx(value), name
        assert row.cliffs_delta == pytest.approx(2 * row.improvement - 1)
        assert (row.common, row.lost, row.n_first, row.n_second) == (7, 0, 7, 7)


def test_holm_adjusts_within_a_block_and_bh_over_all(clean):
    found = pairs(clean)
    np.testing.assert_array_equal(found["p_bh"], benjamini_hochberg(found["p"].to_numpy()))
    for _, block in found.groupby("task"):
        for name in ("p", "clean_p", "spread_p", "clean_spread_p"):
            np.testing.assert_array_equal(block[f"{name}_holm"], holm(block[name].to_numpy()))


def test_failed_runs_enter_at_the_floor_and_are_counted(runs):
    row = at(pairs(runs), "terms", "Mixout(0.1)", "Standard")
    a, b = scored(runs, "terms", "Mixout(0.1)"), scored(runs, "terms", "Standard")
    coded = np.where(np.isnan(b), 0.496, b)
    assert (row["n_second"], row["failed_second"], row["clean_n_second"]) == (7, 1, 6)
    assert row["difference"] == pytest.approx(a.mean() - coded.mean())
    assert row["clean_difference"] == pytest.approx(a.mean() - np.nanmean(b))
    one = np.append(a, [0.496, a.mean()])  # the score of the failed run, and of a successful one
    other = np.append(coded, [0.496, np.nanmean(b)])
    exact = stats.permutation_test(
        (one, other),
        lambda x, y, axis: np.abs(stats.ttest_ind(x, y, axis=axis, equal_var=False).statistic),
        alternative="greater",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    )
    assert row["method"] == "permutation"
    assert row["p"] == pytest.approx(exact.pvalue, abs=0.02)  # four Monte Carlo errors
    ends = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((ends.low, ends.high))


def test_missing_runs_are_counted_and_their_seeds_not_paired(runs):
    row = at(pairs(runs), "rte", "LayerwiseDecay(0.7)", "Mixout(0.1)")
    assert (row["n_second"], row["missing_second"], row["failed_second"]) == (5, 2, 0)
    assert (row["common"], row["lost"]) == (5, 2)
    a, b = (scored(runs, "rte", label) for label in ("LayerwiseDecay(0.7)", "Mixout(0.1)"))
    assert row["paired_p"] == pytest.approx(stats.ttest_rel(a[:5], b[:5]).pvalue)
    assert row["p"] == pytest.approx(stats.ttest_ind(a, b[:5], equal_var=False).pvalue)


def test_different_seeds_are_not_paired(clean):
    other = clean["configuration"].eq("Standard")
    for name in ("seed", "head", "order", "noise"):
        clean[name] = clean[name].where(~other, clean[name] + 100)
    row = at(pairs(clean), "rte", "Mixout(0.1)", "Standard")
    assert (row["common"], row["lost"], row["paired_reason"]) == (0, 14, "unpaired")
    assert np.isnan([row["paired_p"], row["signed_p"], row["correlation"]]).all()
    assert not np.isnan(row["p"])


def test_repeated_seeds_are_not_paired(clean):
    one = clean["configuration"].eq("Standard") & clean["seed"].eq(1)
    clean.loc[one, ["head", "order", "noise"]] = 0
    assert at(pairs(clean), "rte", "Mixout(0.1)", "Standard")["paired_reason"] == "unpaired"


def test_resampled_intervals_are_those_of_the_single_functions(clean):
    """Other resamples: within a tenth of the width, or 0.05 of a bound."""
    frame = many(clean, 60, failed=range(6))
    row = pairs(frame).iloc[0]
    a = np.where(np.isnan(x := scored(frame, "terms", "Mixout(0.1)")), 0.496, x)
    b = scored(frame, "terms", "Standard")
    rng = np.random.default_rng(1)
    one = improvement([a], [b], resamples=5000, rng=rng)
    near = pytest.approx((one.low, one.high), abs=0.1 * (one.high - one.low))
    assert (row["improvement_low"], row["improvement_high"]) == near
    dominance = almost_stochastic_order(a, b, failed=True, comparisons=1, resamples=5000, rng=rng)
    assert row["epsilon"] == dominance.epsilon
    assert row["epsilon_bound"] == pytest.approx(dominance.bound, abs=0.05)
    ratio = sd_ratio_bootstrap(a, b, rng=rng)
    near = pytest.approx((ratio.low, ratio.high), abs=0.1 * (ratio.high - ratio.low))
    assert (row["ratio_low"], row["ratio_high"]) == near
    means = [x[rng.integers(60, size=(60, 5000))].mean(axis=0) for x in (a, b)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    assert (row["interval"], row["ratio_method"]) == ("bootstrap", "bootstrap")
    near = pytest.approx((low, high), abs=0.1 * (high - low))
    assert (row["difference_low"], row["difference_high"]) == near


def test_intervals_with_failed_runs_depend_on_n(clean):
    allowed = {60: ("bootstrap", "bootstrap"), 30: ("Welch", "bootstrap"), 19: ("Welch", "")}
    for n, (difference, ratio) in allowed.items():
        row = pairs(many(clean, n, failed=[3])).iloc[0]
        assert (row["interval"], row["ratio_method"]) == (difference, ratio)


def test_at_the_smallest_permutation_p_welch_is_used(clean):
    frame = many(clean, 40, failed=[3])
    apart = frame["configuration"].eq("Standard")
    frame["test"] = frame["test"].where(~apart, frame["test"] - 0.2)
    row = pairs(frame).iloc[0]
    first, second = (
        frame.loc[frame["configuration"] == name, "test"].to_numpy()
        for name in ("Mixout(0.1)", "Standard")
    )
    good = first[~np.isnan(first)]
    first = np.array([*good, 0.496, 0.496, good.mean()])  # the failed run, and the two added
    second = np.append(second, [0.496, second.mean()])
    bound = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert row["method"] == "permutation"
    assert row["p"] == pytest.approx(max(bound, 1 / comb(84, 42)), rel=1e-6)
    assert 0 < row["p"] < 1e-9 < 1 / 5001


def test_verdicts_with_and_without_failed_runs(clean):
    frame = many(clean, 40, failed=range(12))
    row = pairs(frame).iloc[0]  # the first is better by a point where it does not fail
    assert (row["verdict"], row["clean_verdict"]) == ("worse", "better")
    one = pairs(many(clean, 1)).iloc[0]
    assert (one["verdict"], one["reason"]) == ("not tested", "n_too_small")


def test_where_lower_is_better_effects_turn_but_not_differences(clean):
    lower = clean.assign(metric="mse", higher_is_better=False)
    for column in ("dev", "test", "dev_floor", "test_floor"):
        lower[column] = 2 - lower[column]
    up, down = pairs(clean), pairs(lower)
    for name in ("difference", "clean_difference"):
        np.testing.assert_allclose(down[name], -up[name])
    np.testing.assert_allclose(down["difference_low"], -up["difference_high"])
    for name in [*P_VALUES, "hedges_g", "improvement", "improvement_low", "epsilon", "ratio"]:
        np.testing.assert_allclose(down[name], up[name], err_msg=name, atol=1e-9)
    assert down["verdict"].tolist() == up["verdict"].tolist()


def test_order_of_rows_does_not_matter(runs):
    equal(pairs(runs), pairs(runs.sample(frac=1, random_state=0)))


def test_seed_numbers_do_not_matter(runs):
    renamed = runs.copy()
    for name in ("seed", "head", "order", "noise"):
        renamed[name] = 1000 - renamed[name]
    pd.testing.assert_frame_equal(pairs(runs), pairs(renamed), rtol=1e-9)  # sums in other order


def test_another_configuration_changes_only_what_is_adjusted(runs):
    found, fewer = pairs(runs), pairs(runs[runs["configuration"] != "Mixout(0.1)"])
    kept = found[~found[["first", "second"]].eq("Mixout(0.1)").any(axis=1)].reset_index(drop=True)
    same = [c for c in found if not c.endswith(("_holm", "_bh", "verdict", "_bound", "_reverse"))]
    equal(kept[same], fewer[same])


def test_rescaling_changes_no_verdict(clean):
    scaled = clean.copy()
    for column in ("dev", "test", "dev_floor", "test_floor"):
        scaled[column] = 30 * scaled[column] + 5
    one, other = pairs(clean), pairs(scaled)
    np.testing.assert_allclose(other["difference"], 30 * one["difference"])
    for name in [*P_VALUES, "hedges_g", "cliffs_delta", "improvement_high", "ratio_low"]:
        np.testing.assert_allclose(other[name], one[name], err_msg=name)
    np.testing.assert_allclose(other["epsilon"], one["epsilon"], atol=1e-6)


@pytest.mark.parametrize("case", ["one seed", "all diverged", "all missing", "one", "constant"])
def test_incomplete_data_give_tables_not_errors(case, clean):
    frame = clean.copy()
    if case == "one seed":
        frame = frame[frame["seed"] == 0]
    elif case == "one":
        frame = frame[frame["configuration"] == "Mixout(0.1)"]
    elif case == "constant":
        frame[["dev", "test"]] = 0.8
    else:
        frame[["dev", "test"]] = np.nan
        frame["outcome"] = case.removeprefix("all ")
    found = pairs(frame)
    assert set(found["verdict"]) <= {"not tested"}
    assert "nan" not in to_text(pairs_table(found)).lower()


def test_no_runs_make_an_empty_table(runs):
    for nothing in (pd.DataFrame(), runs.iloc[:0]):
        assert "no runs yet" in to_text(pairs_table(pairs(nothing)))


def test_the_caption_states_metric_direction_unit_and_n(runs):
    table = pairs_table(pairs(runs))
    for word in ("over seeds", "accuracy", "higher is better", "in points", "n, the number of"):
        assert word in table.caption
        for render in (to_markdown, to_latex, to_html):
            assert word in render(table)
    assert max(map(len, to_text(table).splitlines())) <= 100
    assert len(to_csv(table).splitlines()) == 21
    assert table.body[9][table.header.index("Failed")] == "1, 0"  # ReinitTop(2) and Standard
