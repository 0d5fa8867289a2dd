"""The tracking store: never made anew by accident, never written to where it should not be."""

import sqlite3
from pathlib import Path

from mlflow import MlflowClient
from mlflow.tracking._tracking_service.utils import _get_store

from study.home import Home


class StoreGone(RuntimeError):
    """The tracking store is not where it was, or is another one."""


class Store:
    """A tracking store that is checked before and after each use, where it is a SQLite file."""

    def __init__(self, home: Home) -> None:
        """Open it; a SQLite store is made where there never was one.

        Raises:
            StoreGone: If a SQLite store has been here and is not now.
        """
        self.uri = home.uri
        self._file = _sqlite_file(self.uri)
        if self._file is not None:
            marker = Path(f"{self._file}.seen")
            if not self._file.exists():
                if marker.exists():
                    raise StoreGone(
                        f"the store {self._file} is gone. Bring it back, or remove {marker} to "
                        "start an empty one."
                    )
                _create(self._file)
            marker.touch()
            # Never creates a file, unlike the plain address.
            # The driver is named because MLflow makes folders for a plain sqlite:/// address.
            self.uri = f"sqlite+pysqlite:///file:{self._file}?mode=rw&uri=true"
        self._inode = self._seen()
        self.client = MlflowClient(tracking_uri=self.uri)

    def check(self) -> None:
        """Make sure that the next transaction goes to the store that was opened.

        Raises:
            StoreGone: If it does not.
        """
        if self._file is None or self._seen() == self._inode:
            return
        # Pooled connections still write to the file that was moved away.
        _get_store(self.uri).engine.dispose()
        if self._seen() is None:
            raise StoreGone(f"the store {self._file} is gone; waiting for it to come back")
        raise StoreGone(f"another file is at {self._file}; waiting for the store to come back")

    def _seen(self) -> tuple[int, int] | None:
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _create(file: Path) -> None:
    """An empty MLflow store, in WAL mode so that the UI reads while the driver writes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    _get_store(f"sqlite:///{file}").engine.dispose()
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
