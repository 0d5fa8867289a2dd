"""Every function of runs handles incomplete runs and refuses malformed ones."""

import inspect
import re

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import against, cells, table, write_report
from analysis.frames.runs import ScoreFileError, final

FUNCTIONS = {  # every exported function of runs, including future ones
    name: function
    for name, function in vars(analysis).items()
    if name in analysis.__all__ and inspect.isfunction(function)
    if next(iter(inspect.signature(function).parameters), "") == "runs"
    if name not in ("write_report", "against", "table")  # these have tests of their own below
}


@pytest.fixture
def clean(clean):
    """Fewer techniques, to save time."""
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


INCOMPLETE = [
    nothing,
    no_rows,
    one_seed,
    two_seeds,
    one_technique,
    one_run,
    no_scores,
    no_dev_scores,
]
INCOMPLETE += [all_diverged, all_diverged_without_floor, all_missing, constant, infinite_scores]
INCOMPLETE += [unequal_seeds, disjoint_seeds]


@pytest.fixture(params=INCOMPLETE, ids=lambda change: change.__name__)
def incomplete(request, clean):
    return request.param(clean)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_incomplete_runs_give_a_result(name, incomplete):
    found = FUNCTIONS[name](incomplete)
    if isinstance(found, pd.DataFrame):
        numbers = found.select_dtypes("number").to_numpy("float64")
        assert not np.isinf(numbers).any()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda runs: pd.concat([runs, runs.iloc[[0]]]), "occurs more than once"),
        (lambda runs: runs.drop(columns="dev"), "no column 'dev'"),
        (lambda runs: runs.assign(test="good"), "'test' must hold numbers"),
        (lambda runs: runs.assign(outcome="crashed"), "'crashed' is not one of"),
        (lambda runs: runs.assign(metric=runs["seed"].astype(str)), "more than one metric"),
    ],
    ids=["duplicate run", "missing column", "text scores", "unknown outcome", "mixed metrics"],
)
def test_malformed_runs_are_refused_by_name(name, wrong, message, clean):
    with pytest.raises(ScoreFileError, match=message):
        FUNCTIONS[name](wrong(clean))


def test_incomplete_runs_give_a_report(incomplete, tmp_path):
    page = write_report(incomplete, pd.DataFrame(), tmp_path, others=incomplete).read_text()
    words = re.sub(r"<svg.*?</svg>|<style.*?</style>|<script.*?</script>", "", page, flags=re.S)
    assert not re.search(r"\b(nan|NaT|inf|None)\b(?! of)", words)
    assert 'class="caveats">\n<li>' in page
    assert (tmp_path / "runs.parquet").exists()


def test_incomplete_runs_give_a_paper_table(incomplete):
    text = table(incomplete)
    assert "nan" not in text
    assert "no runs yet" in text or "n = " in text


def test_incomplete_runs_can_be_compared(incomplete, clean):
    other = clean.assign(key="x" + clean["key"])
    for found in (against(incomplete, other), against(other, incomplete)):
        numbers = found.select_dtypes("number").to_numpy("float64")
        assert not np.isinf(numbers).any()


def test_missing_runs_are_counted_and_never_imputed(runs):
    found = cells(runs)
    assert found["missing"].sum() == (runs["outcome"] == "missing").sum()
    assert (found["test_n"] + found["missing"]).sum() == len(final(runs.assign(stage="final")))
