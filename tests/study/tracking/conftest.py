"""Fixtures: an MLflow server in its own process, and a proxy that loses requests."""

import http.client
import http.server
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from study import LayerwiseDecay, Recipe, Standard, Study
from study.core.paths import Home
from study.planning.runs import Run
from study.tracking.entry import Entry
from study.tracking.writer import TrackingWriter


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@dataclass
class Server:
    """`mlflow server`, to be stopped and started."""

    folder: Path
    backend: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = ["--backend-store-uri", self.backend, "--artifacts-destination"]
        words += [str(self.folder / "artifacts"), "--serve-artifacts", "--workers", "1"]
        words += ["--host", "127.0.0.1", "--port", str(self.port)]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        until = time.monotonic() + 120
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < until, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, 15)  # the server and its worker
        self.process.wait(30)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    made = Server(folder, f"sqlite:///{folder / 'mlflow.db'}")
    made.start()
    yield made
    made.stop()


class Proxy(http.server.ThreadingHTTPServer):
    """A proxy that loses requests before, and responses after, the server has done its work."""

    daemon_threads = True

    def __init__(self, port: int, *, seed: int, loss: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.to, self.loss, self.seed = port, loss, seed
        self.rngs: dict[
            str, random.Random
        ] = {}  # one per endpoint: threads take turns as they like
        self.broken = False
        self.holding: list[str] = []  # endpoints that hold requests back,
        self.held = False  # and whether one did so
        self.losing: list[str] = []  # endpoints that lose their next response for certain
        self.too_large: bytes | None = None  # bodies with this are refused, as a proxy does
        self.lost_requests: list[str] = []
        self.lost_responses: list[str] = []

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def _forward(self) -> None:
        proxy, body = self.server, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = "/".join(self.path.partition("?")[0].removeprefix("/api/2.0/").split("/")[:3])
        rng = proxy.rngs.setdefault(path, random.Random(f"{proxy.seed} {path}"))
        fate = rng.random() if proxy.broken else 1.0
        self.close_connection = True
        if fate < proxy.loss:
            proxy.lost_requests.append(path)
            return
        if proxy.too_large is not None and proxy.too_large in body:
            self.send_response(413)
            self.end_headers()
            self.wfile.write(b"<html>Request Entity Too Large</html>")
            return
        while path in proxy.holding:
            proxy.held = True
            time.sleep(0.05)
        onward = http.client.HTTPConnection("127.0.0.1", proxy.to, timeout=60)
        onward.request(self.command, self.path, body, dict(self.headers))
        answer = onward.getresponse()
        content = answer.read()
        if path in proxy.losing or fate < 2 * proxy.loss:
            proxy.losing = [other for other in proxy.losing if other != path]
            proxy.lost_responses.append(path)
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815

    def log_message(self, *words: object) -> None:
        """Nothing: hundreds of lines."""


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    made = Proxy(server.port, seed=4, loss=0.12)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def study(task, model, request) -> Study:
    """Two cells of three runs, under a name of its own: the server outlives a test."""
    return Study(
        name=re.sub(r"[^a-z0-9_]+", "-", request.node.name),
        tasks=[task],
        models=[model],
        recipe=Recipe(lr=3e-3, epochs=2, batch_size=8),
        techniques=[Standard(), LayerwiseDecay(rate=0.5)],
        seeds=range(3),
    )


Homes = Callable[[str], Home]


@pytest.fixture
def home_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Homes:
    """Homes by name, as of drivers on several machines, with the server as their store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return lambda name: Home(tmp_path / name)


def entry(run: Run, dev: float = 0.5) -> Entry:
    """A finished run, without the training."""
    scores = [("dev", dev, 0), ("test", dev, 0), ("dev_floor", 0.5, 0), ("test_floor", 0.5, 0)]
    curve = [("train/loss", 1.0 / epoch, epoch) for epoch in (1, 2, 3)]
    seeds = {name: str(number) for name, number in run.seed._asdict().items()}
    about = {"metric": "accuracy", "higher_is_better": "true", "device": "cpu", "host": "here"}
    return Entry(
        key=run.key,
        cell=run.cell.key,
        name=run.name,
        tags={"outcome": "completed", "collapsed": "", **about, **seeds},
        params={"task": "pairs", "model": "tiny", "configuration": run.cell.label, "seed": "s"},
        metrics=[*scores, ("seconds", 1.5, 0), *curve],
        started=100_000,
        ended=101_500,
        spec=run.spec(),
    )


def opened(home: Home, study: Study, source: str = "door.py") -> TrackingWriter:
    return TrackingWriter(home, study, Path(source))


def put_all(tracking: TrackingWriter, study: Study) -> None:
    for number, run in enumerate(study.runs()):
        tracking.put(entry(run, 0.5 + number / 100), b"not read")


needs_postgres = pytest.mark.skipif(
    shutil.which("initdb") is None or os.geteuid() != 0,
    reason="needs PostgreSQL's initdb on the path, and root to become another user",
)
