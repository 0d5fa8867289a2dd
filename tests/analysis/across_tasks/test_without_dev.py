"""Without dev scores nothing is chosen, and no sentence says that something was."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis import (
    best_strategy,
    by_technique,
    cells,
    cells_table,
    friedman,
    headline,
    ranks,
    read_scores,
    recommend,
    technique_table,
    write_report,
)
from analysis.across_tasks.chosen import chosen, chosen_or_all, unchosen
from analysis.per_task.recommend import advice
from analysis.report.paper_table import paper_table

BY = ("model", "technique")


def table_of(seeds=6, dev=()):
    """Two tasks, two techniques, each with a default and a better tuned setting."""
    rng = np.random.default_rng(0)
    rows = []
    for task in ("adult", "churn"):
        for technique, lr, mean in (("mlp", "default", 0.70), ("mlp", "tuned", 0.80)):
            for name, gain in ((technique, 0.0), ("tabm", 0.05)):
                for seed in range(seeds):
                    score = mean + gain + rng.normal(0, 0.01)
                    row = {"task": task, "technique": name, "lr": lr, "seed": seed, "test": score}
                    rows.append(row | {"dev": score if task in dev else None})
    return pd.DataFrame(rows)


@pytest.fixture
def read(tmp_path):
    def made(baseline="", **more):
        path = tmp_path / "scores.csv"
        table_of(**more).to_csv(path, index=False)
        columns = {"configuration": "lr", "metric": "=accuracy"}
        return read_scores(path, columns, baseline=baseline)

    return made


def test_nothing_is_chosen_by_name(read):
    """`default` comes before `tuned`, and was printed as recommended."""
    runs = read()
    assert chosen(runs, BY).empty
    assert unchosen(runs, BY) == ["adult", "churn"]
    assert len(chosen_or_all(runs, BY)) == len(runs)
    assert headline(runs).query("part == 'task'").empty
    assert ranks(runs, by=BY).empty


def test_only_tasks_with_dev_scores_are_chosen_on(read):
    runs = read(dev=("churn",))
    assert unchosen(runs, BY) == ["adult"]
    assert set(chosen(runs, BY)["task"]) == {"churn"}
    assert set(chosen(runs, BY)["configuration"]) == {"mlp(lr=tuned)", "tabm(lr=tuned)"}
    frame = friedman(runs, by=BY)
    assert set(frame["dropped_tasks"]) == {"adult (no dev scores to choose a configuration by)"}


def test_a_task_without_any_result_keeps_its_missing_runs(read):
    runs = read(dev=("churn",))
    gone = runs["task"] == "adult"
    runs.loc[gone, ["outcome", "test", "key"]] = ["missing", np.nan, ""]
    assert unchosen(runs, BY) == []
    assert (chosen(runs, BY)["outcome"] == "missing").sum() == 12


@pytest.mark.parametrize(
    ("rows", "header"),
    [("technique", "Configuration"), ("model", "Configuration"), ("configuration", "adult")],
)
def test_a_paper_table_shows_all_configurations(rows, header, read):
    table = paper_table(read(), rows, "task", cell="mean")
    assert header in table.header
    assert len(table.body) == 4
    assert "recommended" not in table.caption
    said = "All configurations are shown, since there are no dev scores to choose by on adult"
    assert (said in table.caption) == (rows != "configuration")


def test_techniques_are_shown_with_all_settings(read):
    table = technique_table(by_technique(read()))
    assert [row[0] for row in table.body] == [
        *("mlp(lr=default)", "mlp(lr=tuned)", "tabm(lr=default)", "tabm(lr=tuned)")
    ]
    assert "All settings are shown where there are no dev scores to choose by." in table.caption


def test_captions_name_no_baseline_and_no_dev_scores_where_there_are_none(read, tmp_path):
    runs = read()
    other = runs.assign(model="other", key="x" + runs["key"], cell="x" + runs["cell"])
    both = pd.concat([runs, other], ignore_index=True)
    page = write_report(both, pd.DataFrame(), tmp_path).read_text()
    tables = re.findall(r"<table.*?</table>", page, flags=re.S)
    assert not [table for table in tables if "Standard" in table]
    assert "Sorted by dev" not in page
    assert "recommended on dev" not in page
    assert "No dev scores to choose a configuration by on adult, churn" in page


def test_no_sentence_on_differences_that_were_not_tested(read):
    def caption(runs):
        return paper_table(runs, "configuration", "task", cell="mean").caption

    assert "No difference" not in caption(read())  # there is no baseline
    one = caption(read(seeds=1, baseline="mlp(lr=default)"))
    assert "Differences from Standard are not tested: there are too few runs." in one
    assert "Bold: the best mean; differences from it are not tested." in one
    assert "significant" not in one
    assert "significantly better" in caption(read(baseline="mlp(lr=default)"))


def test_one_run_each_makes_only_the_best_bold(read):
    table = paper_table(read(seeds=1), "configuration", "task", cell="mean")
    assert len(table.bold) == 2  # one per task


def test_the_reason_is_that_there_are_no_dev_scores(read):
    runs = read()
    assert set(best_strategy(runs)["decided_by"]) == {"no run has a dev score"}
    assert "nothing can be recommended; no run has a dev score" in advice(recommend(runs))[0]


def test_columns_of_a_split_without_scores_are_left_out(read):
    table = cells_table(cells(read()))
    assert not [head for head in table.header if head.startswith("Dev")]
    runs = read(dev=("adult", "churn"))
    table = cells_table(cells(runs.assign(test=np.nan)))
    assert not [head for head in table.header if head.startswith("Test")]
    assert "There are no test scores." in table.caption
