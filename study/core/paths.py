"""Where a study's files live, and who may drive it."""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from study.core.lock import StudyLockedError, _told, holder

FOLDER = "study-store"
# In a study's own folder.
OUTBOX, CHECKPOINTS, HANGS, PROBLEMS = "outbox", "checkpoints", "hangs", "problems"


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
    def shared(self) -> bool:
        """Whether drivers with other homes can use the same store."""
        return not self.uri.startswith(f"sqlite:///{self.root}/")

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
        return self._ask(name, stop=True)

    def stop_asked(self, name: str) -> bool:
        """Whether the driver was asked to stop."""
        return (self.study(name) / "stop").exists()

    def driver(self, name: str) -> str | None:
        """Who drives a study now, such as `process 4711 on host, since 14:02`."""
        return self._ask(name)

    def _ask(self, name: str, *, stop: bool = False) -> str | None:
        folder = self.study(name)
        path = folder / "driver"
        if not path.exists():
            return None
        with _gate(folder), path.open("r+") as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if stop:
                    (folder / "stop").touch()
                return _told(path)
        return None

    @contextmanager
    def lease(self, name: str, command: str = "run") -> Iterator[None]:
        """Hold the study, so that no second driver runs it at once.

        Args:
            name: The study.
            command: Of `study`, for those who are told who holds it.

        Raises:
            StudyLockedError: If another driver holds it, saying who.
        """
        folder = self.study(name)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "driver"
        with path.open("a+") as lease:
            with _gate(folder):
                try:
                    fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise StudyLockedError(
                        f"study {name!r} is being run by {_told(path)}"
                    ) from error
                lease.truncate(0)
                json.dump(holder(command), lease)
                lease.flush()
                with suppress(FileNotFoundError):
                    (folder / "stop").unlink()  # meant for an earlier driver
            yield  # the lock goes with the process, even where that is killed


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    """A second lock, held for a moment by whoever tries a study's lock.

    The system tells whether a file is locked only to those who try to lock it, and a driver that
    starts in that moment would find the study held by nobody. Behind the gate it waits instead.
    Its name is written, and a request to stop an earlier driver removed, before anybody can ask.
    """
    with (folder / "gate").open("a") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield


def default_home() -> Home:
    """`STUDY_HOME`, or `study-store` in the working directory."""
    return Home(Path(os.environ.get("STUDY_HOME", FOLDER)).resolve())


def hurry() -> None:
    """Let MLflow's client say at once what is wrong with a server, and print nothing of its own.

    By default it tries again for minutes, and so writes twice what a server did whose answer was
    lost; the driver tries again by itself, and looks first. The user's own settings count.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


def without_password(text: str) -> str:
    """A text whose addresses show neither user nor password."""
    return re.sub(r"//[^/\s]*@", "//", text)
