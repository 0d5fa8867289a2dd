"""`study sync`: once, repeated, after an interruption, and with different scores."""

import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from analysis import load_curves, load_predictions, load_runs
from study.cli.parser import run_command
from study.core.lock import StudyLockedError
from study.core.paths import Home
from study.tracking.lease import Lease
from study.tracking.store import TROUBLE, Store
from study.tracking.sync import sync
from tests.study.tracking.conftest import entry, opened, put_all
from tests.study.tracking.test_server import everything


@pytest.fixture
def filled(home, study, monkeypatch):
    """A study in a home; the address of its store."""
    tracking = opened(home, study)
    put_all(tracking, study)
    assert tracking.close(20) == 0
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    return home.uri


def same(study, first, second) -> bool:
    frames = [
        load_runs(study.name, uri).sort_values("key", ignore_index=True) for uri in (first, second)
    ]
    curves = [load_curves(study.name, uri) for uri in (first, second)]
    return bool(frames[0].equals(frames[1]) and curves[0].equals(curves[1]))


def test_the_target_has_the_same_study(filled, study, server, capsys):
    assert run_command(["sync", study.name, "--to", server.uri]) == 0
    assert "6 runs copied, 0 already there" in capsys.readouterr().out
    assert same(study, filled, server.uri)
    _, runs, found = everything(server.uri, study.name)
    assert {run.info.status for run in found} == {"FINISHED"}
    client = MlflowClient(tracking_uri=server.uri)
    for run in runs:
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert names == {"run.json", "predictions.parquet"}
    assert run_command(["sync", study.name, "--to", server.uri]) == 0
    assert "0 runs copied, 6 already there" in capsys.readouterr().out
    assert len(everything(server.uri, study.name)[2]) == len(found)
    assert same(study, filled, server.uri)


def test_a_study_is_copied_from_a_server_into_a_file(filled, study, server, tmp_path, monkeypatch):
    run_command(["sync", study.name, "--to", server.uri])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    other = f"sqlite:///{tmp_path / 'copy' / 'mlflow.db'}"
    assert run_command(["sync", study.name, "--to", other]) == 0
    assert same(study, filled, other)


def test_an_interrupted_copy_is_completed(filled, study, server, home, proxy):
    proxy.broken, proxy.loss = True, 0.05
    source, breaks = Store(filled, home.artifacts), 0
    for _ in range(40):
        try:
            done = sync(
                study.name, source, Store(proxy.uri, home.artifacts), progress=lambda _: None
            )
            break
        except TROUBLE:
            breaks += 1
    assert breaks
    assert done.copied + done.unchanged == 6
    assert same(study, filled, server.uri)
    assert len(everything(server.uri, study.name)[1]) == 6


def test_different_scores_are_reported(filled, study, server, home_of, capsys, monkeypatch):
    tracking = opened(home_of("other"), study)
    run = study.runs()[0]
    tracking.put(entry(run, 0.123), b"")
    tracking.close(60)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert run_command(["sync", study.name, "--to", server.uri]) == 1
    said = capsys.readouterr()
    assert f"{run.name} has different scores in the target" in said.err
    assert "5 runs copied" in said.out
    frame = load_runs(study.name, server.uri).set_index("key")
    assert frame.loc[run.key, "dev"] == 0.123


def test_a_study_held_in_the_target_is_not_copied(filled, study, server, home):
    target = Store(server.uri, home.artifacts)
    experiment = target.experiment(study.name)
    driver = Lease(target, experiment, study.name, stop=lambda: None)
    with pytest.raises(StudyLockedError):
        sync(study.name, Store(filled, home.artifacts), target, progress=lambda _: None)
    driver.release()


def test_a_run_that_finishes_during_the_copy_is_copied(home, study, server, proxy):
    first, *others = study.runs()
    tracking = opened(home, study)
    tracking.put(entry(first), b"")
    while not tracking.records:
        time.sleep(0.05)
    proxy.holding = ["mlflow/runs/log-batch"]  # of the first cell: by then the source has been read
    stores, done = (Store(home.uri, home.artifacts), Store(proxy.uri, home.artifacts)), []
    copying = threading.Thread(
        target=lambda: done.append(sync(study.name, *stores, progress=lambda _: None))
    )
    copying.start()
    while not proxy.held:
        assert copying.is_alive()
        time.sleep(0.05)
    for run in others:
        tracking.put(entry(run), b"")
    assert tracking.close(20) == 0
    proxy.holding = []
    copying.join(60)
    assert done[0].copied == 6
    assert len(everything(server.uri, study.name)[1]) == 6


def test_a_study_locked_in_the_targets_folder_is_not_copied(filled, study, tmp_path):
    other = Home(tmp_path / "other")
    with other.lock(study.name).held():
        target = Store(f"sqlite:///{other.root / 'mlflow.db'}", other.artifacts)
        with pytest.raises(StudyLockedError, match="is being run by process"):
            sync(study.name, Store(filled, other.artifacts), target, progress=lambda _: None)


def test_predictions_are_copied(home, study, tmp_path, monkeypatch):
    import pandas as pd

    monkeypatch.setenv("STUDY_HOME", str(home.root))
    tracking = opened(home, study)
    table = pd.DataFrame({"split": ["test"], "id": ["1"], "label": [0], "logit_no": [0.5]})
    tracking.put(entry(study.runs()[0]), table.to_parquet())
    tracking.close(20)
    other = f"sqlite:///{tmp_path / 'copy.db'}"
    assert run_command(["sync", study.name, "--to", other]) == 0
    there, here = (load_predictions(study.name, uri) for uri in (other, home.uri))
    assert len(there) == 1
    assert there.equals(here)


def test_the_store_in_use_is_recognised_by_any_address(filled, study, home, capsys, monkeypatch):
    """A relative path, or one through a link, copied a store into itself."""
    monkeypatch.chdir(home.root.parent)
    Path("link").symlink_to(home.root)
    near = f"{home.root.name}/mlflow.db"
    for to in (filled, f"sqlite:///{near}", f"sqlite:///./{near}", "sqlite:///link/mlflow.db"):
        assert run_command(["sync", study.name, "--to", to]) == 2
        assert "is the store in use" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["nonsense", "http://127.0.0.1:1"])
def test_where_there_is_no_store(filled, study, to, capsys):
    assert run_command(["sync", study.name, "--to", to]) == (2 if to == "nonsense" else 1)
    assert to in capsys.readouterr().err
