"""Scaling: 10,000 runs without training, written to an MLflow server.

The runs are those of `overhead.py`: all that `study run` does, with a fixed outcome in place of the
training. The server is a separate process on loopback that also serves the artifacts; its database
is SQLite, or the one that `--backend` names (for example an empty PostgreSQL). After every thousand
runs a line shows their time, the memory of driver and server, and the number of runs in the outbox.

The bar: memory and time grow little. The driver uses at most 300 MB more at the end than after the
first thousand runs, and the last thousand takes at most 1.5 times as long as the second.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import common

if TYPE_CHECKING:
    from study.execution.queue import Progress
    from study.tracking.writer import TrackingWriter

BAR_MB = 300.0
BAR_GROWTH = 1.5
Sample = tuple[int, float, float, int]  # runs in MLflow, seconds, driver's MB, waiting


def main() -> int:
    """Run the benchmark and print whether the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000, help="a multiple of 1,000")
    parser.add_argument("--quick", action="store_const", const=40, dest="runs", help="40 runs")
    parser.add_argument("--backend", help="the server's database; default: a new SQLite file")
    parser.add_argument("--keep", action="store_true", help="leave the server running at the end")
    arguments = parser.parse_args()
    step = arguments.runs // 10
    folder = Path(tempfile.mkdtemp(prefix="bench-server-"))
    server, address = serve(arguments.backend or f"sqlite:///{folder}/mlflow.db", folder)
    where = {"MLFLOW_TRACKING_URI": address}
    try:
        samples, mib = common.measured(
            watched, arguments.runs, step, server.pid, environment=where
        ).answer
    finally:
        if arguments.keep:
            print(f"the server keeps running: {address}, process {server.pid}, files in {folder}")
        else:
            server.terminate()
            server.wait()
            shutil.rmtree(folder)
    print("  runs   seconds ms per run   driver MB   server MB   outbox")
    times = [0.0]
    for (runs, seconds, own, waiting), served in zip(samples, mib, strict=True):
        took = seconds - times[-1]
        times.append(seconds)
        per_run = 1000 * took / step
        print(f"{runs:6d} {seconds:9.1f} {per_run:10.1f} {own:11.0f} {served:11.0f} {waiting:8d}")
    spans = [b - a for a, b in zip(times, times[1:], strict=False)]
    grown, slower = samples[-1][2] - samples[0][2], spans[-1] / spans[1]
    figure = (
        f"+{grown:.0f} MB, the last {step} runs {slower:.2f} times as long as the second {step}"
    )
    met = grown <= BAR_MB and slower <= BAR_GROWTH
    return common.ending("ten_thousand", figure, bar=f"+{BAR_MB:.0f} MB, {BAR_GROWTH}", met=met)


def serve(backend: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start an MLflow server on loopback; returns when it responds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # With several workers, its sockets wait 40 ms for more data to send, at every request.
    storage = ["--backend-store-uri", backend, "--artifacts-destination", str(folder / "artifacts")]
    network = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = (folder / "server.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *storage, *network],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=log,
        stderr=log,
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urlopen(f"{address}/health", timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return server, address
    raise RuntimeError((folder / "server.log").read_text()[-2000:])


# --- called in a separate process ---------------------------------------------------------------


def watched(runs: int, step: int, server: int) -> tuple[list[Sample], list[float]]:
    """Do the runs; take a sample after every `step`, with the memory of the server's processes."""
    import overhead

    samples: list[Sample] = []
    served: list[float] = []
    began = time.perf_counter()

    def watch(progress: "Progress", tracking: "TrackingWriter") -> None:
        def sample() -> None:
            while len(samples) < runs // step:
                done = len(tracking.records)
                if done >= step * (len(samples) + 1):
                    waiting = len(tracking.outbox.keys())
                    seconds = time.perf_counter() - began
                    samples.append((done, seconds, resident([os.getpid()]), waiting))
                    served.append(resident(family(server)))
                time.sleep(0.1)

        threading.Thread(target=sample, daemon=True).start()

    common.complete(overhead.idle(runs), watch)
    time.sleep(1.0)  # for the last sample
    return samples, served


def family(process: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(below for child in children for below in family(int(child)))]


def resident(processes: list[int]) -> float:
    """Resident memory of processes, in megabytes."""
    pages = (int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in processes)
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
