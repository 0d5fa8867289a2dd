"""Reading an MLflow store: a database by SQL, a server by its client."""

import difflib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlparse

import pandas as pd
import sqlalchemy as sa

from analysis.frames.columns import CELL, CELL_KIND, KEY, KIND, RUN_KIND, STAGE


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


def read_experiment(study: str, uri: str) -> LongTables:
    """All runs, tags and last metrics of one study."""
    number = experiment_number(study, uri)
    return _once(_from_database(number, uri) if _is_database(uri) else _paged(number, uri))


def _once(long: LongTables) -> LongTables:
    """Without what another stands for: one parent per cell and stage, one run per key.

    Somebody may have restored what was deleted and made again; the newest counts, as for the
    driver, which deletes the others when it next starts.
    """
    tags = long.tags[long.tags["name"].isin([KIND, KEY, CELL, STAGE])]
    tags = tags.pivot(index="run", columns="name", values="value")
    about = long.runs.join(tags.reindex(columns=[KIND, KEY, CELL, STAGE]), on="run")
    cells = about[about[KIND] == CELL_KIND].fillna({STAGE: "final"})
    runs = about[about[KIND] == RUN_KIND]
    runs = pd.concat([part for _, part in runs.groupby(runs["status"] != "FINISHED")] or [runs])
    older = {
        *cells.loc[cells.duplicated([CELL, STAGE]), "run"],
        *runs.loc[runs.duplicated(KEY), "run"],
    }
    return LongTables(*(part[~part["run"].isin(older)] for part in long)) if older else long


def experiment_number(study: str, uri: str) -> str:
    """MLflow's experiment id of a study.

    Raises:
        LookupError: If the store has no such study.
    """
    known = experiment_numbers(uri)
    if study not in known:
        near = difflib.get_close_matches(study, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There: {', '.join(known) or 'none'}."
        raise LookupError(f"no study {study!r} in {_shown(uri)}. {hint}")
    return known[study]


def _from_database(experiment: str, uri: str) -> LongTables:
    inside = (
        " FROM {table} t JOIN runs r ON r.run_uuid = t.run_uuid"
        " WHERE r.experiment_id = :experiment AND r.lifecycle_stage = 'active'"
    )
    runs = _query(
        uri,
        "SELECT run_uuid AS run, status, artifact_uri FROM runs"
        " WHERE experiment_id = :experiment AND lifecycle_stage = 'active'"
        " ORDER BY start_time DESC, run_uuid",  # as MLflow's client does
        experiment=int(experiment),
    )
    tags = _query(
        uri,
        "SELECT t.run_uuid AS run, t.key AS name, t.value" + inside.format(table="tags"),
        experiment=int(experiment),
    )
    metrics = _query(
        uri,
        "SELECT t.run_uuid AS run, t.key AS name, t.value" + inside.format(table="latest_metrics"),
        experiment=int(experiment),
    )
    return LongTables(runs, tags, metrics)


def _paged(experiment: str, uri: str) -> LongTables:
    runs: list[dict[str, Any]] = []
    tags: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for run in _each_run(experiment, uri):
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
    """The experiments of a server; the first request of every reader, so trouble shows here."""
    from mlflow.exceptions import MlflowException

    client, token = _client(uri), None
    while True:
        try:
            page = client.search_experiments(page_token=token)
        except MlflowException as error:
            told = f"MLflow at {uri} does not answer as it should: {error}"
            if re.search("failed with (timeout )?exception", told):  # in many words
                told = f"no answer from MLflow at {uri}. Is it up, and MLFLOW_TRACKING_URI right?"
            raise StoreUnreachableError(_shown(told).splitlines()[0]) from error
        yield from page
        token = page.token
        if not token:
            return


def _each_run(experiment: str, uri: str) -> Iterable[Any]:
    client, token = _client(uri), None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
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
            _shown(f"MLflow's store at {uri} cannot be read: {told}")
        ) from error
    finally:
        engine.dispose()


def artifact_bytes(artifact: str, uri: str) -> bytes:
    """The content of an artifact, read from disk or downloaded."""
    parsed = urlparse(artifact)
    if parsed.scheme in ("", "file"):
        return Path(unquote(parsed.path)).read_bytes()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # one for each run
    import mlflow

    with tempfile.TemporaryDirectory(prefix="study-") as folder:
        place = {"artifact_uri": artifact, "dst_path": folder, "tracking_uri": uri}
        return Path(mlflow.artifacts.download_artifacts(**place)).read_bytes()


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _is_database(uri: str) -> bool:
    return uri.split(":", 1)[0].split("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")


def _shown(text: str) -> str:
    """A text whose addresses show neither user nor password."""
    return re.sub(r"//[^/\s]*@", "//", text)
