"""Choices on dev: Pareto front, transfer to test, recommendations, advice by group."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import (
    best_strategy,
    best_strategy_table,
    by_group,
    groups_table,
    pareto,
    pareto_table,
    recommend,
    to_html,
    to_text,
    transfer,
    transfer_table,
)
from analysis.across_tasks.groups import interaction_p, sentences
from analysis.frames.runs import blocks, by_seed, checked
from analysis.per_task.recommend import advice, confidence
from analysis.plots.pareto import plot_plane
from analysis.plots.style import to_svg
from tests import needs
from tests.analysis.conftest import EFFECTS, one_run

FRAMES = [best_strategy, pareto, transfer, recommend, by_group]
TABLES = [(pareto, pareto_table), (transfer, transfer_table), (by_group, groups_table)]


def equal(one, other):
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def at(frame, **values):
    for column, value in values.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def many(*, gains, tasks=4, models=(("bert", "BERT", 110e6),), seeds=6, noise=0.01, rng=0):
    """Runs of several tasks and models; `gains(task number, model name)` by configuration."""
    rng = np.random.default_rng(rng)
    rows = []
    for number in range(tasks):
        for name, family, parameters in models:
            for configuration, gain in gains(number, name).items():
                for seed in range(seeds):
                    dev, test = 0.8 + gain + rng.normal(0, noise, 2)
                    run = one_run("terms", configuration, seed, dev=dev, test=test)
                    run |= {"task": f"t{number}", "model": name, "family": family}
                    run |= {"parameters": parameters, "train_rows": (500, 5000)[number % 2]}
                    label = f"t{number} {name} {configuration}"
                    rows.append(run | {"cell": label, "key": f"{label} {seed}"})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("frame_of", FRAMES)
def test_order_of_rows_does_not_matter(frame_of, runs):
    equal(frame_of(runs), frame_of(runs.sample(frac=1, random_state=0)))


@pytest.mark.parametrize(
    "case", ["one seed", "two seeds", "all diverged", "all missing", "one", "constant", "no runs"]
)
def test_incomplete_data_give_tables_not_errors(case, clean):
    frame = clean.copy()
    if case in ("one seed", "two seeds"):
        frame = frame[frame["seed"] < (1 if case == "one seed" else 2)]
    elif case == "one":
        frame = frame[frame["configuration"] == "Mixout(0.1)"]
    elif case == "constant":
        frame[["dev", "test"]] = 0.8
    elif case == "no runs":
        frame = frame.iloc[:0]
    else:
        frame[["dev", "test"]] = np.nan
        frame["outcome"] = case.removeprefix("all ")
    for frame_of, table_of in TABLES:
        table = table_of(frame_of(frame))
        text = to_text(table)
        assert "nan" not in text.lower() + to_html(table).lower()
        assert max(map(len, text.splitlines())) <= 100
    assert "nan" not in " ".join(advice(recommend(frame)) + sentences(by_group(frame)))


def test_best_strategy_columns_by_hand(clean):
    row = at(best_strategy(clean), task="terms")
    block = clean[clean["task"] == "terms"]
    dev, test = (block.groupby("configuration")[split].mean() for split in ("dev", "test"))
    assert row["best_dev"] == dev.idxmax()
    assert row["best_test"] == test.idxmax()
    assert row["agrees"] == (dev.idxmax() == test.idxmax())
    assert row["regret"] == pytest.approx(test.max() - test[dev.idxmax()])
    assert row["dev_corrected"] == pytest.approx(dev.max() - row["optimism"])
    assert row["optimism"] > 0
    assert test.min() < row["expected_test"] <= test.max()
    assert 1 <= row["rank_low"] <= row["rank_high"] <= row["ranked"] == 5
    assert row["probability_best"] <= row["probability_near_best"] <= 1


def test_where_lower_is_better_the_corrected_score_is_higher(clean):
    lower = clean.assign(metric="mse", higher_is_better=False)
    for column in ("dev", "test", "dev_floor", "test_floor"):
        lower[column] = 2 - lower[column]
    up, down = best_strategy(clean), best_strategy(lower)
    same = ["best_dev", "best_test", "agrees", "rank_low", "rank_high", "probability_best"]
    equal(up[same], down[same])
    np.testing.assert_allclose(down["dev_corrected"], 2 - up["dev_corrected"])
    np.testing.assert_allclose(down["regret"], up["regret"], atol=1e-12)
    assert down["probability_near_best"].isna().all()  # half a point is no unit of it
    same = ["configuration", "on_front"]
    equal(pareto(clean)[same], pareto(lower)[same])
    numbers = ["agreement", "level", "regret_sd", "optimism_sd"]
    np.testing.assert_allclose(transfer(clean)[numbers], transfer(lower)[numbers], atol=1e-9)


def test_without_a_test_score_agreement_is_unknown(clean):
    gone = clean["configuration"].eq("Mixout(0.1)")
    row = at(best_strategy(clean.assign(test=clean["test"].mask(gone))), task="rte")
    assert np.isnan(row["agrees"])
    assert set(transfer(clean.assign(test=clean["test"].mask(gone)))["without_test"]) == {1}


def test_the_best_table_says_how_well_dev_choices_transfer(runs):
    found = best_strategy(runs)
    caption = best_strategy_table(found).caption
    assert f"best test mean in {found['agrees'].sum():.0f} of 2 rows" in caption
    assert "16,620 published runs" in caption
    single = runs[runs["configuration"] == "Standard"]
    assert "published runs" not in best_strategy_table(best_strategy(single)).caption


def test_scores_are_aligned_by_seed(runs):
    _, _, block = next(each for each in blocks(checked(runs)) if each[0] == "terms")
    found = by_seed(block, "dev")
    assert found.shape == (7, 5)
    assert found["Standard"].iloc[3] == 0.5  # the diverged run, at its floor
    own = runs[(runs["task"] == "terms") & (runs["configuration"] == "Mixout(0.1)")]
    assert found["Mixout(0.1)"].tolist() == own.sort_values("seed")["dev"].tolist()
    _, _, block = next(each for each in blocks(checked(runs)) if each[0] == "rte")
    assert by_seed(block, "dev")["Mixout(0.1)"].isna().sum() == 2
    twice = pd.concat([block, block.assign(key=block["key"] + "x")])
    assert by_seed(twice, "dev").shape == (14, 5)


def test_dev_scores_equal_to_test_scores_always_transfer(clean):
    found = transfer(clean.assign(test=clean["dev"], test_floor=clean["dev_floor"]))
    whole = found[found["seeds"] == 7]
    assert (whole["agreement"] == 1).all()
    assert (whole["regret"] == 0).all()
    assert found.groupby("task")["agreement"].is_monotonic_increasing.all()
    assert (found["chance"] == 0.2).all()


def test_lines_of_the_transfer_table_have_the_same_blocks(runs):
    table = transfer_table(transfer(runs))  # five seeds in one cell, seven elsewhere
    assert [row[:2] for row in table.body] == [
        ("1", "2"), ("2", "2"), ("3", "2"), ("all, 5 to 7", "2")
    ]  # fmt: skip


def test_published_runs_transfer_as_published():
    """86 task splits: the dev winner is the test winner in 29% with one seed, 35% with all."""
    path = needs.shared("runs", "tabm.csv.gz")
    published = pd.read_csv(path).rename(columns={"dev_score": "dev", "test_score": "test"})
    places = [f"{i}" for i in range(len(published))]
    frame = published.assign(
        model="-", configuration=published["technique"], key=places, outcome="completed",
        head=published["seed"], order=0, noise=0, higher_is_better=True,
        cell=published["task"] + published["technique"],
    ).reindex(columns=checked(pd.DataFrame()).columns)  # fmt: skip
    found = transfer(frame.assign(stage="final", tried=1, search="", task_type=""))
    means = found.groupby("seeds")[["agreement", "optimism_sd"]].mean()
    assert means.loc[1, "agreement"] == pytest.approx(0.29, abs=0.01)
    assert means.loc[5, "agreement"] == pytest.approx(0.34, abs=0.01)
    assert means.loc[15, "agreement"] == pytest.approx(0.355, abs=0.01)
    assert means.loc[15, "optimism_sd"] == pytest.approx(0, abs=1e-9)


def test_front_by_hand(clean):
    """On the front: faster, more stable and lower. Not: slower and better in nothing."""
    frame = clean[clean["task"] == "terms"].copy()
    shape = np.tile([-0.01, 0.0, 0.01, -0.01, 0.0, 0.01, 0.0], 5)
    means = frame["configuration"].map({"LayerwiseDecay(0.7)": 0.9, "Mixout(0.1)": 0.85})
    frame["dev"] = means.fillna(0.8) + shape
    found = pareto(frame).set_index("configuration")
    assert found.loc["LayerwiseDecay(0.7)", ["on_front", "membership"]].tolist() == [1, 1]
    assert found.loc["Mixout(0.1)", "on_front"] == 0  # 39 seconds, and lower
    assert found.loc["FreezeLower(4)", "on_front"] == 1  # 19 seconds
    assert found.loc["Standard", "membership"] < 0.5
    assert set(found["goals"]) == {"mean; sd; failures; seconds; memory"}
    assert pareto(frame)["on_front"].tolist() == [1, 1, 0, 0, 0]


def two_cells(sizes, means, sds, failures):
    """Cells whose dev scores have exactly these means and sds, besides runs at the floor."""
    rows = []
    for name, n, mean, sd, k in zip(
        ("Standard", "Mixout(0.1)"), sizes, means, sds, failures, strict=True
    ):
        shape = np.tile([-1.0, 1.0], n // 2)
        for seed, score in enumerate(mean + sd * shape / shape.std(ddof=1)):
            row = one_run("terms", name, seed, dev=score, test=score)
            rows.append(row | {"seconds": 30.0, "collapsed": seed < k})
    frame = pd.DataFrame(rows)
    frame.loc[frame["collapsed"], ["dev", "test"]] = 0.5
    return frame


def test_more_seeds_alone_put_nothing_on_the_front():
    """60 seeds, 29 points worse with 24 times the scatter, beside 40: no run of either failed."""
    frame = two_cells((40, 60), (0.9, 0.61), (0.005, 0.12), (0, 0))
    found = pareto(frame).set_index("configuration")
    assert found.loc["Standard", ["on_front", "membership"]].tolist() == [1, 1]
    assert found.loc["Mixout(0.1)", ["on_front", "membership"]].tolist() == [0, 0]
    assert found["failure_high"].is_monotonic_decreasing  # 9% and 6%, which are not compared


@pytest.mark.parametrize(
    ("sizes", "failures", "front"),
    [
        ((40, 60), (0, 1), 0),  # 1 of 60 is less than one run of 40
        ((60, 40), (1, 0), 0),
        ((40, 40), (1, 0), 1),  # one run of 40
        ((400, 400), (101, 100), 0),  # half the standard error is 1.5 points
    ],
)
def test_failure_rates_differ_by_a_run_and_half_their_standard_error(sizes, failures, front):
    """The second is worse in mean and sd, so only its failure rate can put it on the front."""
    frame = two_cells(sizes, (0.9, 0.55), (0.005, 0.2), failures)
    assert pareto(frame).set_index("configuration").loc["Mixout(0.1)", "on_front"] == front


def test_no_failure_is_a_rate_of_zero():
    """It was printed as -0%."""
    table = pareto_table(pareto(two_cells((20, 20), (0.9, 0.8), (0.01, 0.01), (0, 2))))
    column = table.header.index("Failure rate (upper 95% limit)")
    assert [row[column] for row in table.body] == ["0% (16%)", "10% (30%)"]


def test_a_configuration_without_scatter_is_named_beside_the_front():
    frame = two_cells((20, 20), (0.9, 0.8), (0.01, 0.0), (0, 0))
    assert (
        "no other has a smaller sd: Mixout(0.1). Seeds seem" in pareto_table(pareto(frame)).caption
    )
    varied = two_cells((20, 20), (0.9, 0.8), (0.01, 0.01), (0, 0))
    assert "smaller sd" not in pareto_table(pareto(varied)).caption


def test_a_cost_unknown_for_one_configuration_is_not_compared(clean):
    some = clean["peak_memory_bytes"].mask(clean["configuration"] == "Standard")
    found = pareto(clean.assign(peak_memory_bytes=some))
    assert set(found["goals"]) == {"mean; sd; failures; seconds"}
    assert "Not compared, since unknown for some configurations: memory." in (
        pareto_table(found).caption
    )


def test_another_configuration_changes_no_other_resamples(clean):
    """Membership can only fall when a competitor is added."""
    fewer = pareto(clean[clean["configuration"] != "FreezeLower(4)"])
    both = pareto(clean).merge(fewer, on=["task", "configuration"])
    assert (both["membership_x"] <= both["membership_y"]).all()


def test_a_recommendation_without_limits_is_the_best_strategy(runs):
    best, found = best_strategy(runs), recommend(runs)
    equal(found[best.columns], best)
    assert found["fitting"].tolist() == [5, 5]
    assert (found["unfitting"] == "").all()
    for row in found.itertuples():
        assert runs.set_index("key").at[row.key, "configuration"] == row.recommended
        assert row.seconds == EFFECTS[row.recommended][2]


def test_limits_exclude_configurations_above_them(runs):
    found = recommend(runs, max_seconds=30.2)
    assert set(found["fitting"]) == {2}
    assert found["unfitting"].str.contains("Mixout(0.1): 39 s, 8.8 s over", regex=False).all()
    assert set(found["recommended"]) <= {"Standard", "FreezeLower(4)"}
    ran = runs["outcome"] != "missing"
    heavy = runs.assign(peak_memory_bytes=np.where(ran & (runs["seed"] == 6), 9e9, 9e8))
    found = recommend(heavy, max_memory=8e9)
    assert at(found, task="terms")["unfitting"].startswith("FreezeLower(4): 9 GB, 1 GB over; ")
    assert (found["fitting"] == 0).sum() == 1  # a single run above it is enough
    assert at(found, task="rte")["recommended"] == "Mixout(0.1)"  # whose seed 6 is missing, though
    assert "rte" in advice(found)[0]
    assert advice(found)[1] == "terms, minilm: no configuration is within the limits."


def test_on_a_cpu_the_limit_is_on_what_a_step_holds(clean):
    """The peak there is of the process, which has libraries and the pretrained weights as well."""
    names = ["weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes"]
    small = clean["configuration"] == "FreezeLower(4)"
    split = clean.assign(peak_memory_bytes=9e9, device="cpu x86_64")
    split = split.assign(**dict.fromkeys(names, np.where(small, 1e9, 2.5e9)))
    found = recommend(split, max_memory=8e9)
    assert set(found["recommended"]) == {"FreezeLower(4)"}
    assert set(found["memory"]) == {4e9}
    assert found["unfitting"].str.contains("Standard: 10 GB, 2 GB over", regex=False).all()
    on_gpu = recommend(split.assign(device="NVIDIA H200"), max_memory=8e9)
    assert (on_gpu["fitting"] == 0).all()  # there the peak counts
    partly = split.copy()
    partly.loc[partly.index[0], names] = np.nan  # of an earlier version: only peaks compare
    block = at(recommend(partly, max_memory=8e9), task=partly["task"].iloc[0])
    assert block["fitting"] == 0


def test_an_unknown_cost_exceeds_any_limit(clean):
    found = recommend(clean.assign(peak_memory_bytes=np.nan), max_memory=8e9)
    assert (found["recommended"] == "").all()
    assert found["unfitting"].str.contains("memory unknown").all()
    assert (recommend(clean.assign(peak_memory_bytes=np.nan))["recommended"] != "").all()


def test_a_preference_reaches_the_tie_set(clean):
    by = {name: recommend(clean, prefer=name) for name in ("stable", "fast", "score")}
    assert by["score"]["recommended"].tolist() == by["score"]["best_dev"].tolist()
    for row in by["fast"].itertuples():
        tied = [row.recommended, *filter(None, row.tied.split("; "))]
        assert row.seconds == min(EFFECTS[name][2] for name in tied)


def test_each_limit_exceeded_is_named(clean):
    runs = clean.assign(peak_memory_bytes=9.1e9, seconds=2500.0)
    found = recommend(runs, max_memory=8e9, max_seconds=1200)
    assert "Mixout(0.1): 9.1 GB, 1.1 GB over, and 2,500 s, 1,300 s over" in found["unfitting"][0]


@pytest.mark.parametrize(
    ("share", "holds", "solid", "word"),
    [
        (0.95, True, True, "strong"),
        (0.95, True, False, "moderate"),
        (0.94, True, True, "moderate"),
        (0.79, True, True, "weak"),
        (1.0, False, True, "weak"),
        (np.nan, True, True, "weak"),
    ],
)
def test_confidence(share, holds, solid, word):
    assert confidence(share, holds=holds, solid=solid) == word


def a_clear_winner(seeds):
    """Mixout 20 points above Standard, each with a spread of a tenth of a point."""
    rows = [
        one_run("terms", name, seed, dev=mean + 0.001 * seed, test=mean + 0.001 * seed)
        for name, mean in (("Standard", 0.6), ("Mixout(0.1)", 0.8))
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def confidence_of(runs, **limits):
    found = recommend(runs, **limits)
    assert found["recommended"].tolist() == ["Mixout(0.1)"]
    return found["confidence"][0], advice(found)[0]


def test_advice_on_a_tie_begins_with_there_being_no_winner(clean):
    """Of two seeds each, no pair differs significantly."""
    part = clean[(clean["task"] == "rte") & (clean["seed"] < 2)]
    found = recommend(part)
    (text,) = advice(found)
    start = "rte, minilm: no clear winner among 5 configurations with 2 seeds each. If one must be "
    assert text.startswith(f"{start}taken now: {found['recommended'][0]} (test ")
    assert text.endswith("which is no evidence of a better score.")
    assert "confidence" not in text
    assert advice(recommend(a_clear_winner(5)))[0].startswith(
        "terms, minilm: Mixout(0.1), strong confidence ("
    )


def test_strong_confidence_needs_five_seeds_each():
    assert confidence_of(a_clear_winner(5))[0] == "strong"
    assert confidence_of(a_clear_winner(4))[0] == "moderate"
    runs = a_clear_winner(5)
    assert confidence_of(runs[(runs["configuration"] != "Standard") | (runs["seed"] < 4)])[0] == (
        "moderate"
    )


def test_strong_confidence_needs_a_candidate_without_failed_runs():
    for name, word in (("Mixout(0.1)", "moderate"), ("Standard", "strong")):
        runs = a_clear_winner(20)
        failed = (runs["configuration"] == name) & (runs["seed"] == 7)
        runs.loc[failed, ["collapsed", "collapse_rule"]] = True, "constant"
        assert confidence_of(runs)[0] == word


def test_a_candidate_that_is_left_alone_has_weak_confidence():
    runs = a_clear_winner(5)
    slow = runs.assign(seconds=np.where(runs["configuration"] == "Standard", 90.0, 30.0))
    word, text = confidence_of(slow, max_seconds=60)
    assert word == "weak"
    assert text.endswith("There is no other to compare it with.")


TWO_SIZES = (("b", "BERT", 110e6), ("l", "BERT", 335e6))


def helps_large(number, model):
    gain = 0.04 if model == "l" else 0.0
    return {"Standard": 0.0, "LayerwiseDecay(0.7)": gain, "Mixout(0.1)": -0.01}


def test_a_technique_that_helps_one_group_is_advised_for_that_group_only():
    found = by_group(many(gains=helps_large, tasks=5, models=TWO_SIZES))
    assert set(found["dimension"]) == {"all", "size", "data"}  # one family, domain and no types
    large, base = (at(found, dimension="size", group=name) for name in ("large", "base"))
    assert (large["technique"], large["confidence"]) == ("LayerwiseDecay", "strong")
    assert large["tied"] == large["blocks"] == 5
    assert large["difference"] == pytest.approx(0.04, abs=0.005)
    assert large["low"] < large["difference"] < large["high"]
    assert base["technique"] == ""
    assert large["interaction_p"] == base["interaction_p"] < 0.01
    assert at(found, dimension="data", group="fewer than 1,000")["interaction_p"] > 0.05
    texts = dict(zip(found["group"], sentences(found), strict=True))
    assert texts["large"].startswith(
        "For models of large size use LayerwiseDecay: best or tied with the best on dev in 5 of 5"
    )
    assert texts["large"].endswith("above Standard on test (strong confidence).")
    assert texts["base"].startswith("For models of base size: no single recommendation; tied: ")


def test_too_few_blocks_make_no_group():
    found = by_group(many(gains=helps_large, tasks=2, models=(TWO_SIZES[1],)))
    assert set(found["reason"]) == {"fewer than 3 tasks and models"}
    assert set(found["technique"]) == {""}


def test_one_significant_loss_prevents_advice():
    def gains(number, model):
        return {"Standard": 0.0, "LayerwiseDecay(0.7)": -0.03 if number == 0 else 0.04}

    frame = many(gains=gains, tasks=10, noise=0.004)
    row = at(by_group(frame), dimension="all")
    assert row["technique"] == ""
    assert (
        row["reason"] == "LayerwiseDecay is significantly worse in t0, bert"
        or "not supported" in row["reason"]
    )
    assert (row["worst_block"], row["worst"] < -0.02) == ("t0, bert", True)


def test_without_a_baseline_no_group_is_advised():
    frame = many(gains=helps_large, models=(TWO_SIZES[1],))
    row = at(by_group(frame[frame["configuration"] != "Standard"]), dimension="all")
    assert (row["technique"], row["reason"]) == ("", "Standard was not run in all of them")


def test_nothing_is_advised_where_nothing_differs():
    """Twenty-five simulated studies of equal techniques whose gain varies over tasks."""
    advised = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        gains = rng.normal(0, 0.01, (6, 2))

        def drawn(number, model, gains=gains):
            names = ("LayerwiseDecay(0.7)", "Mixout(0.1)")
            return {"Standard": 0.0, **dict(zip(names, gains[number], strict=True))}

        found = by_group(many(gains=drawn, tasks=6, seeds=4, rng=seed))
        advised += (found["technique"] != "").any()
    assert advised / 25 <= 0.05


def test_scores_that_are_not_shares_enter_no_group():
    frame = many(gains=helps_large, models=(TWO_SIZES[1],))
    rmse = frame["task"] == "t0"
    frame.loc[rmse, ["dev", "test", "dev_floor", "test_floor"]] *= 30
    frame.loc[rmse, "metric"] = "rmse"
    assert at(by_group(frame), dimension="all")["blocks"] == 3


def test_names_do_not_affect_advice():
    frame = many(gains=helps_large, models=(TWO_SIZES[1],))
    other = frame.assign(
        technique=frame["technique"].replace("LayerwiseDecay", "Zed"),
        configuration=frame["configuration"].replace("LayerwiseDecay(0.7)", "Zed(1)"),
    )
    one, two = (at(by_group(each), dimension="all") for each in (frame, other))
    assert (one["technique"], two["technique"]) == ("LayerwiseDecay", "Zed")
    assert one["difference"] == pytest.approx(two["difference"])


def test_the_pareto_plot_is_deterministic(runs):
    front = pareto(runs)
    own = front[front["task"] == "rte"]
    svg = to_svg(plot_plane(own), "plane")
    assert svg == to_svg(plot_plane(own), "plane")
    assert "ReinitTop(2)" in svg
    assert "1 failed" in svg
    single = pareto(runs[runs["seed"] == 0])
    assert "mean dev accuracy" in to_svg(plot_plane(single[single["task"] == "rte"]), "plane")


def test_a_recommended_key_belongs_to_a_run_of_its_task(clean):
    found = recommend(clean)
    task_of = clean.set_index("key")["task"]
    assert [task_of[key] for key in found["key"]] == found["task"].tolist()


def test_a_configuration_whose_runs_all_failed_is_not_recommended(clean):
    failed = clean.assign(collapsed=True, collapse_rule="at_floor")
    found = recommend(failed)
    assert (found[["recommended", "key", "confidence", "sensitivity"]] == "").all(axis=None)
    assert all("nothing can be recommended; all runs of " in texts for texts in advice(found))
    table = best_strategy_table(best_strategy(failed))
    entries = [dict(zip(table.header, line, strict=True)) for line in table.body]
    assert {(e["Recommended"], e["vs Standard"], e["p"]) for e in entries} == {("–",) * 3}
    assert all(entry["Tied with"].endswith(" failed") for entry in entries)
    assert {(e["n"], e["Failed"]) for e in entries} == {("7", "7")}
    one = clean[clean["task"] == "rte"]
    both = pd.concat([failed[failed["task"] == "terms"], one])
    assert (recommend(both)["recommended"] == "").tolist() == [False, True]


def gaps_of_groups(sizes, sds, rng):
    """Gains of three techniques over the baseline, whose own is 0; equal means in all groups."""
    parts = [
        np.column_stack([np.zeros(n), rng.normal(0, sd, (n, 3))])
        for n, sd in zip(sizes, sds, strict=True)
    ]
    return np.concatenate(parts), np.repeat(np.arange(len(sizes)), sizes)


def test_interaction_of_two_groups_is_a_permuted_welch_test():
    rng = np.random.default_rng(3)
    gaps, labels = gaps_of_groups((5, 9), (2, 1), rng)
    exact = stats.permutation_test(
        (gaps[labels == 0, 1], gaps[labels == 1, 1]),
        lambda x, y, axis: np.abs(stats.ttest_ind(x, y, axis=axis, equal_var=False).statistic),
        alternative="greater",
        n_resamples=np.inf,
    )
    found = interaction_p(gaps[:, :2], labels, np.random.default_rng(0))
    assert found == pytest.approx(exact.pvalue, abs=4 * np.sqrt(0.25 / 1000))
    assert np.isnan(interaction_p(np.zeros((6, 2)), np.repeat([0, 1], 3), rng))


def test_a_small_group_that_varies_more_is_no_interaction():
    """At most 10%, as its docstring says, and two standard errors; means alone reject 44%."""
    rng, rejected = np.random.default_rng(0), 0
    for _ in range(200):
        gaps, labels = gaps_of_groups((5, 15), (3, 1), rng)
        rejected += interaction_p(gaps, labels, rng) < 0.05
    assert rejected / 200 < 0.10 + 2 * np.sqrt(0.10 * 0.90 / 200)
