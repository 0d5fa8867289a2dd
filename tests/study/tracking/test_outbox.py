"""An entry that cannot be sent blocks no other, and nothing of it is lost."""

import pytest
from google.auth.exceptions import GoogleAuthError
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry

from study.cli.parser import run_command
from study.cli.run import run as run_all
from study.tracking.experiment import Experiment
from study.tracking.outbox import Outbox
from study.tracking.store import Store
from tests.study.tracking.conftest import entry, opened, put_all
from tests.study.tracking.test_server import everything


def test_an_entry_that_a_proxy_refuses_blocks_no_other(
    home_of, study, server, proxy, monkeypatch, caplog
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    tracking = opened(home_of("driver"), study)
    first = study.runs()[0]
    proxy.too_large = first.key.encode()
    put_all(tracking, study)
    assert tracking.close(3) == 1
    assert tracking.waiting == [first.key]
    assert f"run {first.key} cannot be sent" in caplog.text
    assert "413" in caplog.text
    assert first.key in tracking.trouble
    _, runs, found = everything(server.uri, study.name)
    assert len(runs) == 5
    cells = {run.data.metrics["n"] for run in found if run not in runs}
    assert cells == {2, 3}  # up to date without it
    proxy.too_large = None
    assert opened(home_of("driver"), study).close(20) == 0
    assert len(everything(server.uri, study.name)[1]) == 6


def test_a_damaged_entry_is_set_aside_and_runs_again(home, study, monkeypatch, caplog, capsys):
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    box = Outbox(home.study(study.name) / "outbox")
    for run in study.runs():
        box.put(entry(run), b"")
    damaged = study.runs()[0].key
    (box.folder / damaged / "entry.json").write_text('{"key": "')
    tracking = opened(home, study)
    assert tracking.close(20) == 0
    assert "entry.json is damaged" in caplog.text
    assert sorted(tracking.records) == sorted(run.key for run in study.runs()[1:])
    assert (home.study(study.name) / "refused" / damaged / "entry.json").exists()
    assert run_command(["gc", study.name]) == 0
    assert "refused by MLflow" in capsys.readouterr().out


def test_a_finished_run_that_waits_does_not_run_again(home, study, monkeypatch, capsys):
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    box = Outbox(home.study(study.name) / "outbox")
    for each in study.runs():
        box.put(entry(each), b"")
    home.artifacts.write_text("in the way")
    assert not run_all(study)
    out, err = capsys.readouterr()
    assert "6 done, 0 new" in err
    assert "6 finished runs wait in the outbox; the next start sends them." in err
    assert "nothing to run" in out
    home.artifacts.unlink()
    assert run_all(study)
    assert "runs wait" not in capsys.readouterr().err
    assert box.keys() == []


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db"])
def test_a_stray_file_is_no_entry(home, study, name):
    folder = home.study(study.name) / "outbox"
    folder.mkdir(parents=True)
    (folder / name).write_text("stray")
    tracking = opened(home, study)
    put_all(tracking, study)
    assert tracking.close(20) == 0
    assert (folder / name).exists()


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(GoogleAuthError("no key"), MlflowException), (AttributeError("ours"), AttributeError)],
)
def test_errors_of_object_stores_are_trouble_and_other_errors_are_not(
    home, study, monkeypatch, raised, seen
):
    class Broken:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def log_artifact(self, file: str) -> None:
            raise raised

    monkeypatch.setitem(_artifact_repository_registry._registry, "broken", Broken)
    store, run = Store(home.uri, home.artifacts), study.runs()[0]
    experiment = store.client.create_experiment("broken", artifact_location="broken://there")
    written, box = Experiment(store, experiment, store.check), Outbox(home.root / "outbox")
    box.put(entry(run), b"")
    parent = written.parent((run.cell.key, "final"), {}, {}, name="cell")
    with pytest.raises(seen):
        written.send(*box.get(run.key), parent)
