"""`study gc`: leftovers are listed with sizes; only these are removed, and only on request."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from analysis import load_runs
from study import Standard
from study.cli.parser import run_command
from study.core.lock import StudyLockedError, this_process
from study.tracking.cleanup import Leftover, remove
from study.tracking.experiment import Experiment
from study.tracking.lease import exclusive
from study.tracking.outbox import Outbox
from study.tracking.schema import DRIVER
from study.tracking.store import Store
from study.tracking.writer import TrackingWriter
from tests.study.tracking.conftest import entry, opened, put_all


def keys_of(study) -> list[list[str]]:
    """Keys of the runs of each cell."""
    return [[run.key for run in study.runs() if run.cell == cell] for cell in study.cells()]


@pytest.fixture
def used(home, study, monkeypatch):
    """A study with something of every kind left behind; returns its folder."""
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    tracking = opened(home, study)
    put_all(tracking, study)
    tracking.close(20)
    opened(home, study.replace(techniques=[Standard()])).close(20)  # three runs left the file
    tracking = opened(home, study.replace(techniques=[Standard()]))
    tags = {"kind": "run", "key": "0" * 12, "cell": "c"}
    tracking._store.client.create_run(tracking._experiment.id, tags=tags, run_name="a/b/c/s9")
    (first, second, _), (other, *_) = keys_of(study)
    (gone,) = tracking._store.client.search_runs([tracking._experiment.id], f"tags.key = '{first}'")
    tracking._store.client.delete_run(gone.info.run_id)
    tracking.close(20)
    own = home.study(study.name)
    for folder in (
        *(home.models(study.name) / key for key in (second, other)),
        *(own / "checkpoints" / key for key in (second, first)),
        own / "refused" / other,
        home.artifacts / study.name / "nobody",
    ):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(1_000_000))
    (own / "problems").mkdir()
    for cell in study.cells():  # the first one lacks the deleted run
        (own / "problems" / f"{cell.key}.txt").write_text("Traceback")
    home.encoded.mkdir()
    for name, days in (("old", 40), ("new", 2)):
        file = home.encoded / f"{name}.npz"
        file.write_bytes(bytes(10))
        os.utime(file, (time.time() - days * 86400,) * 2)
    return own


def left_in(home) -> set[Path]:
    files = {path for path in home.root.rglob("*") if path.is_file()}
    locks = {"driver", "gate"}
    return {path for path in files if path.name not in locks and "mlflow.db" not in path.name}


def test_all_leftovers_are_listed_and_nothing_else_is_removed(home, study, used, capsys):
    before, runs = left_in(home), load_runs(study.name, home.uri)
    assert run_command(["gc", study.name]) == 0
    said = capsys.readouterr()
    assert "nothing was removed" in said.out
    assert left_in(home) == before
    listed = [line.split("  ") for line in said.out.splitlines() if line.startswith("  ")]
    assert [line[1].strip() for line in listed] == [
        "deleted in MLflow",
        "incomplete",
        "no longer in the file",
        "artifacts without a run",
        "damaged result",
        "model without a run",
        "checkpoint of a finished run",
        "resolved error",
        "encoded data, not read for 30 days",
    ]
    assert "LayerwiseDecay(0.5): the cell and 3 runs" in said.out
    assert run_command(["gc", study.name, "--yes"]) == 0
    kept = left_in(home)
    names = {str(path.relative_to(home.root)) for path in kept}
    own = f"studies/{study.name}"
    first, second, _ = keys_of(study)[0]
    assert f"{own}/models/{second}/file" in names
    assert f"{own}/checkpoints/{first}/file" in names
    assert f"{own}/problems/{study.cells()[0].key}.txt" in names
    assert "encoded/new.npz" in names
    assert sum("/file" in name or ".txt" in name or "encoded" in name for name in names) == 4
    assert sum("run.json" in name for name in names) == 2
    assert load_runs(study.name, home.uri).equals(runs)
    capsys.readouterr()
    assert run_command(["gc", study.name, "--yes"]) == 0
    assert capsys.readouterr().out == "nothing to remove\n"


def test_removed_runs_run_again_and_no_others(home, study, used):
    run_command(["gc", study.name, "--yes"])
    tracking = opened(home, study)
    assert set(tracking.records) == set(keys_of(study)[0][1:])
    tracking.close(20)


def test_runs_in_the_outbox_are_not_incomplete(home, study, monkeypatch, capsys):
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    tracking = opened(home, study)
    run = study.runs()[0]
    tags = {"kind": "run", "key": run.key, "cell": run.cell.key}
    tracking._store.client.create_run(tracking._experiment.id, tags=tags)
    tracking.close(20)
    Outbox(home.study(study.name) / "outbox").put(entry(run), b"")
    (home.models(study.name) / run.key).mkdir(parents=True)
    assert run_command(["gc", study.name]) == 0
    assert capsys.readouterr().out == "nothing to remove\n"


def test_a_driver_is_not_disturbed(home, study, monkeypatch, capsys):
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    with home.lock(study.name).held():
        opened(home, study).close(5)
        assert run_command(["gc", study.name, "--yes"]) == 1
    assert "is being run by process" in capsys.readouterr().err


@pytest.mark.parametrize("shared", [False, True])
def test_the_holder_of_a_study_is_named_by_command(home_of, study, monkeypatch, capsys, shared):
    home, own = home_of("driver"), home_of("laptop" if shared else "driver")
    if not shared:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("STUDY_HOME", str(own.root))
    opened(home, study).close(20)
    with exclusive(home, Store(home.uri, home.artifacts), study.name, command="gc"):
        assert run_command(["status", study.name]) == 0
        assert "being run by study gc (process" in capsys.readouterr().out
        assert run_command(["stop", study.name]) == 0
        said = capsys.readouterr().out
        assert f"study {study.name!r} is in use by study gc (process" in said
        assert "which ends by itself" in said
        assert ("last seen" in said) is shared
        assert run_command(["gc", study.name]) == 1
        assert "is being run by study gc (process" in capsys.readouterr().err


def test_a_server_marks_runs_as_deleted(home_of, study, monkeypatch, capsys):
    home = home_of("driver")
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    tracking: TrackingWriter = opened(home, study)
    put_all(tracking, study)
    tracking.close(60)
    opened(home, study.replace(techniques=[Standard()])).close(20)
    assert run_command(["gc", study.name, "--yes"]) == 0
    assert "`mlflow gc` on the server" in capsys.readouterr().out
    again = opened(home, study)
    assert len(again.records) == 3
    again.close(20)


def test_a_run_that_finishes_while_gc_waits_is_kept(home_of, study, monkeypatch, capsys, caplog):
    home = home_of("driver")
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    *most, last = study.runs()
    tracking = opened(home, study)
    for run in most:
        tracking.put(entry(run), b"")
    tracking.close(60)
    store = Store(home.uri, home.artifacts)
    experiment, tag = store.experiment(study.name), DRIVER + "0"
    other = {**this_process("run"), "ticket": 1, "beat": 1, "seen": time.time()}
    store.client.set_experiment_tag(experiment, tag, json.dumps(other))
    tidying = threading.Thread(target=run_command, args=(["gc", study.name, "--yes"],))
    tidying.start()
    while "Waiting to see" not in caplog.text:
        assert tidying.is_alive()
        time.sleep(0.05)
    written = Experiment(store, experiment, store.check)
    sent = Outbox(home.root / "elsewhere")
    sent.put(entry(last), b"")
    written.send(*sent.get(last.key), written.parents[last.cell.key, "final"])
    store.client.delete_experiment_tag(experiment, tag)
    tidying.join(60)
    assert capsys.readouterr().out == "nothing to remove\n"
    assert set(load_runs(study.name, home.uri)["outcome"]) == {"completed"}


def test_artifacts_of_another_store_are_kept(home, study, server, monkeypatch, capsys):
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    tracking = opened(home, study)
    put_all(tracking, study)
    tracking.close(20)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    opened(home, study).close(20)
    assert run_command(["gc", study.name, "--yes"]) == 0
    assert capsys.readouterr().out == "nothing to remove\n"
    assert len(list(home.artifacts.rglob("run.json"))) == 6


def test_nothing_more_is_removed_once_a_driver_may_be_running(home, tmp_path):
    files = tmp_path / "first", tmp_path / "second"
    for file in files:
        file.touch()
    left = [Leftover("reason", file.name, 0, paths=(file,)) for file in files]
    held = iter([None])

    def check() -> None:
        if next(held, "lost") == "lost":
            raise StudyLockedError("taken over")

    with pytest.raises(StudyLockedError):
        remove(left, Store(home.uri, home.artifacts), check=check)
    assert [file.exists() for file in files] == [False, True]
