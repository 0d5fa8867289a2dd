"""An autoscaled cluster, which begins without a machine for runs."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import RUNS, scores
from tests.needs import ROOT

pytestmark = pytest.mark.slow

Start = Callable[..., str]
# Workers on one machine have the driver's own path; so this stands for what another one has.
ELSEWHERE = """
import importlib.util, sys

class Elsewhere:
    def find_spec(name, path=None, target=None):
        if name == "study":
            return importlib.util.spec_from_file_location(
                name, {folder!r} + "/__init__.py", submodule_search_locations=[{folder!r}])

sys.meta_path.insert(0, Elsewhere)
"""


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts Ray on loopback, first a head and then machines; gives the head's address.

    Returns once Ray has started: of two that start at one moment on one machine, one dies, since
    both choose the same name for the object store's socket (ray 2.60).
    """
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5" * 64)
    folder = tempfile.mkdtemp(prefix="ray-")  # of its own: other studies here do not find it
    processes = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"

    def begin(*words: str, **also: str) -> str:
        ray = [str(Path(sys.executable).parent / "ray"), "start", "--block", *words]
        common = ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--disable-usage-stats"]
        log = Path(folder, f"start-{len(processes)}.log")
        with log.open("w") as out:
            process = subprocess.Popen(
                [*ray, *common, "--object-store-memory=100000000"],
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "RAY_TMPDIR": folder, **also},
            )
        processes.append(process)
        until = time.monotonic() + 90
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        return address

    begin.port = address.rpartition(":")[2]  # type: ignore[attr-defined]
    yield begin
    for process in reversed(processes):
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    shutil.rmtree(folder, ignore_errors=True)


def test_machines_that_come_later_do_the_runs(bench, undisturbed, tmp_path, start, monkeypatch):
    address = start("--head", f"--port={start.port}", "--num-cpus=0", "--include-dashboard=false")
    bench.write()
    refused = bench.start(tmp_path / "home", "--address", address)
    assert refused.finish() == 1
    assert "a run needs 1 CPU; its machines have 0 CPU" in refused.said()
    monkeypatch.setenv("STUDY_ROOM", "1")
    driver = bench.start(tmp_path / "home", "--address", address)
    driver.wait_for(lambda: "starting workers" in driver.said())
    for _ in range(2):
        start(f"--address={address}", "--num-cpus=1")
    assert driver.finish() == 0, driver.said()
    assert scores(tmp_path / "home") == undisturbed
    assert len(undisturbed) == RUNS


def test_a_budget_ends_a_study_whose_machines_never_come(bench, tmp_path, start, monkeypatch):
    address = start("--head", f"--port={start.port}", "--num-cpus=0", "--include-dashboard=false")
    path = bench.write()
    text = path.read_text().replace("import BiasedAdam", "import Budget, BiasedAdam", 1)
    path.write_text(text.replace("seeds=", f"budget=Budget(hours={20 / 3600}),\n    seeds=", 1))
    monkeypatch.setenv("STUDY_ROOM", "1")
    driver = bench.start(tmp_path / "home", "--address", address)
    assert driver.finish() == 1, driver.said()
    assert "no further runs were started: its budget of" in driver.said()
    assert f"stopped: 0 of {RUNS} runs done" in driver.said()


def test_a_late_machine_with_other_code_costs_no_run(bench, tmp_path, start, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(ROOT / "study", other / "study")
    (other / "study" / "execution" / "faults.py").open("a").write("# before the last change\n")
    (other / "sitecustomize.py").write_text(ELSEWHERE.format(folder=str(other / "study")))
    address = start("--head", f"--port={start.port}", "--num-cpus=0", "--include-dashboard=false")
    bench.write()
    monkeypatch.setenv("STUDY_ROOM", "1")
    driver = bench.start(tmp_path / "home", "--address", address)
    driver.wait_for(lambda: "starting workers" in driver.said())
    start(f"--address={address}", "--num-cpus=1", PYTHONPATH=str(other))
    assert driver.finish() == 1
    assert re.search(
        "a machine cannot execute runs of this study: .* has code .*ray up", driver.said()
    )
    assert f"0 of {RUNS} runs done" in driver.said()
    assert "missing" not in driver.said()
    again = bench.start(tmp_path / "home", "--address", address)
    assert again.finish() == 1
    assert "the cluster cannot run this study" in again.said()
