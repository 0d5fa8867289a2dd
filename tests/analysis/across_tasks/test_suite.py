import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import (
    BLURB,
    aggregates,
    best_strategy,
    by_technique,
    chosen,
    headline,
    headline_table,
    pretraining,
    pretraining_table,
    strategy_table,
    suite_score,
    suite_table,
    technique_table,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_text,
)
from analysis.across_tasks.suite import type_means
from analysis.statistics.intervals import weighted_mean_interval
from tests.analysis.conftest import one_run

# Gu et al. 2021, arXiv 2007.15779: seed means in the order of BLURB, and the score they print.
PUBLISHED = {
    "bert": ([89.25, 81.44, 85.67, 80.90, 77.69], 72.34, [71.86, 80.04, 80.41], 82.68, 80.20)
    + ([51.62, 70.36], 76.11),
    "biobert": ([92.85, 84.70, 89.13, 83.82, 78.55], 73.18, [76.14, 80.88, 82.36], 89.52, 81.54)
    + ([60.24, 84.14], 80.34),
    "pubmedbert": ([93.33, 85.62, 87.82, 84.52, 79.10], 73.38, [77.24, 82.36, 83.96], 92.30, 82.32)
    + ([55.84, 87.56], 81.16),
}


def runs_of(scores, model="minilm", configuration="Standard", types=BLURB):
    """Runs with these scores by task, in [0, 1], on dev and test alike; one seed per score."""
    rows = []
    for task, values in scores.items():
        for seed, score in enumerate(values):
            row = one_run("terms", "Standard", seed, dev=score, test=score)
            row |= {"task": task, "task_type": types.get(task, ""), "model": model}
            row |= {"configuration": configuration, "technique": configuration.split("(")[0]}
            row |= {"cell": f"{task} {configuration}", "dev_floor": 0.3, "test_floor": 0.2}
            rows.append(row | {"key": f"{task} {model} {configuration} {seed}"})
    return pd.DataFrame(rows)


def published(model):
    ner, pico, relations, similarity, documents, questions, _ = PUBLISHED[model]
    scores = [*ner, pico, *relations, similarity, documents, *questions]
    return {task: [score / 100] * 2 for task, score in zip(BLURB, scores, strict=True)}


def only(frame):
    assert len(frame) == 1
    return frame.iloc[0]


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_published_scores(model):
    row = only(suite_score(runs_of(published(model))))
    assert round(100 * row["test"], 2) == round(100 * row["dev"], 2) == PUBLISHED[model][-1]
    assert (row["label"], row["tasks"], row["types"], row["absent"]) == ("BLURB score", 13, 6, "")


def test_the_published_type_means():
    means = type_means(runs_of(published("pubmedbert"))).set_index("task_type")["test"]
    wanted = {"NER": 86.08, "relation extraction": 81.19, "question answering": 71.70}
    assert (means * 100).round(2).to_dict() == wanted


def test_one_changed_score_moves_the_suite_score_by_its_weight():
    scores = published("pubmedbert") | {"gad": [0.8234, 0.8234]}
    assert round(100 * only(suite_score(runs_of(scores)))["test"], 2) == 81.07


def test_a_partial_suite_has_another_label():
    def label(tasks, types=None):
        return only(suite_score(runs_of(dict.fromkeys(tasks, [0.8]), types=BLURB | named), types))

    named = {"gad@256": "relation extraction", "mine": "NER"}
    all_but_one = [task for task in BLURB if task != "gad"]
    assert label(["gad", "hoc"])["label"] == "mean over covered task types (2 of 6)"
    assert label(["gad@256", "hoc"])["label"] == "mean over covered task types (2 of 6)"
    row = label(all_but_one)
    assert row["label"] == "mean over covered task types (6 of 6, 12 of 13 tasks)"
    assert row["absent"] == "gad"
    assert label([*all_but_one, "gad@256"])["label"] == "mean over covered task types (6 of 6)"
    assert label([*BLURB, "mine"])["label"] == "mean over task types"
    assert label(BLURB, types={})["label"] == "mean over tasks"
    assert label(["a"], types={"a": "x", "b": "x", "c": "y"})["absent"] == "b; c"


def test_without_types_the_score_is_the_plain_mean_of_glue():
    scores = {"cola": [0.5], "sst2": [0.9], "stsb": [0.85]}
    assert only(suite_score(runs_of(scores)))["test"] == pytest.approx(0.75)
    typed = {"cola": "single sentence", "sst2": "single sentence"}
    assert only(suite_score(runs_of(scores), typed))["test"] == pytest.approx((0.7 + 0.85) / 2)


def test_a_mean_of_different_metrics_says_so():
    runs = runs_of({"mrpc": [0.9], "stsb": [0.8]}, types={})
    alike, mixed = runs, runs.assign(metric=["accuracy", "pearson"])
    said = "Means over tasks mix metrics as they stand: accuracy, pearson."
    for frame, shown in ((suite_score, suite_table), (headline, headline_table)):
        assert said in shown(frame(mixed)).caption
        assert "mix metrics" not in shown(frame(alike)).caption


def with_seeds(scores, *, trained):
    """Runs of one model; rows with the same seed are one run unless each task has its training."""
    runs = runs_of(scores, types={})
    return runs if trained else runs.assign(train_rows=np.nan)


def test_a_run_scored_on_all_tasks_counts_once():
    """The interval is that of the runs' own means over tasks, by scipy."""
    rng = np.random.default_rng(5)
    x = 0.7 + 0.03 * rng.normal(size=(5, 1)) + 0.01 * rng.normal(size=(5, 6))  # (runs, tasks)
    tasks = {f"t{i}": column for i, column in enumerate(x.T)}
    shared = suite_score(with_seeds(tasks, trained=False))
    wanted = stats.ttest_1samp(x.mean(axis=1), 0).confidence_interval()
    assert tuple(only(shared)[["test_low", "test_high"]]) == pytest.approx(tuple(wanted))
    separate = suite_score(with_seeds(tasks, trained=True))
    widths = [only(each)["test_high"] - only(each)["test_low"] for each in (shared, separate)]
    assert widths[0] > 2 * widths[1]
    assert "taken as one run scored on all" in suite_table(shared).caption
    assert "each run was scored on one task" in suite_table(separate).caption
    several = headline(with_seeds(tasks, trained=False))
    assert "taken as one run scored on all" in headline_table(several).caption


def test_missing_runs_of_a_study_are_not_taken_for_shared_ones():
    """Of a run that is missing nobody knows the rows that it would be trained on."""
    tasks = {"a": [0.5, 0.6, 0.7], "b": [0.7, 0.8, 0.9], "c": [0.1] * 3, "d": [0.1] * 3}
    runs = with_seeds(tasks, trained=True)
    gone = (runs["seed"] == 2) | (runs["task"] > "b")
    runs.loc[gone, ["dev", "test", "train_rows"]] = np.nan
    runs.loc[gone, "outcome"] = "missing"
    assert not only(suite_score(runs))["shared"]
    assert not aggregates(runs)["shared"].any()


def test_runs_without_seeds_are_not_shared():
    runs = with_seeds({"a": [0.5, 0.6], "b": [0.7, 0.8]}, trained=False)
    runs = runs.assign(**dict.fromkeys(("head", "order", "noise"), range(4)))
    assert not only(suite_score(runs))["shared"]


@pytest.mark.parametrize("sizes", [(3, 3), (4, 7), (12, 5)])
def test_weighted_means_match_welch_and_the_paired_t_interval(sizes):
    """Weights 1 and -1 give a difference: Welch's of separate runs, the paired one of shared."""
    rng = np.random.default_rng(sum(sizes))
    a, b = rng.normal(size=sizes[0]), 2 * rng.normal(size=sizes[1])
    own = ([f"a{i}" for i in range(a.size)], [f"b{i}" for i in range(b.size)])
    welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert weighted_mean_interval((a, b), own, (1, -1))[:2] == pytest.approx(tuple(welch))
    x, y = a[: min(sizes)], b[: min(sizes)]
    paired = stats.ttest_rel(x, y).confidence_interval()
    same = [f"{i}" for i in range(x.size)]
    assert weighted_mean_interval((x, y), (same, same), (1, -1))[:2] == pytest.approx(tuple(paired))


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_the_suite_interval_covers_the_truth_at_three_runs(share):
    """2,000 suites of six tasks; the share of the variance that a run has in common over tasks."""
    rng, runs = np.random.default_rng(0), [[f"{i}" for i in range(3)]] * 6
    covered = 0
    for _ in range(2000):
        own, common = rng.normal(size=(6, 3)), rng.normal(size=3)
        x = np.sqrt(1 - share) * own + np.sqrt(share) * common
        found = weighted_mean_interval(list(x), runs, [1 / 6] * 6)
        covered += found.low < 0 < found.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_an_interval_weighs_tasks_as_the_mean_does():
    """By the variance of a weighted sum: tasks a and b share a type, c has its own."""
    rng = np.random.default_rng(0)
    x = {t: 0.7 + rng.normal(0, s, n) for t, s, n in (("a", 0.02, 5), ("b", 0.05, 4))}
    x |= {"c": 0.6 + rng.normal(0, 0.03, 6)}
    row = only(suite_score(runs_of(x), {"a": "x", "b": "x"}))
    weights = {"a": 0.25, "b": 0.25, "c": 0.5}
    parts = {t: weights[t] ** 2 * v.var(ddof=1) / v.size for t, v in x.items()}
    df = sum(parts.values()) ** 2 / sum(parts[t] ** 2 / (v.size - 1) for t, v in x.items())
    half = stats.t.ppf(0.975, df) * np.sqrt(sum(parts.values()))
    assert row["test_high"] - row["test_low"] == pytest.approx(2 * half)


def test_tasks_weigh_the_same_with_unequal_seeds():
    scores = {"a": [0.9, 0.8], "b": [0.4, 0.6]}
    more = scores | {"a": [0.9, 0.8] * 5}
    one, other = only(suite_score(runs_of(scores))), only(suite_score(runs_of(more)))
    assert one["test"] == pytest.approx(0.675) == other["test"]
    assert (other["n"], other["finished"]) == (2, 12)


def test_neither_row_order_nor_names_matter(runs):
    found = suite_score(runs)
    pd.testing.assert_frame_equal(suite_score(runs.sample(frac=1, random_state=0)), found)
    other = {name: f"Z{i}" for i, name in enumerate(sorted(runs["configuration"].unique()))}
    renamed = runs.assign(configuration=runs["configuration"].map(other))
    numbers = [column for column in found if column != "configuration"]
    pd.testing.assert_frame_equal(suite_score(renamed)[numbers], found[numbers])


@pytest.mark.parametrize("poison", [np.nan, 0.0, 1.0])
def test_the_choice_never_reads_test_scores(poison, runs):
    wrong = runs.assign(test=poison, test_floor=poison)
    for by in (("model",), ("model", "technique")):
        assert list(chosen(wrong, by)["key"]) == list(chosen(runs, by)["key"])


def test_a_technique_enters_each_task_with_its_choice_on_dev():
    low = runs_of({"a": [0.5, 0.51], "b": [0.8, 0.81]}, configuration="Freeze(1)")
    high = runs_of({"a": [0.7, 0.71], "b": [0.6, 0.61]}, configuration="Freeze(2)")
    both = pd.concat([low, high])
    both["test"] -= 0.1
    row = only(suite_score(both, by=("model", "technique")))
    assert row["test"] == pytest.approx((0.605 + 0.705) / 2)
    assert len(suite_score(both)) == 2
    table = technique_table(by_technique(both))
    assert table.body == (("Freeze", "60.5\u00a0(0.71)", "70.5\u00a0(0.71)"),)
    assert "recommended on dev" in table.caption


def test_failed_runs_enter_at_the_floor_and_missing_runs_are_counted():
    runs = runs_of({"a": [0.7, 0.8, 0.9], "b": [0.6, 0.7], "c": [0.5, 0.5]})
    nothing = {"dev": np.nan, "test": np.nan}
    runs.loc[0, ["outcome", *nothing]] = ["diverged", *nothing.values()]
    runs.loc[1, ["outcome", *nothing]] = ["missing", *nothing.values()]
    runs.loc[[5, 6], "outcome"] = "missing"
    runs.loc[[5, 6], list(nothing)] = np.nan
    row = only(suite_score(runs))
    assert row["test"] == pytest.approx(((0.2 + 0.9) / 2 + 0.65) / 2)  # diverged: the floor
    assert (row["finished"], row["asked"], row["failed"], row["n"]) == (4, 7, 1, 0)
    assert (row["label"], row["absent"]) == ("mean over covered tasks (2 of 3)", "c")
    assert "mean over covered tasks (2 of 3)" in suite_table(suite_score(runs)).header[1]
    assert "†" in technique_table(by_technique(runs)).body[0][-3]


def test_one_seed_has_no_interval():
    row = only(suite_score(runs_of({"a": [0.5], "b": [0.6, 0.7]})))
    assert row["test"] == pytest.approx(0.575)
    assert np.isnan([row["test_low"], row["test_high"]]).all()


def test_scores_that_are_not_shares_are_refused_by_name(clean):
    errors = clean.assign(metric="mse", higher_is_better=False)
    mixed = pd.concat([errors[errors["task"] == "rte"], clean[clean["task"] == "terms"]])
    for score in (suite_score, type_means):
        with pytest.raises(ValueError, match=r"these are not: rte \(mse\)\. Leave the tasks out"):
            score(mixed)
    assert set(headline(mixed)["part"]) == {"task"}
    assert "not all metrics are shares" in headline_table(headline(mixed)).caption
    with pytest.raises(ValueError, match="must contain 'model'"):
        suite_score(clean, by=("technique",))


def two_models():
    other = runs_of(published("bert"), "bert").assign(objective="", vocabulary="general")
    freeze = runs_of(published("biobert"), "bert", "FreezeLower(6)").assign(vocabulary="general")
    return pd.concat([runs_of(published("pubmedbert"), "pubmedbert"), other, freeze])


def test_the_headline_is_sorted_by_type_and_ends_with_the_suite_score():
    table = headline_table(headline(two_models()))
    ner = [*sorted(list(BLURB)[:5]), "NER mean"]
    assert table.header[1:9] == (*ner, "ebm_pico", "chemprot")
    assert table.header[-1] == "BLURB score"
    shown = {line[0]: (line[6], line[-1].split(" ")[0]) for line in table.body}
    assert shown == {"bert": ("85.8", "80.3"), "pubmedbert": ("86.1", "81.2")}  # bert by freezing


def test_the_strategy_table_shows_gains_by_family():
    runs = two_models()
    rng = np.random.default_rng(0)
    runs[["dev", "test"]] += rng.normal(0, 0.001, (len(runs), 1))
    table = strategy_table(best_strategy(runs.assign(family="bert-base")))
    assert table.header == ("Task", "bert-base: bert", "bert-base: pubmedbert")
    line = next(line for line in table.body if line[0] == "bioasq")
    assert line[1].startswith("FreezeLower(6) +13.")
    assert line[2] == "Standard"


def test_pretraining_is_compared_with_the_baseline_alone():
    table = pretraining_table(pretraining(two_models()))
    assert [line[2:5] for line in table.body] == [
        ("–", "general", "bert"),
        ("sentences", "wordpiece", "pubmedbert"),
    ]


WIDE = [
    (suite_score, suite_table),
    (by_technique, technique_table),
    (best_strategy, strategy_table),
    (pretraining, pretraining_table),
    (headline, headline_table),
]


@pytest.mark.parametrize(("numbers", "shown"), WIDE)
@pytest.mark.parametrize("case", ["troubled", "none", "one seed", "all diverged", "all missing"])
def test_incomplete_data_give_tables_in_every_format(numbers, shown, case, runs):
    if case in ("none", "one seed"):
        runs = runs[runs["seed"] == 0] if case == "one seed" else pd.DataFrame()
    elif case.startswith("all"):
        runs = runs.assign(dev=np.nan, test=np.nan, outcome=case.removeprefix("all "))
    table = shown(numbers(runs))
    for render in (to_text, to_markdown, to_latex, to_html):
        assert "nan" not in render(table).lower()
    assert ("no runs yet" in to_text(table)) == (case == "none")
    assert all(len(line) <= 100 for line in to_text(table).splitlines())
    assert len(to_csv(table).splitlines()) == 1 + len(table.frame)
