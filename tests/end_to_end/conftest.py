"""Fixtures: real studies in processes of their own, which tests kill, interrupt and count."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from study.testing import tiny_model, tiny_task
from tests.once import once

FILE = """\
from study import BiasedAdam, LayerwiseDecay, Model, Recipe, Standard, Study, Task, main

HERE = {here!r}
STUDY = Study(
    name="kills",
    tasks=[
        Task(
            name="pairs",
            train="train.jsonl",
            dev="dev.jsonl",
            test="test.jsonl",
            text_pair="text_pair",
        )
    ],
    data=HERE + "/task",
    models=[Model(name="tiny", checkpoint=HERE + "/model")],
    recipe=Recipe(lr=3e-3, epochs={epochs}, batch_size=8),
    techniques={techniques},
    seeds={seeds},
)

if __name__ == "__main__":
    main(STUDY)
"""
TECHNIQUES = ["Standard()", "BiasedAdam()", "LayerwiseDecay(rate=0.5)"]
SEEDS, RUNS = "range(3)", 9
ALIKE = {"OMP_NUM_THREADS": "1"}


@dataclass
class Bench:
    """A folder with a tiny model, a tiny task and a study file; new homes get the empty store."""

    folder: Path
    store: Path

    def write(
        self, techniques: list[str] = TECHNIQUES, seeds: str = SEEDS, epochs: int = 25
    ) -> Path:
        listed = f"[{', '.join(techniques)}]"
        text = FILE.format(here=str(self.folder), techniques=listed, seeds=seeds, epochs=epochs)
        path = self.folder / "kills.py"
        path.write_text(text)
        return path

    def start(
        self, home: Path, *words: str, background: bool = False, uri: str | None = None
    ) -> "Driver":
        """Start a driver; in the background, as shells do it, with SIGINT ignored."""
        if not home.exists():
            home.mkdir(parents=True)
            shutil.copy(self.store, home / "mlflow.db")
        environment = {**os.environ, **ALIKE, "STUDY_HOME": str(home)}
        environment.pop("MLFLOW_TRACKING_URI", None)
        if uri is not None:
            environment["MLFLOW_TRACKING_URI"] = uri
        log = (self.folder / f"driver-{time.monotonic_ns()}.log").open("w+")
        process = subprocess.Popen(
            [sys.executable, str(self.folder / "kills.py"), *words],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_ignore_sigint if background else None,
        )
        return Driver(process, home, Path(log.name))


def _ignore_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass
class Driver:
    """A study that is being run."""

    process: subprocess.Popen[bytes]
    home: Path
    log: Path

    def said(self) -> str:
        return self.log.read_text()

    def finish(self, timeout: float = 300.0) -> int:
        return self.process.wait(timeout)

    def wait_for(self, condition: Callable[[], bool], timeout: float = 300.0) -> None:
        until = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < until, f"timed out:\n{self.said()}"
            assert self.process.poll() is None, f"ended too early:\n{self.said()}"
            time.sleep(0.02)

    def wait_for_runs(self, count: int) -> None:
        self.wait_for(lambda: len(tracked(self.home)) >= count)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def workers(self) -> list[int]:
        """Process ids of busy workers; Ray titles them by class and method."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                title = (entry / "cmdline").read_bytes().decode(errors="replace")
                children = ancestors(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
            if title.startswith("ray::") and ".train" in title and self.process.pid in children:
                found.append(int(entry.name))
        return found


def ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1:
        status = Path(f"/proc/{pid}/stat").read_text()
        pid = int(status.rpartition(")")[2].split()[1])
        found.add(pid)
    return found


def tracked(home: Path) -> list[str]:
    """Keys of the finished runs in the store, duplicates included, read from its tables."""
    file = home / "mlflow.db"
    if not file.exists():
        return []
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT t.value FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid"
            " WHERE t.key = 'key' AND r.lifecycle_stage = 'active' AND r.status = 'FINISHED'"
        ).fetchall()
    except sqlite3.OperationalError:  # the tables are just being made
        return []
    finally:
        connection.close()
    return [key for (key,) in rows]


def scores(home: Path) -> dict[str, tuple[float, float]]:
    """Dev and test score by key; no run may be missing."""
    from analysis import load_runs

    frame = load_runs("kills", f"sqlite:///{home / 'mlflow.db'}")
    assert set(frame["outcome"]) <= {"completed", "diverged"}
    return {row.key: (row.dev, row.test) for row in frame.itertuples()}


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Bench:
    folder = tmp_path_factory.mktemp("kills")
    tiny_model(folder / "model")
    tiny_task(folder / "task", rows=64)
    return Bench(folder, empty_store)


@pytest.fixture(scope="session")
def undisturbed_home(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the study undisturbed; `scores.json` beside it has its scores."""

    def make(folder: Path) -> None:
        bench.write()
        home = folder / "home"
        driver = bench.start(home)
        assert driver.finish() == 0, driver.said()
        assert len(tracked(home)) == RUNS
        (folder / "scores.json").write_text(json.dumps(scores(home)))

    return once(tmp_path_factory, "undisturbed", make) / "home"


@pytest.fixture
def undisturbed(undisturbed_home: Path) -> dict[str, tuple[float, float]]:
    """The scores that every disturbed study must reach, bit for bit."""
    text = (undisturbed_home.parent / "scores.json").read_text()
    return {key: tuple(values) for key, values in json.loads(text).items()}


@pytest.fixture
def running(bench: Bench, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Driver]:
    """The same study, or with other seeds as a parameter, just started in an empty home."""
    bench.write(seeds=getattr(request, "param", SEEDS))
    driver = bench.start(tmp_path / "home", background=True)  # the harder case
    yield driver
    if driver.process.poll() is None:
        driver.kill()
