"""Reading an MLflow store: a database by SQL, a server by its client."""

import difflib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlparse

import pandas as pd
import sqlalchemy as sa


class StoreUnreachableError(LookupError):
    """A store or its server does not answer as it should, so nobody knows what it has."""


class LongTables(NamedTuple):
    """An experiment as long tables; `run` is MLflow's run id."""

    runs: pd.DataFrame  # run, status, artifact_uri; the newest first
    tags: pd.DataFrame  # run, name, value
    metrics: pd.DataFrame  # run, name, value


def default_uri() -> str:
    """`MLFLOW_TRACKING_URI` where set, else the store in `STUDY_HOME` or the working directory."""
    home = Path(os.environ.get("STUDY_HOME", "study-store")).resolve()
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"


# --- reading the store ------------------------------------------------------------------------


def experiment_numbers(uri: str) -> dict[str, str]:
    """MLflow's experiment id of every study in the store, by name."""
    if _is_database(uri):
        query = "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        found = _query(uri, query)
        pairs = list(zip(found["name"], found["experiment_id"].astype(str), strict=True))
    else:
        pairs = [(e.name, e.experiment_id) for e in _each_experiment(uri)]
    return {name: number for name, number in pairs if name != "Default"}


def read_experiment(study: str, uri: str, key: str = "") -> LongTables:
    """Runs, tags and last metrics of a study, or of its runs whose keys start with `key`."""
    number, read = experiment_number(study, uri), _from_database if _is_database(uri) else _paged
    return _once(read(number, uri, key))


def _once(long: LongTables) -> LongTables:
    """Without what another stands for: one parent per cell and stage, one run per key.

    Somebody may have restored what was deleted and made again; the newest counts, as for the
    driver, which deletes the others when it next starts.
    """
    tags = long.tags[long.tags["name"].isin(["kind", "key", "cell", "stage"])]
    tags = tags.pivot(index="run", columns="name", values="value")
    about = long.runs.join(tags.reindex(columns=["kind", "key", "cell", "stage"]), on="run")
    cells = about[about["kind"] == "cell"].fillna({"stage": "final"})
    runs = about[about["kind"] == "run"]
    runs = pd.concat([part for _, part in runs.groupby(runs["status"] != "FINISHED")] or [runs])
    older = {
        *cells.loc[cells.duplicated(["cell", "stage"]), "run"],
        *runs.loc[runs.duplicated("key"), "run"],
    }
    return LongTables(*(part[~part["run"].isin(older)] for part in long)) if older else long


def experiment_number(study: str, uri: str) -> str:
    """MLflow's experiment id of a study.

    Raises:
        LookupError: If the store has no such study.
    """
    if (number := _number(study, uri)) is not None:
        return number
    known = experiment_numbers(uri)
    near = difflib.get_close_matches(study, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"There: {', '.join(known) or 'none'}."
    raise LookupError(f"no study {study!r} in {_without_credentials(uri)}. {hint}")


def _from_database(experiment: str, uri: str, key: str) -> LongTables:
    some = "r.experiment_id = :experiment AND r.lifecycle_stage = 'active'"
    values: dict[str, Any] = {"experiment": int(experiment)}
    if key:
        begun = "SELECT run_uuid FROM tags WHERE key = 'key' AND value LIKE :begun"
        some, values = f"{some} AND r.run_uuid IN ({begun})", {**values, "begun": f"{key}%"}
    inside = f" FROM {{table}} t JOIN runs r ON r.run_uuid = t.run_uuid WHERE {some}"
    runs = _query(
        uri,
        f"SELECT r.run_uuid AS run, r.status, r.artifact_uri FROM runs r WHERE {some}"
        " ORDER BY r.start_time DESC, r.run_uuid",  # as MLflow's client does
        **values,
    )
    tags = _query(
        uri,
        "SELECT t.run_uuid AS run, t.key AS name, t.value" + inside.format(table="tags"),
        **values,
    )
    metrics = _query(
        uri,
        "SELECT t.run_uuid AS run, t.key AS name, t.value" + inside.format(table="latest_metrics"),
        **values,
    )
    return LongTables(runs, tags, metrics)


def _paged(experiment: str, uri: str, key: str) -> LongTables:
    runs: list[dict[str, Any]] = []
    tags: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for run in _each_run(experiment, uri, f"tags.`key` LIKE '{key}%'" if key else ""):
        about = {"run": run.info.run_id}
        runs.append({**about, "status": run.info.status, "artifact_uri": run.info.artifact_uri})
        tags += [{**about, "name": k, "value": v} for k, v in run.data.tags.items()]
        metrics += [{**about, "name": k, "value": v} for k, v in run.data.metrics.items()]
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


def metric_history(study: str, uri: str, runs: list[str]) -> pd.DataFrame:
    """Training loss and dev scores by epoch: columns run, name, epoch, value."""
    if _is_database(uri):
        query = (
            "SELECT t.run_uuid AS run, t.key AS name, t.step AS epoch, t.value"
            " FROM metrics t JOIN runs r ON r.run_uuid = t.run_uuid"
            " WHERE r.experiment_id = :experiment AND r.lifecycle_stage = 'active'"
            " AND (t.key = 'train/loss' OR t.key LIKE 'dev/%')"
        )
        found = _query(uri, query, experiment=int(experiment_number(study, uri)))
        return found[found["run"].isin(runs)].drop_duplicates(["run", "name", "epoch"])
    client, rows = _client(uri), []
    for run in runs:
        names = [n for n in client.get_run(run).data.metrics if n.startswith(("dev/", "train/"))]
        for name in names:
            for point in client.get_metric_history(run, name):
                rows.append({"run": run, "name": name, "epoch": point.step, "value": point.value})
    return pd.DataFrame(rows, columns=["run", "name", "epoch", "value"])


def _query(uri: str, query: str, **values: Any) -> pd.DataFrame:
    address: str | sa.URL = uri
    if uri.startswith("sqlite:///") and "mode=" not in uri:
        file = Path(uri.removeprefix("sqlite:///"))
        if not file.exists():
            raise LookupError(f"no store at {file}; run a study first, or name another folder")
        # Never creates a file.
        how = {"mode": "rw", "uri": "true"}
        address = sa.URL.create("sqlite", database=f"file:{quote(str(file))}", query=how)
    engine = sa.create_engine(address)
    try:
        with engine.connect() as connection:
            return pd.read_sql_query(sa.text(query), connection, params=values)
    except sa.exc.OperationalError as error:
        told = str(error.orig).strip().partition("\n")[0]
        raise StoreUnreachableError(
            _without_credentials(f"MLflow's store at {uri} cannot be read: {told}")
        ) from error
    finally:
        engine.dispose()


def artifact_bytes(artifact: str, uri: str) -> bytes:
    """The content of an artifact, read from disk or downloaded."""
    parsed = urlparse(artifact)
    if parsed.scheme in ("", "file"):
        return Path(unquote(parsed.path)).read_bytes()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # one for each run
    with tempfile.TemporaryDirectory(prefix="study-") as folder:
        place = {"artifact_uri": artifact, "dst_path": folder, "tracking_uri": uri}
        return Path(_mlflow().artifacts.download_artifacts(**place)).read_bytes()


def _client(uri: str) -> Any:
    return _mlflow().MlflowClient(tracking_uri=uri)


def _is_database(uri: str) -> bool:
    return uri.split(":", 1)[0].split("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")


def _without_credentials(text: str) -> str:
    """Remove user and password from the URLs in a text."""
    return re.sub(r"//[^/\s]*@", "//", text)


def _number(study: str, uri: str) -> str | None:
    """A study's experiment, without reading the names of all others."""
    if study == "Default":  # MLflow's own
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
    """Around the first request of every reader, which tells what is wrong with a server."""
    try:
        yield
    except _mlflow().MlflowException as error:
        told = f"MLflow at {uri} does not answer as it should: {error}"
        if re.search("failed with (timeout )?exception", told):  # in many words
            told = f"no answer from MLflow at {uri}. Is it up, and MLFLOW_TRACKING_URI right?"
        raise StoreUnreachableError(_without_credentials(told).splitlines()[0]) from error


def _mlflow() -> Any:
    """MLflow, which only stores and artifacts on a server need; it takes a second to load.

    Raises:
        LookupError: If it is not installed.
    """
    try:
        import mlflow
    except ModuleNotFoundError as error:
        install = "pip install 'finetuning-stability[mlflow]'"
        raise LookupError(f"a store on a server is read through MLflow: {install}") from error
    return mlflow
