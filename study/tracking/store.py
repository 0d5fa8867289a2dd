"""The tracking store: never recreated by accident, never confused with another file."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlparse
from urllib.request import getproxies, proxy_bypass

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from study.core.paths import configure_mlflow_client, without_password
from study.tracking import schema
from study.tracking.mlflow_internals import close_connections, get_once

REACH_SECONDS = 10.0  # for the first response of a server
PAGE = 1000  # runs per response; a server takes about 2 ms for each
CELLS_VIEW = {
    "searchFilter": schema.CELLS,
    "orderByKey": f"metrics.`{schema.DEV}{schema.MEAN}`",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "selectedColumns": [
        f"metrics.`{name}`"
        for name in (
            schema.N,
            f"{schema.DEV}{schema.MEAN}",
            *(f"{schema.TEST}{suffix}" for suffix in schema.SUFFIXES),
            schema.COLLAPSED,
            schema.DIVERGED,
            schema.MISSING,
        )
    ],
}


class StoreGoneError(RuntimeError):
    """The tracking store is gone, was replaced by another one, or cannot be used."""


# Errors of a store that may work again later: the driver waits and retries.
TROUBLE = (StoreGoneError, MlflowException, SQLAlchemyError, OSError)


class Store:
    """A tracking store; a SQLite file is checked before and after each use.

    Attributes:
        uri: Its address.
        file: The file of a SQLite store; None for others.
        is_database: Whether it is used without a server.
        client: MLflow's client.
    """

    def __init__(self, uri: str, artifacts: Path) -> None:
        """Open the store; a SQLite store is created where there never was one.

        Args:
            uri: Its address.
            artifacts: Folder of artifacts, unless a server stores them.

        Raises:
            StoreGoneError: If a SQLite store was here before and is gone, or a server cannot be
                used.
        """
        configure_mlflow_client()
        self.uri = uri
        self.is_database = not self.uri.startswith("http")
        self._artifacts = artifacts
        self.file = sqlite_file(self.uri)
        if self.file is not None:
            marker = Path(f"{self.file}.seen")  # remembers that there was a store
            if not self.file.exists():
                if marker.exists():
                    raise StoreGoneError(
                        f"the store {self.file} is gone. Restore it, or remove {marker} to "
                        "start an empty one."
                    )
                _create(self.file)
            marker.touch()
            self.uri = address(self.file, "rw")  # never creates a file, unlike the plain one
        elif not self.is_database:
            _reach(self.uri)
        self._inode = self._current_inode()
        self.client = MlflowClient(tracking_uri=self.uri)

    def experiment(self, name: str) -> str:
        """The id of a study's experiment, which is created if absent and restored if deleted."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            if experiment.lifecycle_stage == "deleted":
                self.client.restore_experiment(experiment.experiment_id)
            return str(experiment.experiment_id)
        tags = {
            schema.EXPERIMENT_KIND: "custom_model_development",
            schema.VIEW_STATE: json.dumps(CELLS_VIEW),
        }
        location = (self._artifacts / name).as_uri() if self.is_database else None
        try:
            created = self.client.create_experiment(name, artifact_location=location, tags=tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another driver was faster
                raise
            return self.experiment(name)
        return str(created)

    def runs(
        self, experiment: str, filter_string: str, view: int = ViewType.ACTIVE_ONLY
    ) -> Iterator[Run]:
        """An experiment's runs, page by page.

        Args:
            experiment: Its id.
            filter_string: In MLflow's syntax; empty for all.
            view: Whether to include deleted runs.
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
        """A run's lifecycle stage, `active` or `deleted`; empty if no experiment has the run."""
        try:
            return str(self.client.get_run(run_id).info.lifecycle_stage)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return ""
            raise

    def check(self) -> None:
        """Make sure that the next transaction goes to the store that was opened.

        Raises:
            StoreGoneError: If the file is gone, or is another one.
        """
        if self.file is None or self._current_inode() == self._inode:
            return
        # Pooled connections still write to the file that was moved away.
        close_connections(self.uri)
        if self._current_inode() is None:
            raise StoreGoneError(f"the store {self.file} is gone; waiting for it to come back")
        raise StoreGoneError(f"another file is at {self.file}; waiting for the store to come back")

    def _current_inode(self) -> tuple[int, int] | None:
        if self.file is None:
            return None
        try:
            status = self.file.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino


def _reach(uri: str) -> None:
    """Make sure that an MLflow server responds and grants access.

    Raises:
        StoreGoneError: If not; the message says what to do.
    """
    search = "/api/2.0/mlflow/experiments/search"
    try:
        answer = get_once(uri, search, {"max_results": 1}, REACH_SECONDS)
    except MlflowException as error:
        cure = "Check that the server is running and MLFLOW_TRACKING_URI is correct."
        raise StoreGoneError(f"{in_brief(error)}. {cure}{_proxy_hint(uri)}") from error
    text = answer.text.strip()
    if "Invalid Host header" in text:
        host = urlparse(uri).hostname
        raise StoreGoneError(
            f"it does not accept this host name; start it with --allowed-hosts {host}"
        )
    if answer.status_code in (401, 403):
        raise StoreGoneError(
            f"access denied ({answer.status_code}); set MLFLOW_TRACKING_USERNAME and "
            f"MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.{_proxy_hint(uri)}"
        )
    if answer.status_code >= 500:
        raise StoreGoneError(
            f"server error {answer.status_code}; check that its database is running."
            f"{_proxy_hint(uri)}"
        )
    if answer.status_code != 200 or not text.startswith("{"):
        text = "the server at this address is not MLflow; check MLFLOW_TRACKING_URI."
        raise StoreGoneError(f"{text}{_proxy_hint(uri)}")


def _proxy_hint(uri: str) -> str:
    """A sentence on the proxy through which a server is reached; empty without one."""
    parts, proxies = urlparse(uri), getproxies()
    host = parts.hostname or ""
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(host):
        return ""
    return (
        f" Requests to it go through the proxy {without_password(proxy)}, which the environment "
        f"names; to reach it directly set NO_PROXY={host}."
    )


def in_brief(error: Exception) -> str:
    """An error of a store in one line, without passwords."""
    text = without_password((str(error) or type(error).__name__).splitlines()[0])
    if text.startswith("API request to"):
        for sign, words in (
            ("NameResolution", "unknown host"),
            ("refused", "connection refused"),
            ("imeout", "no response in time"),
            ("imed out", "no response in time"),
            ("SSL", "TLS error"),
            ("aborted", "connection aborted"),
        ):
            if sign in text:
                return f"the server cannot be reached ({words})"
    return text


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for other stores."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def address(file: Path, mode: str) -> str:
    """A SQLite file's address; its path may contain any character.

    Args:
        file: The file.
        mode: `rw`, or `rwc` to create it if absent.
    """
    # The driver is named because MLflow creates folders for a plain sqlite:/// address.
    return URL.create(
        "sqlite+pysqlite",
        database=f"file:{quote(str(file))}",
        query={"mode": mode, "uri": "true"},
    ).render_as_string()


def _create(file: Path) -> None:
    """Create an empty store, in WAL mode so that the UI can read while the driver writes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    uri = address(file, "rwc")
    MlflowClient(tracking_uri=uri).search_experiments()
    close_connections(uri)
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
