"""Whatever the runs lack, each function of runs says so or makes do; none breaks or invents."""

import inspect
import re

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import against, cells, table, write_report
from analysis.frames.runs import ScoreFileError, final

FUNCTIONS = {  # all that the package offers on runs, whatever is added
    name: function
    for name, function in vars(analysis).items()
    if name in analysis.__all__ and inspect.isfunction(function)
    if next(iter(inspect.signature(function).parameters), "") == "runs"
    if name not in ("write_report", "against", "table")  # these have tests of their own below
}


@pytest.fixture
def clean(clean):
    """Fewer techniques, which is faster and as poor."""
    return clean[clean["technique"].isin(["Standard", "Mixout", "ReinitTop"])]


def one_seed(runs):
    return runs[runs["seed"] == 0]


def two_seeds(runs):
    return runs[runs["seed"] < 2]


def one_technique(runs):
    return runs[runs["technique"] == "Mixout"]


def one_run(runs):
    return runs.iloc[[0]]


def no_scores(runs):
    return runs.assign(dev=np.nan, test=np.nan)


def no_dev_scores(runs):
    return runs.assign(dev=np.nan)


def all_diverged(runs):
    return runs.assign(dev=np.nan, test=np.nan, outcome="diverged")


def all_diverged_without_floor(runs):
    return all_diverged(runs).assign(dev_floor=np.nan, test_floor=np.nan)


def all_missing(runs):
    return runs.assign(dev=np.nan, test=np.nan, outcome="missing")


def constant(runs):
    return runs.assign(dev=0.8, test=0.8)


def infinite_scores(runs):
    return runs.assign(test=runs["test"].where(runs["seed"] != 0, np.inf))


def unequal_seeds(runs):
    return runs[(runs["technique"] != "Mixout") | (runs["seed"] < 3)]


def disjoint_seeds(runs):
    moved = runs["technique"] == "Mixout"
    streams = ["seed", "head", "order", "noise"]
    return runs.assign(**{s: runs[s].where(~moved, runs[s] + 100) for s in streams})


def nothing(runs):
    return pd.DataFrame()


def no_rows(runs):
    return runs.iloc[:0]


POOR = [nothing, no_rows, one_seed, two_seeds, one_technique, one_run, no_scores, no_dev_scores]
POOR += [all_diverged, all_diverged_without_floor, all_missing, constant, infinite_scores]
POOR += [unequal_seeds, disjoint_seeds]


@pytest.fixture(params=POOR, ids=lambda change: change.__name__)
def poor(request, clean):
    return request.param(clean)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_poor_runs_make_a_result(name, poor):
    found = FUNCTIONS[name](poor)
    if isinstance(found, pd.DataFrame):
        numbers = found.select_dtypes("number").to_numpy("float64")
        assert not np.isinf(numbers).any()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda runs: pd.concat([runs, runs.iloc[[0]]]), "occurs more than once"),
        (lambda runs: runs.drop(columns="dev"), "no column 'dev'"),
        (lambda runs: runs.assign(test="good"), "'test' must hold numbers"),
        (lambda runs: runs.assign(outcome="crashed"), "'crashed' is not one of"),
        (lambda runs: runs.assign(metric=runs["seed"].astype(str)), "more than one metric"),
    ],
    ids=["a run twice", "a column absent", "text for scores", "odd outcome", "mixed metrics"],
)
def test_wrong_runs_are_refused_by_name(name, wrong, said, clean):
    with pytest.raises(ScoreFileError, match=said):
        FUNCTIONS[name](wrong(clean))


def test_poor_runs_make_a_report(poor, tmp_path):
    page = write_report(poor, pd.DataFrame(), tmp_path, others=poor).read_text()
    words = re.sub(r"<svg.*?</svg>|<style.*?</style>|<script.*?</script>", "", page, flags=re.S)
    assert not re.search(r"\b(nan|NaT|inf|None)\b(?! of)", words)
    assert 'class="caveats">\n<li>' in page
    assert (tmp_path / "runs.parquet").exists()


def test_poor_runs_make_a_paper_table(poor):
    text = table(poor)
    assert "nan" not in text
    assert "no runs yet" in text or "n = " in text


def test_poor_runs_can_be_compared(poor, clean):
    other = clean.assign(key="x" + clean["key"])
    for found in (against(poor, other), against(other, poor)):
        numbers = found.select_dtypes("number").to_numpy("float64")
        assert not np.isinf(numbers).any()


def test_missing_runs_are_counted_never_filled_in(runs):
    found = cells(runs)
    assert found["missing"].sum() == (runs["outcome"] == "missing").sum()
    assert (found["test_n"] + found["missing"]).sum() == len(final(runs.assign(stage="final")))
