import numpy as np
import pandas as pd
import pytest

from analysis import (
    aggregates,
    aggregates_table,
    friedman,
    profiles,
    ranks,
    ranks_table,
    rope,
    rope_table,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_text,
)
from analysis.statistics.ranks import least_tasks
from tests.analysis.across_tasks.test_suite import runs_of
from tests.analysis.oracles import oracle
from tests.analysis.statistics.test_ranks import bars

NOTHING = {"dev": np.nan, "test": np.nan}


def study(gains, tasks=8, seeds=3, sd=0.004, model="minilm", seed=0):
    """Configurations by their gain on all tasks; Standard is the baseline."""
    rng = np.random.default_rng(seed)
    bases = rng.uniform(0.5, 0.8, tasks)
    parts = []
    for name, gain in gains.items():
        scores = {
            f"t{t}": np.round(base + gain + rng.normal(0, sd, seeds), 4)
            for t, base in enumerate(bases)
        }
        parts.append(runs_of(scores, model, name, types={}))
    return pd.concat(parts, ignore_index=True)


def test_aggregates_and_profiles_resample_a_run_on_all_tasks_as_a_whole():
    """The interval of the mean is that of the runs by hand; separate runs have a narrower one."""
    rng = np.random.default_rng(2)
    x = 0.7 + 0.03 * rng.normal(size=(12, 1)) + 0.005 * rng.normal(size=(12, 6))  # (runs, tasks)
    trained = runs_of({f"t{i}": column for i, column in enumerate(x.T)}, types={})
    shared = trained.assign(train_rows=np.nan)
    found, separate = (aggregates(each).iloc[0] for each in (shared, trained))
    assert found["mean"] == pytest.approx(separate["mean"])
    by_run = ((x - 0.2) / 0.8).mean(axis=1)
    width = 2 * 1.96 * by_run.std() / np.sqrt(12)  # the plain bootstrap's divisor is n
    assert found["mean_high"] - found["mean_low"] == pytest.approx(width, rel=0.06)
    assert separate["mean_high"] - separate["mean_low"] < width / 2
    assert "resampled as a whole" in aggregates_table(aggregates(shared)).caption
    assert "resampled as a whole" not in aggregates_table(aggregates(trained)).caption
    bands = [
        (frame["runs_high"] - frame["runs_low"]).mean()
        for frame in map(profiles, (shared, trained))
    ]
    assert bands[0] > 1.5 * bands[1]


GAINS = {"Standard": 0.0, "FreezeLower(4)": -0.05, "LayerwiseDecay(0.9)": 0.03}


def of(frame, configuration):
    return frame[frame["configuration"] == configuration].iloc[0]


def test_ranks_by_hand():
    runs = pd.concat(
        [
            runs_of({"a": [0.9, 0.7], "b": [0.5]}, configuration="Standard", types={}),
            runs_of({"a": [0.7, 0.7], "b": [0.6]}, configuration="X(1)", types={}),
            runs_of({"a": [0.6, 0.8], "b": [0.7]}, configuration="Y(1)", types={}),
        ]
    )
    found = ranks(runs)
    assert dict(zip(found["configuration"], found["average_rank"], strict=True)) == {
        "Y(1)": 1.75,
        "Standard": 2.0,
        "X(1)": 2.25,
    }
    assert (found["n"] == 1).all()
    assert (found["asked"] == 3).all()
    row = of(found, "Standard")
    assert (row["rank_low"], row["rank_high"]) == (1, 3)  # no wider than ranks go
    assert (row["p_reason"], np.isnan(row["p_best"])) == ("n_too_small", True)


@oracle("friedman_nemenyi_wilcoxon", only=["avg_ranks", "cd_05", "friedman_chi2", "friedman_p"])
def test_real_means_rank_as_published_tools_rank_them(inputs, check):
    scores = np.array(inputs["S"])
    names = ["Standard", *(f"X({i})" for i in range(1, scores.shape[1]))]
    parts = [
        runs_of({f"t{t:02}": [x] for t, x in enumerate(column)}, configuration=name, types={})
        for name, column in zip(names, scores.T, strict=True)
    ]
    runs = pd.concat(parts)
    found, test = ranks(runs).set_index("configuration").loc[names], friedman(runs).iloc[0]
    average, difference = found["average_rank"].to_numpy(), test["critical_difference"]
    check(avg_ranks=average, cd_05=difference)
    check(friedman_chi2=test["chi2"], friedman_p=test["p"])
    groups = [
        {i for i, of_row in enumerate(found["group"]) if str(number) in of_row.split(", ")}
        for number in range(1, len(names) + 1)
    ]
    assert [group for group in groups if group] == bars(average, difference)
    if "wilcoxon_holm_pairs_upper" in check.wanted:
        holm = np.full((len(names),) * 2, np.nan)
        holm[np.triu_indices(len(names), 1)] = check.want("wilcoxon_holm_pairs_upper")
        holm = np.fmax(holm, holm.T)
        if len(scores) < least_tasks(len(names) * (len(names) - 1) // 2):
            holm[:] = np.nan  # no p can fall below 5%, so none is given
        np.testing.assert_allclose(found["p_baseline"], holm[0])
        np.testing.assert_allclose(found["p_best"], holm[average.argmin()])


def test_order_of_rows_and_other_models_do_not_matter():
    runs = pd.concat([study(GAINS), study(GAINS, model="other", seed=1)], ignore_index=True)
    for frame in (ranks, friedman, aggregates, profiles, rope):
        found = frame(runs)
        pd.testing.assert_frame_equal(frame(runs.sample(frac=1, random_state=0)), found)
        alone = frame(runs[runs["model"] == "minilm"])
        own = found[found["model"] == "minilm"].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, own)


def test_names_of_configurations_do_not_matter():
    runs = study(GAINS)
    other = {"FreezeLower(4)": "Z(1)", "LayerwiseDecay(0.9)": "A(1)", "Standard": "Standard"}
    renamed = runs.assign(configuration=runs["configuration"].map(other))
    for frame in (ranks, aggregates, rope):
        found, again = frame(runs), frame(renamed)
        assert list(found["configuration"].map(other)) == list(again["configuration"])
        columns = [c for c in found if c != "configuration"]
        pd.testing.assert_frame_equal(found[columns], again[columns])


def test_tasks_weigh_the_same_with_unequal_seeds():
    runs = study(GAINS, sd=0.0)
    more = pd.concat([runs, *(again(runs, "t0", "FreezeLower(4)", i) for i in range(1, 6))])
    for frame, columns in (
        (ranks, ["configuration", "average_rank", "group", "tasks", "n"]),
        (aggregates, ["configuration", "mean", "median", "tasks", "n"]),
        (rope, ["configuration", "difference", "better", "tasks", "n"]),
    ):
        pd.testing.assert_frame_equal(frame(more)[columns], frame(runs)[columns])
    assert of(ranks(more), "FreezeLower(4)")["finished"] == 24 + 15


def again(runs, task, configuration, number):
    """The same runs of one cell with other seeds."""
    part = runs[(runs["task"] == task) & (runs["configuration"] == configuration)].copy()
    part[["seed", "head", "order", "noise"]] += 10 * number
    part["key"] += f" again {number}"
    return part


def test_a_task_without_every_configuration_is_dropped_and_named():
    runs = study(GAINS)
    gone = (runs["task"] == "t3") & (runs["configuration"] == "FreezeLower(4)")
    absent = runs[~gone]
    missing = runs.copy()
    missing.loc[gone, ["outcome", *NOTHING]] = ["missing", *NOTHING.values()]
    for runs in (absent, missing):
        test = friedman(runs).iloc[0]
        assert (test["tasks"], test["dropped"]) == (7, 1)
        assert test["dropped_tasks"] == "t3 (FreezeLower(4) has no score)"
        caption = ranks_table(ranks(runs), friedman(runs)).caption
        assert "Left out: t3 (FreezeLower(4) has no score)" in caption
        found = rope(runs)
        assert dict(zip(found["configuration"], found["tasks"], strict=True)) == {
            "LayerwiseDecay(0.9)": 8,  # of pairs only what both have is needed
            "FreezeLower(4)": 7,
            "Standard": 8,
        }
        assert set(aggregates(runs)["tasks"]) == {7}


def test_failed_runs_enter_at_the_floor_or_are_excluded():
    runs = study({"Standard": 0.0, "X(1)": 0.02, "Y(1)": -0.05}, tasks=9, seeds=4)
    failed = (runs["configuration"] == "X(1)") & (runs["seed"] == 2)
    runs.loc[failed, ["outcome", *NOTHING]] = ["diverged", *NOTHING.values()]
    found, test = ranks(runs), friedman(runs)
    assert of(found, "X(1)")["average_rank"] == 3
    assert of(found, "X(1)")["clean_rank"] == 1
    assert (of(found, "X(1)")["failed"], of(found, "X(1)")["n"]) == (9, 4)
    sentence = "Without failed runs X(1), not Standard, has the best average rank."
    assert test["sensitivity"].iloc[0] == sentence
    table = ranks_table(found, test)
    assert sentence in table.caption
    assert table.body[0][0] == "Standard†"
    row = of(aggregates(runs), "X(1)")
    assert row["mean"] < row["clean_mean"]
    row = of(rope(runs), "X(1)")
    assert (row["verdict"], row["clean_verdict"]) == ("worse", "better")


def test_all_runs_failed_somewhere_leaves_fewer_tasks_without_failed_runs():
    runs = study(GAINS)
    failed = (runs["configuration"] == "FreezeLower(4)") & (runs["task"] == "t1")
    runs.loc[failed, "collapsed"] = True
    found = ranks(runs)
    assert set(found["tasks"]) == {8}
    assert set(found["clean_tasks"]) == {7}


def test_lower_is_better_is_oriented():
    runs = study(GAINS)
    errors = runs.assign(metric="mse", higher_is_better=False)
    errors[["dev", "test", "dev_floor", "test_floor"]] *= -1
    errors[["dev", "test", "dev_floor", "test_floor"]] += 1
    for frame in (ranks, friedman):
        pd.testing.assert_frame_equal(frame(errors), frame(runs))
    found, turned = aggregates(runs), aggregates(errors)
    numbers = [c for c in found if c.split("_")[0] in ("iqm", "mean", "median", "clean")]
    np.testing.assert_allclose(turned[numbers], found[numbers], rtol=1e-5)
    assert set(rope(errors)["dropped_tasks"]) == {
        "; ".join(f"t{t} (its scores are not shares)" for t in range(8))
    }


def test_scores_are_normalised_from_the_constant_answer_to_perfect():
    """Floor 0.2: 0.6 is half way to 1, 0.8 three quarters."""
    scores = {"a": [0.6, 0.6], "b": [0.8, 0.8], "c": [0.2, 0.2]}
    row = aggregates(runs_of(scores, types={})).iloc[0]
    for end in ("", "_low", "_high"):
        assert row[f"mean{end}"] == pytest.approx(1.25 / 3)
        assert row[f"median{end}"] == pytest.approx(0.5)
    assert row["iqm"] == pytest.approx((0 + 2 * 0.5 + 0.75) / 4)
    table = aggregates_table(aggregates(runs_of(scores, types={})))
    assert "0 is the constant predictor, 100 is perfect" in table.caption


def test_a_task_without_a_floor_enters_no_aggregate():
    runs = study(GAINS)
    runs.loc[runs["task"] == "t2", ["dev_floor", "test_floor"]] = np.nan
    found = aggregates(runs)
    assert set(found["tasks"]) == {7}
    assert set(found["dropped_tasks"]) == {
        "t2 (no constant predictor below the perfect score is known)"
    }
    assert set(ranks(runs)["tasks"]) == {8}


def test_profiles_start_with_all_runs_and_have_the_mean_as_area():
    runs = study(GAINS, seeds=5)
    found, mean = profiles(runs), aggregates(runs).set_index("configuration")["mean"]
    for name, part in found.groupby("configuration"):
        assert part["runs"].iloc[0] == part["tasks_above"].iloc[0] == 1
        assert part["runs"].iloc[-1] == 0
        assert part["area"].iloc[0] == pytest.approx(mean[name])
        assert np.trapezoid(part["runs"], part["threshold"]) == pytest.approx(mean[name], abs=0.005)
        assert ((part["runs_low"] <= part["runs"]) & (part["runs"] <= part["runs_high"])).all()


def test_verdicts_on_equivalence():
    found = rope(
        study({"Standard": 0.0, "Up(1)": 0.02, "Same(1)": 0.0, "Down(1)": -0.02}, sd=0.001)
    )
    verdicts = dict(zip(found["configuration"], found["verdict"], strict=True))
    assert verdicts == {
        "Up(1)": "better",
        "Same(1)": "practically equal",
        "Down(1)": "worse",
        "Standard": "baseline",
    }
    np.testing.assert_allclose(found[["worse", "same", "better"]].iloc[[0, 1, 2]].sum(axis=1), 1)


def test_a_task_may_have_a_width_of_its_own():
    runs = study({"Standard": 0.0, "Up(1)": 0.02}, sd=0.001)
    wide = rope(runs, widths={f"t{t}": 0.05 for t in range(8)})
    assert of(wide, "Up(1)")["verdict"] == "practically equal"
    with pytest.raises(ValueError, match="a width must be above 0: t0: 0"):
        rope(runs, widths={"t0": 0})


def test_a_width_below_one_test_example_is_reported():
    runs = study({"Standard": 0.0, "Up(1)": 0.02}).assign(test_rows=600)
    runs.loc[runs["task"] == "t1", "test_rows"] = 100
    assert of(rope(runs), "Up(1)")["coarse"] == "t1"
    assert "changes the score by at least that much on t1." in rope_table(rope(runs)).caption


def test_too_few_tasks_are_reported_instead_of_not_significant():
    runs = study(GAINS, tasks=4)
    table = ranks_table(ranks(runs), friedman(runs))
    assert "adjusted for so many pairs, cannot reach 5% below 7 tasks" in table.caption
    assert not any(header.startswith("p vs") for header in table.header)
    found = rope(runs)
    assert set(found["reason"]) == {"n_too_small", "is_baseline"}
    assert found[["worse", "same", "better"]].isna().all(axis=None)
    assert rope_table(found).body[0][5] == "too few tasks"
    seven = ranks_table(ranks(study(GAINS, tasks=7)), friedman(study(GAINS, tasks=7)))
    assert "p vs best" in seven.header
    assert "cannot reach" not in seven.caption


def test_without_a_baseline_nothing_is_compared_with_it():
    runs = study({"X(1)": 0.0, "Y(1)": 0.01})
    assert set(rope(runs)["reason"]) == {"no_baseline"}
    assert ranks(runs)["p_baseline"].isna().all()
    assert "no baseline" in to_text(rope_table(rope(runs)))


def test_techniques_and_models_are_compared_at_their_choice_on_dev():
    """Freeze(1) is better on even tasks, Freeze(2) on odd ones; dev knows, and decides alone."""
    low, high = study({"Freeze(1)": 0.0}), study({"Freeze(2)": 0.0})
    even = low["task"].str[1:].astype(int) % 2 == 0
    low.loc[even, "dev"] += 0.1
    high.loc[~even, "dev"] += 0.1
    high["test"] += 0.02
    runs = pd.concat([low, high, study({"Standard": 0.01})])
    found = ranks(runs, by=("model", "technique"))
    assert list(found["technique"]) == ["Freeze", "Standard"]
    assert list(found["average_rank"]) == [1.5, 1.5]
    other = runs.assign(model="other", test=runs["test"] - 0.3, key=runs["key"] + "o")
    found = ranks(pd.concat([runs, other]), by=("model",))
    assert list(found["model"]) == ["minilm", "other"]
    assert list(found["average_rank"]) == [1, 2]
    with pytest.raises(ValueError, match="must contain 'model'"):
        ranks(runs, by=("technique",))


TABLES = [
    lambda runs: ranks_table(ranks(runs), friedman(runs)),
    lambda runs: aggregates_table(aggregates(runs)),
    lambda runs: rope_table(rope(runs)),
]
CASES = ["troubled", "none", "one seed", "one task", "one technique", "constant"]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("case", [*CASES, "all diverged", "all missing", "no floors"])
def test_incomplete_data_give_tables_in_every_format(table, case, runs):
    if case in ("none", "one seed"):
        runs = runs[runs["seed"] == 0] if case == "one seed" else pd.DataFrame()
    elif case in ("one task", "one technique"):
        column, value = ("task", "rte") if case == "one task" else ("technique", "Standard")
        runs = runs[runs[column] == value]
    elif case == "constant":
        runs = runs.assign(dev=0.7, test=0.7, outcome="completed", collapsed=False)
    elif case == "no floors":
        runs = runs.assign(dev_floor=np.nan, test_floor=np.nan)
    elif case != "troubled":
        runs = runs.assign(**NOTHING, outcome=case.removeprefix("all "))
    found = table(runs)
    for render in (to_text, to_markdown, to_latex, to_html):
        assert "nan" not in render(found).lower().replace("significan", "")
    assert ("no runs yet" in to_text(found)) == (case == "none")
    assert all(len(line) <= 100 for line in to_text(found).splitlines())
    assert len(to_csv(found).splitlines()) == 1 + len(found.frame)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_figures_name_the_groups_compared(count):
    from analysis.plots.across_tasks import plot_profiles, plot_ranks
    from analysis.plots.style import to_svg

    gains = {"Standard": 0.0, **{f"X({i})": i / 100 for i in range(1, count)}}
    runs = study(gains)
    difference = friedman(runs)["critical_difference"].iloc[0]
    drawn = to_svg(plot_ranks(ranks(runs), difference), "ranks")
    assert all(name in drawn for name in gains)
    assert ("critical difference" in drawn) == (count > 1)
    drawn = to_svg(plot_profiles(profiles(runs)), "profiles")
    assert "Standard" in drawn
    assert ("4 others" in drawn) == (count == 9)
    assert to_svg(plot_profiles(profiles(runs)), "profiles") == drawn
    nothing = runs.assign(**NOTHING, outcome="missing")
    assert "<svg" in to_svg(plot_ranks(ranks(nothing), np.nan), "ranks")
