"""Facts that `study` and `analysis` each define, since neither side may import the other's copy.

`analysis` never imports `study`, so these tests are what keeps the two definitions equal.
"""

from typing import get_args

import numpy as np
import pytest

from analysis.frames import columns, runs, store
from analysis.statistics.intervals import mean_interval
from study.core.paths import default_home, without_password
from study.tasks.task import SPLITS
from study.tracking.entry import Record
from study.tracking.summary import note, summary
from tests.structure import ROOT


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"STUDY_HOME": "relative/home"},
        {"STUDY_HOME": "/absolute/home with a space"},
        {"STUDY_HOME": "home", "MLFLOW_TRACKING_URI": "http://user:password@host:5000"},
        {"MLFLOW_TRACKING_URI": ""},
    ],
    ids=str,
)
def test_the_default_store(environment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("STUDY_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert store.default_uri() == default_home().uri


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:password@host:5000/path", "http://host:5000/path"),
        ("postgresql+psycopg2://user:p@ss@host/database", "postgresql+psycopg2://host/database"),
        ("http://user@host and http://host", "http://host and http://host"),
        ("sqlite:////folder/mlflow.db", "sqlite:////folder/mlflow.db"),
        ("someone@example.org", "someone@example.org"),
    ],
)
def test_passwords_are_removed_from_addresses(text, shown):
    assert store._without_credentials(text) == without_password(text) == shown


def test_splits():
    assert [f"{split}_rows" for split in SPLITS] == columns.RUN_COUNTS
    assert ["train", *get_args(runs.Split)] == list(SPLITS)


def test_the_interval_of_a_cells_mean():
    scores = [0.61, 0.64, 0.58, 0.7]
    records = [Record("cell", "completed", False, score, score, 1.0) for score in scores]
    values = summary(records, len(scores))
    interval = mean_interval(np.array(scores))
    assert (values["test_low"], values["test_high"]) == pytest.approx((interval.low, interval.high))


def test_own_metrics_have_the_direction_that_their_names_say():
    from analysis.frames.metric_names import meaning
    from study.tasks.metrics import METRICS

    said = {name: meaning(name).direction == "higher" for name in METRICS}
    assert said == {name: metric.higher_is_better for name, metric in METRICS.items()}


@pytest.mark.parametrize("floor", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("examples", [50, 400, 100_000])
@pytest.mark.parametrize("name", ["accuracy", "mse"])
def test_imported_runs_collapse_by_the_rule_of_own_runs(name, examples, floor):
    from analysis.statistics.collapse import at_floor
    from study.tasks.collapse import collapse_rules
    from study.tasks.metrics import METRICS

    metric = METRICS[name]
    scores = floor + np.linspace(-0.2, 0.2, 81)
    own = [
        "at_floor"
        in collapse_rules(
            metric,
            dev=score,
            floor=floor,
            examples=examples,
            constant=False,
            train_loss=0.0,
            loss_to_beat=1.0,
        )
        for score in scores
    ]
    rows = np.full(scores.shape, float(examples))
    sign = metric.oriented(1.0)
    assert at_floor(scores, floor, rows, bounded=metric.bounded, sign=sign).tolist() == own


@pytest.mark.parametrize("floor", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("name", ["accuracy", "spearman", "mse"])
def test_the_bar_that_is_printed_is_the_bar_of_the_rule(name, floor):
    from analysis.statistics import collapse as printed
    from study.tasks import collapse as rule
    from study.tasks.metrics import METRICS

    for function in ("margin", "chance_margin"):
        shown = getattr(printed, function)(floor, np.array([48.0]), bounded=METRICS[name].bounded)
        assert shown == pytest.approx(getattr(rule, function)(METRICS[name], floor, 48))


def test_the_names_of_own_metrics_say_whether_they_are_bounded():
    from analysis.frames.metric_names import meaning
    from study.tasks.metrics import METRICS

    assert all(meaning(name).bounded == metric.bounded for name, metric in METRICS.items())


@pytest.mark.parametrize(
    "file",
    ["docs/design.md", "docs/analysis.md", "docs/scores.md", "analysis/report/report.html.j2"],
)
def test_collapsed_means_the_same_everywhere(file):
    from analysis.statistics.collapse import COLLAPSED
    from study.tasks import collapse

    assert collapse.COLLAPSED == COLLAPSED
    assert COLLAPSED in " ".join((ROOT / file).read_text().split())


def test_mlflow_says_what_collapsed_means_where_a_run_did():
    from analysis.statistics.collapse import COLLAPSED

    records = [Record("cell", "completed", flag, 0.6, 0.6, 1.0) for flag in (True, False)]
    assert note(summary(records, 2), None).endswith(f". Collapsed: {COLLAPSED}.")
    assert "Collapsed:" not in note(summary(records[1:], 1), None)


def test_a_failed_run_whose_floor_is_unknown_is_left_out_of_the_summary():
    """As in `analysis`; its NaN left the cell without any statistic."""
    scores = [0.25, 0.75, float("nan")]
    outcomes = ["completed", "completed", "diverged"]
    records = [Record("c", o, False, s, s, 1.0) for o, s in zip(outcomes, scores, strict=True)]
    values = summary(records, 3)
    assert (values["n"], values["diverged"], values["missing"]) == (3, 1, 0)
    assert values["test_mean"] == 0.5
    assert values["test_sd"] == pytest.approx(0.125**0.5)
    interval = mean_interval(np.array(scores[:2]))
    assert (values["test_low"], values["test_high"]) == pytest.approx((interval.low, interval.high))
