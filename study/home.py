"""Where a study's files live, and who may drive it."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = "study-store"


class Held(RuntimeError):
    """Another driver runs this study."""


@dataclass(frozen=True)
class Home:
    """The folder that holds the default store and each study's own files.

    Attributes:
        root: `STUDY_HOME`, or `study-store` in the working directory.
    """

    root: Path

    @property
    def uri(self) -> str:
        """The tracking store: `MLFLOW_TRACKING_URI` where set, else SQLite in the folder."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Artifacts of the default store."""
        return self.root / "artifacts"

    @property
    def encoded(self) -> Path:
        """Encoded data, by what they were made from."""
        return self.root / "encoded"

    def study(self, name: str) -> Path:
        """One study's own files: outbox, lease, report."""
        return self.root / "studies" / name

    def models(self, name: str) -> Path:
        """The trained models that a study keeps."""
        return self.study(name) / "models"

    def names(self) -> list[str]:
        """The studies that have files here."""
        folder = self.root / "studies"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def ask_to_stop(self, name: str) -> str | None:
        """Ask the driver of a study to stop.

        Returns:
            Who drives it; None where nobody does.
        """
        holder = self.driver(name)
        if holder is not None:
            (self.study(name) / "stop").touch()
        return holder

    def stop_asked(self, name: str) -> bool:
        """Whether the driver was asked to stop."""
        return (self.study(name) / "stop").exists()

    def driver(self, name: str) -> str | None:
        """Who drives a study now, such as `process 4711 on host, since 14:02`."""
        path = self.study(name) / "driver"
        if not path.exists():
            return None
        with path.open("r+") as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return _told(path)
        return None

    @contextmanager
    def lease(self, name: str) -> Iterator[None]:
        """Hold the study, so that no second driver runs it at once.

        Raises:
            Held: If another driver holds it, saying who.
        """
        folder = self.study(name)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "driver"
        with path.open("a+") as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Held(f"study {name!r} is being run by {_told(path)}") from error
            lease.truncate(0)
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
            json.dump(holder, lease)
            lease.flush()
            with suppress(FileNotFoundError):
                (folder / "stop").unlink()  # meant for an earlier driver
            yield  # the lock goes with the process, even where that is killed


def default_home() -> Home:
    """`STUDY_HOME`, or `study-store` in the working directory."""
    return Home(Path(os.environ.get("STUDY_HOME", FOLDER)).resolve())


def _told(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
    except json.JSONDecodeError:  # the holder is just writing it
        return "another process"
    since = time.strftime("%H:%M", time.localtime(holder["since"]))
    return f"process {holder['pid']} on {holder['host']}, since {since}"
