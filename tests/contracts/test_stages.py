"""Two-stage studies in MLflow: a parent per stage, choices by dev scores alone, no other state."""

import math
from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution

from analysis import cells, load_runs
from search_spaces import Space
from study import LayerwiseDecay, Search, Standard, Tune
from study.cli import finished
from study.execution.queue import Progress
from study.execution.runner import following
from study.planning.stages import Stages
from study.tracking.entry import entry_of
from study.tracking.outbox import Outbox
from study.training.result import packed
from study.training.train import train
from tests.conftest import CPU
from tests.contracts.test_door import opened, study  # noqa: F401

RATES = Space({"rate": CategoricalDistribution((0.1, 0.5, 0.9))}, {})


@pytest.fixture
def tuned(study):  # noqa: F811
    return study.replace(
        techniques=[Standard(), Search(LayerwiseDecay, RATES)],
        tune=Tune(trials=3, seeds=1),
        seeds=[7, 8],
    )


@pytest.fixture
def outcome(tuned, prepared, loaded):
    run = tuned.runs()[0]
    return train(run.setting(prepared.kind), prepared.splits, loaded, CPU)[0]


def finish(tracking, runs, outcome, data, *, dev, test=0.5) -> None:
    """Track runs as if they had been trained, and return the runs that they lead to."""
    progress = Progress(total=7, finished=0)
    more = following(tracking, progress, None)
    following_runs = []
    for run in runs:
        made = replace(outcome, dev=dev(run), test=test, collapsed=())
        if math.isnan(made.dev):
            made = replace(made, outcome="diverged", test=math.nan, logits={})
        entry = entry_of(run, packed(made, data, started=100.0, ended=101.0), faults=())
        tracking.put(entry, b"")
        first, last = more(run, entry.record().dev)
        following_runs += [*first, *last]
    return following_runs


def rate(run):
    return getattr(run.cell.technique, "rate", 0.4)


def test_a_cell_in_both_stages_has_two_parents(home, tuned, outcome, prepared):  # noqa: F811
    tracking = opened(home, tuned)
    final = finish(tracking, tracking.stages.runs("tune"), outcome, prepared, dev=rate)
    assert [run.name.split("/", 2)[2] for run in final] == [
        "LayerwiseDecay(0.9)/s7",
        "LayerwiseDecay(0.9)/s8",
    ]
    finish(tracking, tracking.stages.runs("final"), outcome, prepared, dev=lambda run: 0.6)
    assert tracking.close(20) == 0
    found = tracking._store.client.search_runs([tracking._experiment.id], "tags.kind = 'cell'")
    parents = {(p.data.tags["configuration"], p.data.tags["stage"]): p for p in found}
    assert len(found) == len(parents) == 5
    best = parents["LayerwiseDecay(0.9)", "final"]
    assert (best.data.metrics["n"], best.data.metrics["dev_mean"]) == (2, pytest.approx(0.6))
    assert best.data.tags["tried"] == "3"
    assert parents["LayerwiseDecay(0.9)", "tune"].data.metrics["n"] == 1
    for child in tracking._store.client.search_runs([tracking._experiment.id], "tags.kind = 'run'"):
        own = next(p for p in found if p.info.run_id == child.data.tags["mlflow.parentRunId"])
        assert own.data.tags["stage"] == child.data.tags["stage"]
    runs = load_runs("door", home.uri)
    assert dict(runs["stage"].value_counts()) == {"final": 4, "tune": 3}
    assert runs["outcome"].eq("completed").all()
    table = cells(runs).set_index("configuration")
    assert table["dev_mean"].to_dict() == pytest.approx(
        {"Standard": 0.6, "LayerwiseDecay(0.9)": 0.6}
    )
    again = opened(home, tuned)
    assert {run.key for run in again.stages.runs()} == set(again.records)
    again.close(5)


def test_test_scores_do_not_affect_choices(home, tuned, outcome, prepared):  # noqa: F811
    """With test scores that are NaN, or the reverse of dev."""
    chosen = []
    for name, test in (("door", 0.5), ("nan", math.nan), ("reversed", 0.0)):
        one = tuned.replace(name=name)
        tracking = opened(home, one)
        for run in tracking.stages.runs("tune"):
            value = 1 - rate(run) if name == "reversed" else test
            finish(tracking, [run], outcome, prepared, dev=rate, test=value)
        tracking.close(20)
        again = opened(home, one)  # from the scores in MLflow
        again.close(5)
        assert again.stages.plans == tracking.stages.plans
        chosen.append(tracking.stages.plans[-1].cell.label)
    assert set(chosen) == {"LayerwiseDecay(0.9)"}


def test_a_diverged_tuning_run_counts_at_the_floor(home, tuned, outcome, prepared):  # noqa: F811
    """Dev scores below the floor of 0.5 lose against a diverged run."""
    tracking = opened(home, tuned)
    tuning = tracking.stages.runs("tune")
    diverged = tuning[1]
    dev = lambda run: math.nan if run == diverged else 0.3  # noqa: E731
    final = finish(tracking, tuning, outcome, prepared, dev=dev)
    assert {run.cell.label for run in final} == {diverged.cell.label}
    tracking.close(20)
    again = opened(home, tuned)
    again.close(5)
    assert again.stages.runs() == tracking.stages.runs()


def test_scores_in_the_outbox_count(home, tuned, outcome, prepared):  # noqa: F811
    """After a kill with all tuning runs in the outbox, the choice is made and has a parent run."""
    tracking = opened(home, tuned)
    tracking.close(5)
    for run in tracking.stages.runs("tune"):
        made = replace(outcome, dev=rate(run))
        entry = entry_of(run, packed(made, prepared, started=100.0, ended=101.0), faults=())
        tracking.put(entry, b"")
    again = opened(home, tuned)
    assert again.close(20) == 0
    runs = load_runs("door", home.uri)
    assert set(runs.loc[runs["stage"] == "final", "configuration"]) == {
        "Standard",
        "LayerwiseDecay(0.9)",
    }
    assert runs.loc[runs["stage"] == "tune", "outcome"].eq("completed").all()


def test_finished_runs_count_by_key_whatever_the_last_version_of_the_study_requested(
    home,  # noqa: F811
    tuned,
    outcome,
    prepared,
):
    """A search is removed from the study and added again: its scores still determine the choice."""
    tracking = opened(home, tuned)
    tuning = tracking.stages.runs("tune")
    finish(tracking, tuning, outcome, prepared, dev=rate)
    tracking.close(20)
    opened(home, tuned.replace(techniques=[Standard()], tune=None)).close(20)
    final = tracking.stages.runs("final")[0]
    made = entry_of(final, packed(outcome, prepared, started=100.0, ended=101.0), faults=())
    Outbox(home.study("door") / "outbox").put(made, b"")
    done = finished.finished(tuned, home)
    assert sorted(done["key"]) == sorted([final.key, *(run.key for run in tuning)])
    assert Stages(tuned, finished.scores(done)).plans == tracking.stages.plans
    assert finished.seen(done)[final.key] == (final.cell.key, made.record().seconds, final.name)
    assert len(list((home.study("door") / "outbox").iterdir())) == 1
