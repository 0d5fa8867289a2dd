"""An entry that cannot be sent blocks no other, and nothing of it is lost."""

from dataclasses import replace

import pytest
from google.auth.exceptions import GoogleAuthError
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
from mlflow.utils.validation import _validate_metric_name

from study.cli.parser import run_command
from study.cli.run import run as run_all
from study.tracking.experiment import Experiment
from study.tracking.outbox import Outbox
from study.tracking.schema import metric_key, storable
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
    assert "damaged result" in capsys.readouterr().out


def test_a_result_that_mlflow_refuses_is_kept_and_not_trained_again(home, study, caplog):
    """It used to be set aside and trained again at each start."""
    first, *others = study.runs()
    tracking = opened(home, study)
    tracking.put(replace(entry(first), metrics=[("not@a@key", 1.0, 0)]), b"")
    for run in others:
        tracking.put(entry(run), b"")
    assert tracking.close(20) == 1  # at once: waiting would not help
    assert f"MLflow refuses {first.name}" in caplog.text
    assert len(tracking.records) == len(others)
    again = opened(home, study)
    assert again.close(20) == 1
    assert again.waiting == [first.key]
    assert sorted(again.finished) == sorted(run.key for run in study.runs())


def test_a_result_that_an_earlier_version_set_aside_is_sent(home, study):
    first = study.runs()[0]
    box = Outbox(home.study(study.name) / "outbox")
    box.put(entry(first), b"")
    box.set_aside(first.key, "MLflow refuses it")
    tracking = opened(home, study)
    assert tracking.close(20) == 0
    assert list(tracking.records) == [first.key]


def test_names_that_mlflow_refuses_are_carried_under_others(home, study):
    """A metric called hits@1, and a run whose name is longer than the column on PostgreSQL."""
    first = study.runs()[0]
    curve = [("dev/hits@1", 0.5, 1), ("dev/hits@1", 0.75, 2)]
    made = entry(first)
    long = f"pairs/tiny/{'Template(read the passage) ' * 20}/s0"
    tracking = opened(home, study)
    tracking.put(replace(made, name=long, metrics=[*made.metrics, *curve]), b"")
    assert tracking.close(20) == 0
    client = tracking._store.client
    (run,) = client.search_runs([tracking._experiment.id], f"tags.key = '{first.key}'")
    history = client.get_metric_history(run.info.run_id, "dev/hits_1")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.75)]
    assert len(run.info.run_name) == 250
    assert run.info.run_name.startswith("pairs/tiny/Template(")
    assert run.info.run_name.endswith("/s0")


def test_texts_that_a_database_refuses_are_escaped():
    """PostgreSQL refuses NUL, and no database takes half of a surrogate pair."""
    assert storable("a\x00b") == r"a\x00b"
    assert storable("nice \ud83d day") == r"nice \ud83d day"
    assert storable("na\u00efve\n\U0001f600") == "na\u00efve\n\U0001f600"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "hits@1",
            "accuracy (%)",
            "F\u2081",
            "a:b",
            "..",
            ".",
            "",
            "../x",
            "a//b",
            "/a",
            "two\nlines",
        )
    ]
    + ["x" * 400, "a\\b", "\ud83d"],
)
def test_every_metric_has_a_key_that_mlflow_takes(name):
    key = metric_key(f"dev/{name}")
    _validate_metric_name(key)
    assert key.startswith("dev/")
    assert len(key) <= 250
    assert metric_key("dev/macro_f1") == "dev/macro_f1"
    assert metric_key("test") == "test"


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
