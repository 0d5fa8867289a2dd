"""What is said of failed runs: how many of each kind, and the bar that a collapsed run missed."""

import numpy as np
import pytest

from analysis import best_strategy
from analysis.per_task.failures import failed_text, why_collapsed
from analysis.report.caveats import caveats
from tests.analysis.conftest import one_run


def a_run(rule, metric="spearman", *, dev=0.54, floor=0.0, rows=48.0, higher=True):
    facts = {"collapse_rule": rule, "metric": metric, "higher_is_better": higher}
    return facts | {"dev": dev, "dev_floor": floor, "dev_rows": rows}


@pytest.mark.parametrize(
    ("run", "text"),
    [
        # four standard errors of a correlation of 48 examples, 4 / sqrt(48) = 0.5774
        (a_run("no_fit"), "dev spearman 0.54 against a bar of 0.5774 (no_fit)"),
        # two binomial standard errors, 0.5 + 2 sqrt(0.25 / 400) = 0.55; then four of them
        (
            a_run("at_floor,no_fit", "accuracy", dev=0.53, floor=0.5, rows=400.0),
            "dev accuracy 0.53 against a bar of 0.55 (at_floor), "
            "dev accuracy 0.53 against a bar of 0.6 (no_fit)",
        ),
        # one per cent of an error, in the direction of better
        (
            a_run("at_floor", "mse", dev=1.995, floor=2.0, higher=False),
            "dev mse 1.995 against a bar of 1.98 (at_floor)",
        ),
        (a_run("constant"), "one answer for all dev examples (constant)"),
        (a_run("no_fit", rows=np.nan), "by the rule no_fit"),
        (a_run("no_fit", floor=np.nan), "by the rule no_fit"),
        (a_run("no_fit", "own"), "by the rule no_fit"),  # may have any scale
        (a_run("no_fit", dev=0.6), "by the rule no_fit"),  # so the bar was another
        (a_run("at_floor", dev=np.nan), "by the rule at_floor"),  # judged by its test score
    ],
)
def test_the_bar_is_said_where_it_is_known(run, text):
    assert why_collapsed(run, 1) == text


def test_failures_are_counted_by_kind():
    assert failed_text(2, 1) == "2 diverged, 1 collapsed"
    assert failed_text(0, 3) == "3 collapsed"
    assert failed_text(0, 0) == ""


def failing(runs):
    """Two of seven Standard runs on `terms` diverge, the others and all of Mixout collapse."""
    runs = runs[
        runs["configuration"].isin(["Standard", "Mixout(0.1)"]) & (runs["task"] == "terms")
    ].copy()
    lost = (runs["configuration"] == "Standard") & (runs["seed"] < 2)
    runs.loc[lost, ["dev", "test"]] = np.nan
    runs.loc[lost, "outcome"] = "diverged"
    runs.loc[~lost, ["dev", "test"]] = 0.5 + 0.002 * runs.loc[~lost, "seed"].astype(float)
    runs.loc[~lost, "collapse_rule"], runs.loc[~lost, "collapsed"] = "at_floor", True
    return runs


def test_all_that_failed_are_named_with_how(clean):
    found = best_strategy(failing(clean))
    assert found["recommended"].tolist() == [""]
    assert found["decided_by"].tolist() == [
        "all runs of Mixout(0.1) (7 collapsed), Standard (2 diverged, 5 collapsed) failed"
    ]


def test_caveats_name_the_best_collapsed_run_of_each_cell(clean):
    """600 dev rows: 0.5 + 2 sqrt(0.25 / 600) = 0.5408; the best run has 0.5 + 6 × 0.002."""
    text = " ".join(caveats(failing(clean)))
    assert "2 runs diverged: Standard (2)." in text
    why = "Mixout(0.1) (7, the best: dev accuracy 51.2 against a bar of 54.1 (at_floor))"
    collapsed = "12 runs collapsed, not clearly better than a constant answer"
    assert f"{collapsed}: {why}" in text


def test_one_collapsed_run_is_not_called_the_best():
    from pandas import DataFrame

    run = one_run("terms", "Standard", 0, dev=0.5, test=0.5)
    run |= {"collapsed": True, "collapse_rule": "constant"}
    assert "Standard (1: one answer for all dev examples (constant))" in " ".join(
        caveats(DataFrame([run]))
    )
