"""Runs that users delete or restore in MLflow, and two studies with one name."""

import time

import pytest
from mlflow import MlflowClient

from analysis import load_runs
from analysis.frames.load import load_finished
from study import Standard
from study.tracking.cleanup import leftovers
from tests.study.tracking.conftest import opened, put_all
from tests.study.tracking.test_server import everything


@pytest.fixture
def done(home, study):
    tracking = opened(home, study)
    put_all(tracking, study)
    assert tracking.close(20) == 0
    return study


def cells(client: MlflowClient, name: str):
    number = client.get_experiment_by_name(name).experiment_id
    return client.search_runs([number], "tags.kind = 'cell'")


def whole(home, study) -> None:
    """Each run once, below the one parent of its cell."""
    client, runs, found = everything(home.uri, study.name)
    assert sorted(r.data.tags["key"] for r in runs) == sorted(r.key for r in study.runs())
    parents = {run.data.tags["cell"]: run.info.run_id for run in found if run not in runs}
    assert len(found) - len(runs) == len(parents) == 2
    for run in runs:
        assert run.data.tags["mlflow.parentRunId"] == parents[run.data.tags["cell"]]
    assert set(load_runs(study.name, home.uri)["outcome"]) == {"completed"}


def test_a_deleted_run_is_missing_and_runs_again(home, done):
    client, runs, _ = everything(home.uri, done.name)
    client.delete_run(runs[0].info.run_id)
    frame = load_runs(done.name, home.uri)
    assert list(frame["outcome"]).count("missing") == 1
    tracking = opened(home, done)
    assert len(tracking.records) == 5
    put_all(tracking, done)
    tracking.close(20)
    whole(home, done)
    client.restore_run(runs[0].info.run_id)  # both are there now: the earlier one goes again
    opened(home, done).close(20)
    whole(home, done)


def test_a_deleted_cell_is_created_again_as_the_parent_of_its_runs(home, done):
    client = MlflowClient(tracking_uri=home.uri)
    gone = cells(client, done.name)[0].info.run_id
    client.delete_run(gone)
    opened(home, done).close(20)
    whole(home, done)
    client.restore_run(gone)
    opened(home, done).close(20)
    whole(home, done)


def test_a_cell_deleted_while_the_study_runs(home, study):
    tracking = opened(home, study)
    client = MlflowClient(tracking_uri=home.uri)
    put_all(tracking, study.replace(seeds=[0]))
    while len(tracking.records) < 2:
        time.sleep(0.05)
    for cell in cells(client, study.name):
        client.delete_run(cell.info.run_id)
    put_all(tracking, study)
    assert tracking.close(20) == 0
    opened(home, study).close(20)  # the last summaries may have gone to cells just made
    whole(home, study)


def test_a_cell_deleted_together_with_a_run_is_created_again_once(home, study):
    tracking = opened(home, study)
    put_all(tracking, study)
    while len(tracking.records) < 6:
        time.sleep(0.05)
    client, runs, _ = everything(home.uri, study.name)
    gone = runs[0]
    for run_id in (gone.info.run_id, gone.data.tags["mlflow.parentRunId"]):
        client.delete_run(run_id)
    tracking.note_missing(
        next(r for r in study.runs() if r.key == gone.data.tags["key"]), "looked at"
    )
    until = time.monotonic() + 20
    for there in (False, True):  # trouble comes, and is over
        while (tracking.trouble is None) is not there:
            assert time.monotonic() < until
            time.sleep(0.02)
    assert tracking.close(20) == 0
    _, runs, found = everything(home.uri, study.name)
    assert (len(runs), len(found)) == (5, 7)
    left = [run for run in runs if run.data.tags["cell"] == gone.data.tags["cell"]]
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in left}
    assert parent in {cell.info.run_id for cell in cells(client, study.name)}


def test_duplicates_are_read_once(home, done):
    """A user restored what had been created again, and no driver has started since."""
    client, runs, found = everything(home.uri, done.name)
    before = load_runs(done.name, home.uri)
    parent = next(run for run in found if run not in runs)
    for first in (runs[0], parent):
        info = first.info
        made = client.create_run(info.experiment_id, info.start_time - 1, first.data.tags)
        client.log_metric(made.info.run_id, "dev", 0.1)
        client.set_terminated(made.info.run_id)
    assert load_runs(done.name, home.uri).equals(before)
    assert len(load_finished(done.name, home.uri)) == 6


def test_a_cell_whose_creation_was_interrupted_gets_its_parameters(home, study):
    first = opened(home, study.replace(techniques=[Standard()]))
    other = study.cells()[1]
    tags = {"kind": "cell", "cell": other.key, "stage": "final", "in_study": "true"}
    first._store.client.create_run(first._experiment.id, tags=tags, run_name=other.name)
    first.close(10)
    opened(home, study).close(10)
    found = cells(first._store.client, study.name)
    assert len(found) == 2
    assert len({len(cell.data.params) for cell in found} - {0}) == 2  # one has a technique's, too
    assert all(cell.data.tags["seeds"] == "0-2" for cell in found)


def test_a_deleted_experiment_is_restored_at_the_next_start(home, done):
    client = MlflowClient(tracking_uri=home.uri)
    client.delete_experiment(client.get_experiment_by_name(done.name).experiment_id)
    with pytest.raises(LookupError):
        load_runs(done.name, home.uri)
    tracking = opened(home, done)
    assert len(tracking.records) == 6
    tracking.close(20)
    whole(home, done)


def test_an_experiment_deleted_while_the_study_runs_refuses_no_run(home, study, caplog):
    tracking = opened(home, study)
    client = MlflowClient(tracking_uri=home.uri)
    client.delete_experiment(tracking._experiment.id)
    put_all(tracking, study)
    assert tracking.close(3) == 6
    assert "the experiment was deleted; restore it in MLflow" in caplog.text
    assert not (home.study(study.name) / "refused").exists()
    opened(home, study).close(20)
    whole(home, study)


def test_a_study_under_another_name_has_the_runs_of_its_renamed_experiment(home, done):
    """As docs/tracking.md says."""
    client, renamed = MlflowClient(tracking_uri=home.uri), done.replace(name="renamed")
    client.rename_experiment(client.get_experiment_by_name(done.name).experiment_id, renamed.name)
    home.study(done.name).rename(home.study(renamed.name))
    tracking = opened(home, renamed)
    assert len(tracking.records) == 6
    assert tracking.close(20) == 0
    whole(home, renamed)
    other = opened(home, done)  # whose artifacts go to the same folder
    left = leftovers(home, other._store, done.name, wanted=(), failing=())
    assert other.close(20) == 0
    assert [each.reason for each in left if each.reason == "artifacts without a run"] == []
    assert list((home.artifacts / done.name).iterdir())


def test_a_study_of_the_same_name_is_named_in_a_warning(home, study, caplog):
    opened(home, study, "/ann/study.py").close(10)
    opened(home, study, "/ann/study.py").close(10)
    opened(home, study.replace(techniques=[Standard()]), "/ann/study.py").close(10)
    opened(home, study, "/ann/study.py").close(10)
    assert "rename one of the two" not in caplog.text
    opened(home, study.replace(techniques=[Standard()]), "/bob/study.py").close(10)
    assert "1 cells of study" in caplog.text
    assert "Last opened by" in caplog.text
    assert "/ann/study.py" in caplog.text
