"""Read an MLflow store: a database by SQL, a tracking server by MLflow's client.

SQL, since MLflow's own search of a database takes several times as long and limits the number of
rows. The client reads a server page by page, to the end.
"""

import difflib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlparse
from urllib.request import getproxies, proxy_bypass

import pandas as pd
import sqlalchemy as sa

from analysis.frames.columns import CELL, CELL_KIND, KEY, KIND, RUN_KIND, STAGE


class StoreUnreachableError(LookupError):
    """The store cannot be read, or its server does not answer, so its content is unknown."""


class LongTables(NamedTuple):
    """An experiment as long tables; `run` is MLflow's run ID."""

    runs: pd.DataFrame  # run, status, artifact_uri; the newest first
    tags: pd.DataFrame  # run, name, value
    metrics: pd.DataFrame  # run, name, value


def default_uri() -> str:
    """`MLFLOW_TRACKING_URI` if set, else the store in `STUDY_HOME` or the working directory."""
    home = Path(os.environ.get("STUDY_HOME", "study-store")).resolve()
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"


def ui_address() -> str:
    """Address of MLflow's UI: that of the server, else the one at which `study ui` serves."""
    uri = _without_credentials(default_uri())
    return f"{uri.rstrip('/')}/" if uri.startswith("http") else "http://127.0.0.1:5000/"


def store_folder() -> Path | None:
    """The folder of a store in SQLite; None for other databases and servers."""
    uri = default_uri()
    return Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else None


# --- reading the store ------------------------------------------------------------------------


def experiment_numbers(uri: str) -> dict[str, str]:
    """MLflow's experiment ID of every study in the store, by name."""
    if _is_database(uri):
        query = "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        found = _query(uri, query)
        pairs = list(zip(found["name"], found["experiment_id"].astype(str), strict=True))
    else:
        pairs = [(e.name, e.experiment_id) for e in _each_experiment(uri)]
    return {name: number for name, number in pairs if name != "Default"}


def read_experiment(study: str, uri: str, key: str = "") -> LongTables:
    """Read runs, tags and last metrics of a study.

    Args:
        study: Name of the study.
        uri: MLflow tracking URI of a database or server.
        key: Only the runs whose keys start with this; all if empty.
    """
    number = experiment_number(study, uri)
    read = _from_database if _is_database(uri) else _from_server
    return _without_duplicates(read(number, uri, key))


def _without_duplicates(long: LongTables) -> LongTables:
    """Keep one parent run per cell and stage, and one run per key: finished first, then newest.

    Duplicates arise when runs are deleted, repeated, and then restored. The driver keeps the same
    ones and deletes the others at its next start.
    """
    tags = long.tags[long.tags["name"].isin([KIND, KEY, CELL, STAGE])]
    tags = tags.pivot(index="run", columns="name", values="value")
    tagged = long.runs.join(tags.reindex(columns=[KIND, KEY, CELL, STAGE]), on="run")
    cells = tagged[tagged[KIND] == CELL_KIND].fillna({STAGE: "final"})
    runs = tagged[tagged[KIND] == RUN_KIND]
    runs = pd.concat([part for _, part in runs.groupby(runs["status"] != "FINISHED")] or [runs])
    older = {
        *cells.loc[cells.duplicated([CELL, STAGE]), "run"],
        *runs.loc[runs.duplicated(KEY), "run"],
    }
    return LongTables(*(part[~part["run"].isin(older)] for part in long)) if older else long


def experiment_number(study: str, uri: str) -> str:
    """MLflow's experiment ID of a study.

    Raises:
        LookupError: If the store has no such study.
    """
    if (number := _number(study, uri)) is not None:
        return number
    known = experiment_numbers(uri)
    near = difflib.get_close_matches(study, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Studies there: {', '.join(known) or 'none'}."
    raise LookupError(f"no study {study!r} in {_without_credentials(uri)}. {hint}")


def _from_database(experiment: str, uri: str, key: str) -> LongTables:
    some = "r.experiment_id = :experiment AND r.lifecycle_stage = 'active'"
    values: dict[str, Any] = {"experiment": int(experiment)}
    if key:
        matching = "SELECT run_uuid FROM tags WHERE key = 'key' AND value LIKE :prefix"
        some, values = f"{some} AND r.run_uuid IN ({matching})", {**values, "prefix": f"{key}%"}
    source = f" FROM {{table}} t JOIN runs r ON r.run_uuid = t.run_uuid WHERE {some}"
    runs = _query(
        uri,
        f"SELECT r.run_uuid AS run, r.status, r.artifact_uri FROM runs r WHERE {some}"
        " ORDER BY r.start_time DESC, r.run_uuid",  # the order of MLflow's client
        **values,
    )
    tags = _query(
        uri,
        "SELECT t.run_uuid AS run, t.key AS name, t.value" + source.format(table="tags"),
        **values,
    )
    metrics = _query(
        uri,
        "SELECT t.run_uuid AS run, t.key AS name, t.value" + source.format(table="latest_metrics"),
        **values,
    )
    return LongTables(runs, tags, metrics)


def _from_server(experiment: str, uri: str, key: str) -> LongTables:
    runs: list[dict[str, Any]] = []
    tags: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for run in _each_run(experiment, uri, f"tags.`key` LIKE '{key}%'" if key else ""):
        own = {"run": run.info.run_id}
        runs.append({**own, "status": run.info.status, "artifact_uri": run.info.artifact_uri})
        tags += [{**own, "name": k, "value": v} for k, v in run.data.tags.items()]
        metrics += [{**own, "name": k, "value": v} for k, v in run.data.metrics.items()]
    columns = ["run", "name", "value"]
    return LongTables(
        pd.DataFrame(runs, columns=["run", "status", "artifact_uri"]),
        pd.DataFrame(tags, columns=columns),
        pd.DataFrame(metrics, columns=columns),
    )


def _each_experiment(uri: str) -> Iterable[Any]:
    client, token = _client(uri), None
    while True:
        with _answering(uri):
            page = client.search_experiments(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _each_run(experiment: str, uri: str, some: str) -> Iterable[Any]:
    client, token = _client(uri), None
    while True:
        page = client.search_runs([experiment], some, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def read_parameters(study: str, uri: str) -> pd.DataFrame:
    """Read the parameters of a study's cells.

    Args:
        study: Name of the study.
        uri: MLflow tracking URI of a database or server.

    Returns:
        Columns run (MLflow's run ID), name and value (a text).
    """
    number = experiment_number(study, uri)
    if _is_database(uri):
        query = (
            "SELECT p.run_uuid AS run, p.key AS name, p.value FROM params p"
            " JOIN tags t ON t.run_uuid = p.run_uuid JOIN runs r ON r.run_uuid = p.run_uuid"
            " WHERE r.experiment_id = :experiment AND r.lifecycle_stage = 'active'"
            " AND t.key = 'kind' AND t.value = 'cell'"
        )
        return _query(uri, query, experiment=int(number))
    rows = [
        {"run": run.info.run_id, "name": name, "value": value}
        for run in _each_run(number, uri, f"tags.{KIND} = '{CELL_KIND}'")
        for name, value in run.data.params.items()
    ]
    return pd.DataFrame(rows, columns=["run", "name", "value"])


def metric_history(study: str, uri: str, runs: list[str]) -> pd.DataFrame:
    """Read all curves by epoch: metrics whose names have a slash.

    Args:
        study: Name of the study.
        uri: MLflow tracking URI of a database or server.
        runs: MLflow's run IDs.

    Returns:
        Columns run, name, epoch and value.
    """
    if _is_database(uri):
        query = (
            "SELECT t.run_uuid AS run, t.key AS name, t.step AS epoch, t.value"
            " FROM metrics t JOIN runs r ON r.run_uuid = t.run_uuid"
            " WHERE r.experiment_id = :experiment AND r.lifecycle_stage = 'active'"
            " AND t.key LIKE '%/%'"
        )
        found = _query(uri, query, experiment=int(experiment_number(study, uri)))
        return found[found["run"].isin(runs)].drop_duplicates(["run", "name", "epoch"])
    client, rows = _client(uri), []
    for run in runs:
        names = [name for name in client.get_run(run).data.metrics if "/" in name]
        for name in names:
            for point in client.get_metric_history(run, name):
                rows.append({"run": run, "name": name, "epoch": point.step, "value": point.value})
    return pd.DataFrame(rows, columns=["run", "name", "epoch", "value"])


def _query(uri: str, query: str, **values: Any) -> pd.DataFrame:
    address: str | sa.URL = uri
    if uri.startswith("sqlite:///") and "mode=" not in uri:
        file = Path(uri.removeprefix("sqlite:///"))
        if not file.exists():
            raise LookupError(
                f"no store at {file}; run a study first, or set STUDY_HOME to another folder"
            )
        # Mode rw, unlike SQLite's default, never creates a file.
        options = {"mode": "rw", "uri": "true"}
        address = sa.URL.create("sqlite", database=f"file:{quote(str(file))}", query=options)
    engine = sa.create_engine(address)
    try:
        with engine.connect() as connection:
            return pd.read_sql_query(sa.text(query), connection, params=values)
    except sa.exc.OperationalError as error:
        cause = str(error.orig).strip().partition("\n")[0]
        raise StoreUnreachableError(
            _without_credentials(f"MLflow's store at {uri} cannot be read: {cause}")
        ) from error
    finally:
        engine.dispose()


def artifact_bytes(artifact: str, uri: str) -> bytes:
    """The content of an artifact, read from disk or downloaded.

    Args:
        artifact: Its URI or path.
        uri: MLflow tracking URI of a database or server.
    """
    parsed = urlparse(artifact)
    if parsed.scheme in ("", "file"):
        return Path(unquote(parsed.path)).read_bytes()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # else one bar per run
    with tempfile.TemporaryDirectory(prefix="study-") as folder:
        source = {"artifact_uri": artifact, "dst_path": folder, "tracking_uri": uri}
        return Path(_mlflow().artifacts.download_artifacts(**source)).read_bytes()


def _client(uri: str) -> Any:
    return _mlflow().MlflowClient(tracking_uri=uri)


def _is_database(uri: str) -> bool:
    return uri.split(":", 1)[0].split("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")


def _without_credentials(text: str) -> str:
    """Remove user and password from the URLs in a text."""
    return re.sub(r"//[^/\s]*@", "//", text)


def _number(study: str, uri: str) -> str | None:
    """MLflow's experiment ID of a study, or None; does not list the other experiments."""
    if study == "Default":  # the experiment that MLflow creates itself
        return None
    if _is_database(uri):
        query = "SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        rows = _query(uri, query + " AND name = :study", study=study)
        return None if rows.empty else str(rows["experiment_id"].iloc[0])
    with _answering(uri):
        found = _client(uri).get_experiment_by_name(study)
    return found.experiment_id if found and found.lifecycle_stage == "active" else None


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    """Turn MLflow's errors into `StoreUnreachableError`; wraps the first request of a reader."""
    try:
        yield
    except _mlflow().MlflowException as error:
        message = f"MLflow at {uri} answered with an error: {error}"
        if re.search("failed with (timeout )?exception", message):  # requests' text is very long
            message = (
                f"no answer from MLflow at {uri}. Check that the server is running and "
                f"MLFLOW_TRACKING_URI is correct.{_proxy_hint(uri)}"
            )
        raise StoreUnreachableError(_without_credentials(message).splitlines()[0]) from error


def _proxy_hint(uri: str) -> str:
    parts, proxies = urlparse(uri), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return ""
    return (
        f" Requests to it go through the proxy {proxy}, which the environment names; to reach it "
        f"directly set NO_PROXY={parts.hostname}."
    )


def _mlflow() -> Any:
    """Import MLflow, which only servers and remote artifacts need; it takes a second.

    Raises:
        LookupError: If it is not installed.
    """
    try:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is loaded
        import mlflow
    except ModuleNotFoundError as error:
        install = "pip install 'finetuning-stability[mlflow]'"
        raise LookupError(f"reading a store on a server needs MLflow: {install}") from error
    return mlflow
