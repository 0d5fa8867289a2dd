"""After kills and interruptions each run is in MLflow once, with the undisturbed scores."""

import os
import re
import signal
import time

import pytest

from tests.end_to_end.conftest import RUNS, TECHNIQUES, scores, tracked

pytestmark = pytest.mark.slow


def once_each(home, undisturbed):
    keys = tracked(home)
    assert len(keys) == len(set(keys)) == RUNS
    assert scores(home) == undisturbed
    assert list((home / "studies" / "kills" / "outbox").iterdir()) == []


def test_again_runs_nothing_and_a_new_seed_runs_one_per_cell(bench, undisturbed, undisturbed_home):
    home = undisturbed_home  # no other test opens it
    bench.write()
    driver = bench.start(home)
    assert driver.finish() == 0
    assert f"{RUNS} done, 0 new" in driver.said()
    assert "nothing to run" in driver.said()

    bench.write(seeds="range(4)")
    driver = bench.start(home, "--workers", "1")
    assert driver.finish() == 0
    assert f"{RUNS} done, 3 new" in driver.said()
    assert len(tracked(home)) == len(set(tracked(home))) == RUNS + 3
    again = scores(home)
    assert {key: again[key] for key in undisturbed} == undisturbed

    bench.write()
    driver = bench.start(home, "--dry-run")
    assert driver.finish() == 0
    assert f"{RUNS} done, 0 new" in driver.said()


def test_one_worker_and_another_order(bench, undisturbed, tmp_path):
    bench.write(techniques=TECHNIQUES[::-1], seeds="[2, 0, 1]")
    driver = bench.start(tmp_path / "home", "--workers", "1")
    assert driver.finish() == 0, driver.said()
    once_each(tmp_path / "home", undisturbed)


def test_killed_driver(bench, running, undisturbed):
    running.wait_for_runs(3)
    in_flight = running.workers()
    running.kill()
    before = tracked(running.home)
    assert in_flight, "the kill hit nothing"
    assert 3 <= len(before) < RUNS
    again = bench.start(running.home)
    assert again.finish() == 0, again.said()
    once_each(running.home, undisturbed)


def test_killed_worker(running, undisturbed):
    running.wait_for_runs(2)
    running.wait_for(lambda: bool(running.workers()))
    victim = running.workers()[0]
    os.kill(victim, signal.SIGKILL)
    assert len(tracked(running.home)) < RUNS, "nothing was in flight"
    assert running.finish() == 0, running.said()
    assert re.search(r", [12] retried \([12] process\)", running.said()), running.said()
    once_each(running.home, undisturbed)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_study_resumes(bench, running, undisturbed, sent):
    running.wait_for_runs(2)
    began = time.monotonic()
    running.process.send_signal(sent)
    assert running.finish(60) == 1, running.said()
    assert time.monotonic() - began < 30
    assert "stopped:" in running.said()
    assert "resume:  python" in running.said()
    assert "Traceback" not in running.said()
    assert len(tracked(running.home)) < RUNS
    again = bench.start(running.home)
    assert again.finish() == 0, again.said()
    once_each(running.home, undisturbed)


@pytest.mark.parametrize("running", ["range(100)"], indirect=True)  # outlasts another start
def test_second_driver_is_refused_and_stop_stops_the_first(bench, running):
    running.wait_for_runs(1)
    second = bench.start(running.home)
    assert second.finish() == 1
    assert f"is being run by process {running.process.pid} on" in second.said()
    from study.core.paths import Home

    assert "process" in (Home(running.home).lock("kills").request_stop() or "")
    assert running.finish(60) == 1, running.said()
    assert "stopped:" in running.said()
    assert Home(running.home).lock("kills").request_stop() is None


def test_store_moved_away_and_back(running, undisturbed):
    """Nothing is lost, and neither the moved file nor a new one is written to."""
    file, away = running.home / "mlflow.db", running.home / "elsewhere.db"
    running.wait_for_runs(2)
    file.rename(away)
    outbox = running.home / "studies" / "kills" / "outbox"
    running.wait_for(lambda: len([p for p in outbox.iterdir() if p.name[0] != "."]) >= 2)
    assert not file.exists()
    assert "is gone" in running.said()
    written = away.stat().st_mtime_ns, away.stat().st_size
    time.sleep(1.5)
    assert not file.exists()
    assert (away.stat().st_mtime_ns, away.stat().st_size) == written
    away.rename(file)
    assert running.finish() == 0, running.said()
    assert "MLflow is back" in running.said()
    once_each(running.home, undisturbed)
