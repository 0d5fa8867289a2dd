"""The tracking store: never made anew by accident, never written to where it should not be."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlparse

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking._tracking_service.utils import _get_store
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from study.core.paths import configure_mlflow_client, without_password

REACH_SECONDS = 10  # for the first answer of a server
PAGE = 1000  # runs per answer; a server takes about 2 ms for each
VIEW = "cells"  # the key of a view that MLflow's UI opens on, see `study ui`
CELLS_VIEW = {
    "searchFilter": "tags.kind = 'cell'",
    "orderByKey": "metrics.`dev_mean`",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "selectedColumns": [
        f"metrics.`{name}`"
        for name in ("n", "dev_mean", "test_mean", "test_sd", "test_low", "test_high")
        + ("collapsed", "diverged", "missing")
    ],
}


class StoreGoneError(RuntimeError):
    """The tracking store is not where it was, or is another one, or cannot be used."""


TROUBLE = (StoreGoneError, MlflowException, SQLAlchemyError, OSError)  # waited for, and tried again


class Store:
    """A tracking store; a SQLite file is checked before and after each use.

    Attributes:
        uri: Its address.
        file: Of a SQLite store; else None.
        is_database: Whether it is used without a server.
        client: MLflow's.
    """

    def __init__(self, uri: str, artifacts: Path) -> None:
        """Open it; a SQLite store is made where there never was one.

        Args:
            uri: Its address.
            artifacts: Where they go, unless a server keeps them.

        Raises:
            StoreGoneError: If a SQLite store has been here and is not now, or a server cannot be
                used.
        """
        configure_mlflow_client()
        self.uri = uri
        self.is_database = not self.uri.startswith("http")
        self._artifacts = artifacts
        self.file = sqlite_file(self.uri)
        if self.file is not None:
            marker = Path(f"{self.file}.seen")
            if not self.file.exists():
                if marker.exists():
                    raise StoreGoneError(
                        f"the store {self.file} is gone. Bring it back, or remove {marker} to "
                        "start an empty one."
                    )
                _create(self.file)
            marker.touch()
            self.uri = address(self.file, "rw")  # never creates a file, unlike the plain one
        elif not self.is_database:
            _reach(self.uri)
        self._inode = self._seen()
        self.client = MlflowClient(tracking_uri=self.uri)

    def experiment(self, name: str) -> str:
        """The id of a study's experiment; it is restored where it was deleted, else made."""
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        tags = {
            "mlflow.experimentKind": "custom_model_development",
            f"mlflow.sharedViewState.{VIEW}": json.dumps(CELLS_VIEW),
        }
        where = (self._artifacts / name).as_uri() if self.is_database else None
        try:
            made = self.client.create_experiment(name, artifact_location=where, tags=tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # somebody was faster
                raise
            return self.experiment(name)
        return str(made)

    def runs(
        self, experiment: str, filter_string: str, view: int = ViewType.ACTIVE_ONLY
    ) -> Iterator[Run]:
        """An experiment's runs, page by page.

        Args:
            experiment: Its id.
            filter_string: As MLflow has it; empty for all.
            view: Whether those that were deleted count.
        """
        token = None
        while True:
            page = self.client.search_runs(
                [experiment], filter_string, view, max_results=PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def lifecycle(self, run_id: str) -> str:
        """Whether a run is `active` or `deleted`; empty where no experiment has it."""
        try:
            return str(self.client.get_run(run_id).info.lifecycle_stage)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return ""
            raise

    def check(self) -> None:
        """Make sure that the next transaction goes to the store that was opened.

        Raises:
            StoreGoneError: If it does not.
        """
        if self.file is None or self._seen() == self._inode:
            return
        # Pooled connections still write to the file that was moved away.
        _get_store(self.uri).engine.dispose()
        if self._seen() is None:
            raise StoreGoneError(f"the store {self.file} is gone; waiting for it to come back")
        raise StoreGoneError(f"another file is at {self.file}; waiting for the store to come back")

    def _seen(self) -> tuple[int, int] | None:
        if self.file is None:
            return None
        try:
            status = self.file.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino


def _reach(uri: str) -> None:
    """Make sure that an MLflow server answers and lets us in.

    Raises:
        StoreGoneError: If not, saying what to do.
    """
    search = "/api/2.0/mlflow/experiments/search"
    try:
        answer = http_request(
            get_default_host_creds(uri),
            search,
            "GET",
            params={"max_results": 1},
            timeout=REACH_SECONDS,
            max_retries=0,
            raise_on_status=False,
        )
    except MlflowException as error:
        cure = "Is it up, and is MLFLOW_TRACKING_URI right?"
        raise StoreGoneError(f"{in_brief(error)}. {cure}") from error
    text = answer.text.strip()
    if "Invalid Host header" in text:
        host = urlparse(uri).hostname
        raise StoreGoneError(f"it does not go by this name; start it with --allowed-hosts {host}")
    if answer.status_code in (401, 403):
        raise StoreGoneError(
            f"access denied ({answer.status_code}); set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if answer.status_code >= 500:
        raise StoreGoneError(f"the server has trouble ({answer.status_code}); is its database up?")
    if answer.status_code != 200 or not text.startswith("{"):
        raise StoreGoneError(
            "what answers there is no MLflow server; is MLFLOW_TRACKING_URI right?"
        )


def in_brief(error: Exception) -> str:
    """What is wrong with a store, in one line without passwords."""
    text = without_password((str(error) or type(error).__name__).splitlines()[0])
    if text.startswith("API request to"):
        for sign, words in (
            ("NameResolution", "unknown host"),
            ("refused", "connection refused"),
            ("imeout", "no answer in time"),
            ("imed out", "no answer in time"),
            ("SSL", "TLS fails"),
            ("aborted", "the connection broke"),
        ):
            if sign in text:
                return f"the server cannot be reached ({words})"
    return text


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for another."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def address(file: Path, mode: str) -> str:
    """A SQLite file's address, whatever signs are in its path.

    Args:
        file: Which.
        mode: `rw`, or `rwc` to make it where it is absent.
    """
    # The driver is named because MLflow makes folders for a plain sqlite:/// address.
    return URL.create(
        "sqlite+pysqlite",
        database=f"file:{quote(str(file))}",
        query={"mode": mode, "uri": "true"},
    ).render_as_string()


def _create(file: Path) -> None:
    """An empty MLflow store, in WAL mode so that the UI reads while the driver writes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    uri = address(file, "rwc")
    MlflowClient(tracking_uri=uri).search_experiments()
    _get_store(uri).engine.dispose()
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
