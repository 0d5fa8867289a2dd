"""A study tracked by a server: database restarts, outages, and killed or sleeping drivers."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from analysis import load_runs
from tests.end_to_end.conftest import RUNS
from tests.study.tracking.conftest import Server, needs_postgres
from tests.study.tracking.postgres import Postgres, postgres_running

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, f"sqlite:///{tmp_path / 'server.db'}")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with postgres_running() as made:
        yield made


def keys(uri: str, filter_string: str = "tags.kind = 'run'") -> list[str]:
    """Keys of all runs in the server, finished or not."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("kills")
    found = client.search_runs([experiment.experiment_id], filter_string) if experiment else []
    return [run.data.tags["key"] for run in found]


def done(uri: str) -> int:
    return len(keys(uri, "tags.kind = 'run' and attributes.status = 'FINISHED'"))


def once_each(uri: str, undisturbed) -> None:
    found = keys(uri)
    assert len(found) == len(set(found)) == RUNS
    frame = load_runs("kills", uri)
    assert {row.key: (row.dev, row.test) for row in frame.itertuples()} == undisturbed


@needs_postgres
def test_postgres_restarts_and_the_server_goes_away(bench, undisturbed, postgres, tmp_path):
    server = Server(tmp_path, postgres.uri)
    server.start()
    bench.write()
    driver = bench.start(tmp_path / "home", uri=server.uri)
    driver.wait_for(lambda: done(server.uri) >= 2)
    postgres.control("restart", "-m", "immediate")
    driver.wait_for(lambda: done(server.uri) >= 4)
    server.stop()
    outbox = tmp_path / "home" / "studies" / "kills" / "outbox"
    driver.wait_for(lambda: any(p.name[0] != "." for p in outbox.iterdir()))
    driver.wait_for(lambda: "Finished runs wait in" in driver.said())
    server.start()
    assert driver.finish() == 0, driver.said()
    assert "MLflow is back" in driver.said()
    once_each(server.uri, undisturbed)
    server.stop()


def test_a_killed_driver_is_taken_over_from_another_machine(bench, undisturbed, server, tmp_path):
    bench.write()
    first = bench.start(tmp_path / "first", uri=server.uri)
    first.wait_for(lambda: done(server.uri) >= 2)
    first.kill()
    assert done(server.uri) < RUNS
    second = bench.start(tmp_path / "second", "--workers", "1", uri=server.uri)
    second.wait_for(lambda: "this driver takes over" in second.said())
    assert second.finish() == 0, second.said()
    once_each(server.uri, undisturbed)
    began = time.monotonic()
    again = bench.start(tmp_path / "third", uri=server.uri)  # released: nobody waits
    assert again.finish() == 0
    assert "nothing to run" in again.said()
    assert "Waiting" not in again.said()
    assert time.monotonic() - began < 60


def test_a_driver_that_slept_stops_after_a_takeover(bench, undisturbed, server, tmp_path):
    bench.write()
    first = bench.start(tmp_path / "first", uri=server.uri)
    first.wait_for(lambda: done(server.uri) >= 2)
    first.process.send_signal(signal.SIGSTOP)
    second = bench.start(tmp_path / "second", "--workers", "1", uri=server.uri)
    second.wait_for(lambda: done(server.uri) >= 5)  # a minute of it for the lease to expire
    first.process.send_signal(signal.SIGCONT)
    assert first.finish(120) == 1, first.said()
    assert f"was taken over by process {second.process.pid} on" in first.said()
    assert "Traceback" not in first.said()
    assert second.finish() == 0, second.said()
    once_each(server.uri, undisturbed)
