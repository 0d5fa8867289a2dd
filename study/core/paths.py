"""Paths of the store and of each study's own files."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from study.core.lock import StudyLock

FOLDER = "study-store"
# Folders within a study's own folder.
OUTBOX, CHECKPOINTS, HANGS, PROBLEMS = "outbox", "checkpoints", "hangs", "problems"
UNTOUCHED = "untouched"  # scores of checkpoints before training


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
        """Whether drivers with another `STUDY_HOME` can use the same store."""
        return not self.uri.startswith(f"sqlite:///{self.root}/")

    @property
    def artifacts(self) -> Path:
        """Folder of the default store's artifacts."""
        return self.root / "artifacts"

    @property
    def encoded(self) -> Path:
        """Cache of encoded data sets, by a digest of their inputs."""
        return self.root / "encoded"

    def study(self, name: str) -> Path:
        """Folder of one study's own files: outbox, lock, resumable checkpoints, report."""
        return self.root / "studies" / name

    def models(self, name: str) -> Path:
        """Folder of the trained models that a study keeps."""
        return self.study(name) / "models"

    def names(self) -> list[str]:
        """Names of the studies that have files in this home."""
        folder = self.root / "studies"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def lock(self, name: str) -> StudyLock:
        """The lock that the driver of a study holds."""
        return StudyLock(self.study(name), name)


def default_home() -> Home:
    """The home that `STUDY_HOME` names, or `study-store` in the working directory."""
    return Home(Path(os.environ.get("STUDY_HOME", FOLDER)).resolve())


def configure_mlflow_client() -> None:
    """Make MLflow's client fail fast and print nothing, unless the user has set it otherwise.

    By default the client retries for minutes. If a server carried out a request and its answer was
    lost, such a retry writes a second time. The driver retries by itself, after checking whether
    the first request was carried out.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


def without_password(text: str) -> str:
    """The text with user and password removed from every address."""
    return re.sub(r"//[^/\s]*@", "//", text)
