"""A study tracked by an MLflow server, with lost requests, lost responses, and outages."""

import http.server
import json
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from analysis import load_curves, load_runs
from analysis.frames.load import find_run
from study.cli.parser import run_command
from study.core.lock import StudyLockedError
from study.core.paths import Home, without_password
from study.planning.stages import CellPlan
from study.techniques import FreezeLower, LayerwiseDecay, Standard
from study.tracking.lease import driver
from study.tracking.store import Store, StoreGoneError
from tests.study.tracking.conftest import free_port, opened, put_all


def everything(uri, name, *, deleted=False):
    client = MlflowClient(tracking_uri=uri)
    number = client.get_experiment_by_name(name).experiment_id
    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    found = client.search_runs([number], run_view_type=view)
    return client, [run for run in found if run.data.tags["kind"] == "run"], found


def test_runs_are_read_as_they_were_written(home_of, study, server, capsys):
    home = home_of("driver")
    tracking = opened(home, study)
    put_all(tracking, study)
    assert tracking.close(60) == 0
    frame = load_runs(study.name, server.uri)
    assert sorted(frame["key"]) == sorted(run.key for run in study.runs())
    assert set(frame["outcome"]) == {"completed"}
    assert len(load_curves(study.name, server.uri)) == 18
    first = study.runs()[0]
    assert find_run(first.key, server.uri)["spec"] == json.loads(json.dumps(first.spec()))
    for words in (["status", study.name], ["show", first.key], ["ui", study.name]):
        assert run_command(words) == 0
    said = capsys.readouterr()
    assert "not running" in said.out
    assert "View run" not in said.out + said.err  # MLflow's line per run


CELLS = [LayerwiseDecay(rate=0.5), FreezeLower(layers=1)]


def test_lost_responses_cause_no_duplicates(home_of, study, server, proxy, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    some = study.replace(techniques=[Standard()], seeds=range(2))
    tracking = opened(home_of("driver"), some)
    study = some.replace(techniques=[Standard(), *CELLS])
    proxy.broken = True
    tracking.add([CellPlan(cell, "final", (), "0-1") for cell in study.cells()[1:]])
    put_all(tracking, study)
    assert tracking.close(240) == 0
    lost = Counter(proxy.lost_responses)
    assert lost["mlflow/runs/create"] >= 3, lost  # of cells and of runs
    assert lost["mlflow/runs/update"], lost
    assert len(proxy.lost_requests) > 5
    client, runs, found = everything(server.uri, study.name)
    keys = [run.data.tags["key"] for run in runs]
    assert sorted(keys) == sorted(run.key for run in study.runs())
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(found) - len(runs) == 1 + len(CELLS)
    assert all(run.data.params for run in found)
    for run in runs:
        curve = client.get_metric_history(run.info.run_id, "train/loss")
        assert [(m.step, m.value) for m in curve] == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]


def test_a_cell_whose_parameters_got_no_response_has_one_parent(
    home_of, study, server, proxy, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    tracking = opened(home_of("driver"), study.replace(techniques=[Standard()]))
    proxy.losing = ["mlflow/runs/log-batch"]
    tracking.add([CellPlan(study.cells()[1], "final", (), "0-2")])
    put_all(tracking, study)
    assert tracking.close(60) == 0
    assert proxy.lost_responses == ["mlflow/runs/log-batch"]
    _, runs, found = everything(server.uri, study.name)
    assert (len(runs), len(found)) == (6, 8)
    assert all(run.data.params for run in found)


def test_a_response_lost_at_the_end_leaves_no_cell_outdated(
    home_of, study, server, proxy, monkeypatch, caplog
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    tracking = opened(home_of("driver"), study)
    put_all(tracking, study)
    while len(tracking.records) < 6:
        time.sleep(0.02)
    proxy.losing = ["mlflow/runs/log-batch", "mlflow/runs/update"]
    assert tracking.close(20) == 0
    assert proxy.losing == []
    _, runs, found = everything(server.uri, study.name)
    cells = [run for run in found if run not in runs]
    assert [(c.info.status, c.data.metrics["n"]) for c in cells] == [("FINISHED", 3)] * 2
    assert "not up to date" not in caplog.text


def test_cells_that_are_not_up_to_date_are_named(home, study, caplog):
    tracking = opened(home, study)
    file = home.root / "mlflow.db"
    file.rename(home.root / "away")
    tracking.close(1)
    (home.root / "away").rename(file)
    assert "2 cells are not up to date in MLflow; the next start updates them" in caplog.text
    assert study.cells()[0].name in caplog.text


def test_two_homes_have_one_driver(home_of, study, server):
    first = opened(home_of("here"), study)
    assert "process" in str(driver(home_of("laptop"), study.name))
    began = time.monotonic()
    with pytest.raises(StudyLockedError, match=f"study '{study.name}' is being run by process"):
        opened(home_of("there"), study)
    assert time.monotonic() - began < 25
    first.close(10)
    opened(home_of("there"), study).close(10)
    assert driver(home_of("laptop"), study.name) is None


def test_a_study_is_not_given_back_while_a_request_is_under_way(
    home_of, study, server, proxy, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    tracking = opened(home_of("driver"), study)
    proxy.holding = ["mlflow/runs/create"]
    put_all(tracking, study)
    while not proxy.held:
        time.sleep(0.05)
    tracking.release()
    assert tracking._thread.is_alive()
    assert driver(home_of("laptop"), study.name) is not None
    proxy.holding = []
    tracking._thread.join(20)
    assert len(everything(server.uri, study.name)[1]) == 1  # what was under way, and no more


def test_stop_and_status_from_a_machine_with_no_files_of_the_study(
    home_of, study, server, monkeypatch, capsys
):
    home = home_of("cluster")
    with home.lock(study.name).held():
        tracking = opened(home, study)
        monkeypatch.setenv("STUDY_HOME", str(home_of("laptop").root))
        assert run_command(["status", study.name]) == 0
        assert "being run by process" in capsys.readouterr().out
        assert run_command(["stop", study.name]) == 0
        assert "asked process" in capsys.readouterr().out
        until = time.monotonic() + 30
        while not home.lock(study.name).stop_requested() and time.monotonic() < until:
            time.sleep(0.1)
        assert home.lock(study.name).stop_requested()
        tracking.close(10)
    assert run_command(["stop", study.name]) == 0
    assert "is not running" in capsys.readouterr().out
    assert run_command(["stop", "absent"]) == 2


class Answering(http.server.BaseHTTPRequestHandler):
    status, text = 200, ""

    def do_GET(self) -> None:  # noqa: N802
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.text.encode())

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("status", "text", "remedy"),
    [
        (401, "You are not authenticated", "MLFLOW_TRACKING_USERNAME"),
        (403, "Permission denied", "MLFLOW_TRACKING_USERNAME"),
        (403, "Invalid Host header - possible DNS rebinding attack", "--allowed-hosts 127.0.0.1"),
        (404, "no such page", "the server at this address is not MLflow"),
        (200, "<html>hello</html>", "the server at this address is not MLflow"),
        (500, "oh", "check that its database is running"),
    ],
)
def test_a_wrong_response_is_reported_with_a_remedy(tmp_path, monkeypatch, status, text, remedy):
    answering = type("Answering", (Answering,), {"status": status, "text": text})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_address[1]}")
    with pytest.raises(StoreGoneError, match=remedy):
        Store(Home(tmp_path).uri, tmp_path)
    server.shutdown()
    server.server_close()


def silent_port() -> int:
    """A port that accepts connections and sends nothing."""
    import socket

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    KEPT.append(listening)
    return int(listening.getsockname()[1])


KEPT = []  # sockets that must outlive their function


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        (lambda: f"http://127.0.0.1:{free_port()}", "connection refused"),
        (lambda: "http://nowhere.invalid:5000", "unknown host"),
        (lambda: f"http://me:secret@127.0.0.1:{silent_port()}", "no response in time"),
    ],
)
def test_nobody_answers(tmp_path, monkeypatch, capsys, study, address, cause):
    from study.cli.run import run

    monkeypatch.setenv("MLFLOW_TRACKING_URI", address())
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    began = time.monotonic()
    assert run(study) is False
    assert time.monotonic() - began < 15
    said = capsys.readouterr().err
    assert "MLflow at http://" in said
    assert cause in said
    assert "secret" not in said


def test_a_proxy_in_the_way_is_named(monkeypatch, tmp_path, capsys):
    """An address of this machine went to the proxy of the environment, and nothing said so."""
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{free_port()}")
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StoreGoneError, match=r"through the proxy .* set NO_PROXY=127\.0\.0\.1\."):
        Store(uri, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert run_command(["status", "any"]) == 2
    said = capsys.readouterr().err
    assert "set NO_PROXY=127.0.0.1." in said
    assert "secret" not in said
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(StoreGoneError) as caught:
        Store(uri, tmp_path)
    assert "proxy" not in str(caught.value)


@pytest.mark.parametrize("password", ["secret", "se@secret", "@secret@"])
def test_no_password_is_shown(password):
    said = without_password(f"from http://me:{password}@host:5000/a@b to sqlite:///file, me@host")
    assert said == "from http://host:5000/a@b to sqlite:///file, me@host"


def test_a_reader_reports_an_unreachable_server(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:se@secret@127.0.0.1:{free_port()}")
    assert run_command(["status", "any"]) == 2
    said = capsys.readouterr().err
    assert "MLflow at http://127.0.0.1" in said
    assert "secret" not in said


def test_the_users_own_retry_settings_count(server, monkeypatch):
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    Store(server.uri, Path("unused"))
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "3"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "30"


def test_an_outage_in_the_middle(home_of, study, server, monkeypatch, caplog):
    """Runs that finish meanwhile wait on disk, and are sent when the server is back."""
    tracking = opened(home_of("driver"), study)
    server.stop()
    put_all(tracking, study)
    until = time.monotonic() + 60
    while tracking.trouble is None and time.monotonic() < until:
        time.sleep(0.1)
    assert tracking.trouble is not None
    assert len(tracking.outbox.keys()) == 6
    server.start()
    assert tracking.close(60) == 0
    assert "MLflow is back" in caplog.text
    _, runs, _ = everything(server.uri, study.name)
    assert sorted(run.data.tags["key"] for run in runs) == sorted(r.key for r in study.runs())
