"""A worker in this process, and what the driver does with its result."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from study.execution import cluster
from study.execution.notify import Notifier
from study.execution.queue import Progress, RunQueue
from study.execution.ray_tune import ResultCallback
from study.execution.saved_models import ModelStore
from study.execution.session import Session
from study.execution.worker import Shared, Weights, Worker


@pytest.fixture
def do(runs, prepared, monkeypatch, tmp_path):
    """The result of a run whose model is to be kept, as a worker sends it; without a cluster."""
    monkeypatch.setattr(cluster.ray, "get", lambda reference: reference)
    monkeypatch.setattr(cluster.ray, "get_runtime_context", lambda: SimpleNamespace(get_job_id=str))
    monkeypatch.setattr(cluster, "get_value", lambda key: None)

    def result(run, folder, weights=None):
        shared = Shared({run.data_key: prepared}, "", weights or {}, 0, folder, 600.0, 600.0)
        keep = str(tmp_path / "models" / run.key)
        spec = json.dumps(run.spec())
        config = {"key": run.key, "cell": run.cell.name, "spec": spec, "keep": keep}
        worker = Worker.__new__(Worker)  # what Tune adds is not asked for
        worker.setup(config, shared=shared)
        return config, worker.step()

    return result


def test_a_run_whose_model_cannot_be_written_keeps_its_outcome(runs, do, tmp_path):
    (tmp_path / "models").touch()  # no folder can be made there
    result = do(runs[0], tmp_path)[1]["result"]
    assert result.outcome.outcome == "completed"
    assert result.about["not_kept"].startswith("FileExistsError: ")


def test_a_late_machine_that_lacks_the_folder_keeps_the_outcome(runs, do, tmp_path):
    result = do(runs[0], tmp_path / "absent")[1]["result"]
    assert "does not share" in result.about["not_kept"]
    assert not (tmp_path / "models").exists()


def collecting(runs, tmp_path, tracking, trouble=None):
    """A callback for a study of these runs, and its queue."""
    queue = RunQueue(runs, Progress(total=len(runs), finished=0), keep_going=False)
    shared = SimpleNamespace(
        folder=tmp_path, checkpoint=lambda key: Path(tmp_path, "checkpoints", key)
    )
    models = ModelStore(tmp_path / "models", "best", runs)
    notifier = SimpleNamespace(trouble=trouble) if trouble else Notifier("s")
    session = Session(None, queue, tracking, models, notifier)
    return ResultCallback(session, shared), queue


def test_a_late_machine_that_refuses_runs_loses_none(runs, do, tmp_path, monkeypatch):
    """It is free again at once, so it got, and lost, one run after another."""
    held, told = [], []
    monkeypatch.setattr(cluster, "block", held.extend)
    collect, queue = collecting(runs, tmp_path, None, trouble=lambda *what: told.append(what))
    for tried in range(1, 4):
        run = queue.next()
        assert run is runs[0]
        config, result = do(run, tmp_path, {run.cell.model.name: Weights("other", None)})
        collect.on_trial_result(1, [], SimpleNamespace(config=config), result)
        assert bool(queue.progress.closed) == (tried == 3)
    closed = queue.progress.closed
    assert closed.startswith("a machine cannot execute runs of this study: model 'tiny' has")
    assert told == [("machine", queue.progress.closed)]
    assert held == ["*"]
    assert queue.next() is None
    assert not queue.progress.problems
    assert not queue.faults


def test_a_model_that_is_not_kept_is_logged_once_and_tagged(runs, do, tmp_path, caplog):
    entries = []
    tracking = SimpleNamespace(put=lambda entry, _: entries.append(entry), full=False)
    collect, _ = collecting(runs, tmp_path, tracking)
    for run in runs:
        config, result = do(run, tmp_path / "absent")
        collect.on_trial_result(1, [], SimpleNamespace(config=config), result)
    assert all("does not share" in entry.tags["not_kept"] for entry in entries)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"the model of {runs[0].name} is not kept: OSError: ")
