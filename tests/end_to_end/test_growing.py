"""A cluster that begins with no machine that does runs, as one whose machines are paid for does."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import RUNS, scores

pytestmark = pytest.mark.slow

Start = Callable[..., str]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts Ray on loopback, first a head and then machines; gives the head's address."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5" * 64)
    folder = tempfile.mkdtemp(prefix="ray-")  # of its own: other studies here do not find it
    processes = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"

    def begin(*words: str) -> str:
        ray = [str(Path(sys.executable).parent / "ray"), "start", "--block", *words]
        common = ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--disable-usage-stats"]
        processes.append(
            subprocess.Popen(
                [*ray, *common, "--object-store-memory=100000000"],
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "RAY_TMPDIR": folder},
            )
        )
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
