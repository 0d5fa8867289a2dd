"""Where a study's files live."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from study.core.lock import StudyLock

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

    def lock(self, name: str) -> StudyLock:
        """The lock that one driver of a study holds."""
        return StudyLock(self.study(name), name)


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
