"""MLflow to tidy frames: one row per run, per epoch, or per prediction.

A database is read by SQL, since MLflow's own search takes several times as long and stops at a
number of rows; a tracking server is read by its client, page by page, to the end.
"""

import difflib
import json
import os
import re
import tempfile
from collections.abc import Iterable
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlparse

import pandas as pd
import sqlalchemy as sa

FINISHED = ["key", "cell", "stage", "dev", "floor", "seconds"]  # columns of `load_finished`
IDENTITY = ["key", "task", "model", "configuration", "stage", "seed"]  # of rows below a run
STREAMS = ["head", "order", "noise"]
FACTS = [
    "family",
    "parameters",
    "domain",
    "vocabulary",
    "objective",
    "whole_word_masking",
    "next_sentence",
]
CELL_TEXT = ["task", "task_type", "model", "technique", "configuration", "metric", "stage"]
PROTOCOL = ["tried", "search"]  # what a cell says of the search that it comes from
RUN_TEXT = ["outcome", "collapse_rule", "device", "host", "versions", "commit"]
RUN_COUNTS = ["train_rows", "dev_rows", "test_rows"]
RUN_NUMBERS = [
    "dev",
    "test",
    "dev_floor",
    "test_floor",
    "seconds",
    "steps_per_second",
    "peak_memory_bytes",
    "trained_fraction",
]
COLUMNS = [
    "study",
    *CELL_TEXT,
    "tried",
    "seed",
    *STREAMS,
    "outcome",
    "collapsed",
    "collapse_rule",
    "dev",
    "test",
    "higher_is_better",
    "floor",
    "test_floor",
    *RUN_COUNTS,
    *FACTS,
    "device",
    "host",
    "seconds",
    "steps_per_second",
    "peak_memory_bytes",
    "trained_fraction",
    "versions",
    "commit",
    "dirty",
    "search",
    "key",
    "cell",
]


class NoAnswer(LookupError):
    """A store or its server does not answer as it should, so nobody knows what it has."""


class _Long(NamedTuple):
    """An experiment as long tables; `run` is MLflow's run id."""

    runs: pd.DataFrame  # run, status, artifact_uri; the newest first
    tags: pd.DataFrame  # run, name, value
    metrics: pd.DataFrame  # run, name, value


def studies(uri: str | None = None) -> list[str]:
    """The names of the studies in a store."""
    return sorted(_experiments(uri or default_uri()))


def load_runs(study: str, uri: str | None = None) -> pd.DataFrame:
    """One row per run that the study asks for, those without a result included.

    Args:
        study: The study's name, which is the experiment's.
        uri: A tracking store, database or server; None takes `MLFLOW_TRACKING_URI`, else the
            `study-store` in `STUDY_HOME` or the working directory.

    Returns:
        The columns `COLUMNS`. `stage` is `tune` for runs that a search chose by, else `final`;
        `tried` says from how many configurations this one was chosen, 1 if the file states it;
        `search` is where a searched one comes from, as JSON, else empty. `task_type` is what the
        task counts as in a suite's score, empty where the study does not say. `outcome` is
        `completed`, `diverged` or `missing`; `dev` and `test` are NaN unless completed; `floor`
        is the constant predictor's dev score. Runs of cells or seeds that are no longer in the
        study file are left out.

    Raises:
        LookupError: If there is no such study or no such store.
    """
    return _frame(_read(study, uri or default_uri()), study)


def load_finished(study: str, uri: str | None = None) -> pd.DataFrame:
    """Every run with a result, also those that the study file does not ask for at present.

    Args:
        study: The study's name.
        uri: As for `load_runs`.

    Returns:
        `key, cell, stage, dev, seconds`; `dev` is NaN where a run diverged, `floor` the constant
        predictor's score on dev.

    Raises:
        LookupError: If there is no such study or no such store.
    """
    long = _read(study, uri or default_uri())
    ended = long.runs.loc[long.runs["status"] == "FINISHED", "run"]
    tags = long.tags[long.tags["run"].isin(ended)]
    tags = tags.pivot(index="run", columns="name", values="value")
    numbers = long.metrics.pivot(index="run", columns="name", values="value")
    tags = tags.reindex(columns=["kind", "key", "cell", "stage"])
    found = tags[tags["kind"] == "run"].join(
        numbers.reindex(columns=["dev", "dev_floor", "seconds"])
    )
    found = found.rename(columns={"dev_floor": "floor"}).fillna({"stage": "final"})
    return found[FINISHED].reset_index(drop=True)


def load_curves(study: str, uri: str | None = None) -> pd.DataFrame:
    """One row per run, curve and epoch.

    Args:
        study: The study's name.
        uri: As for `load_runs`.

    Returns:
        `key, task, model, configuration, stage, seed, epoch, name, value`; `name` is `train/loss`
        or `dev/<metric>`, epochs count from 1.

    Raises:
        LookupError: If there is no such study or no such store.
    """
    uri = uri or default_uri()
    long = _read(study, uri)
    runs = _frame(long, study)
    keys = long.tags[long.tags["name"] == "key"].set_index("run")["value"]
    history = _history(study, uri, list(keys.index[keys.isin(runs["key"])]))
    history["key"] = history.pop("run").map(keys)
    merged = runs[IDENTITY].merge(history, on="key")
    return merged.sort_values(["key", "name", "epoch"], ignore_index=True)


def load_predictions(study: str, uri: str | None = None) -> pd.DataFrame:
    """One row per run and example.

    Args:
        study: The study's name.
        uri: As for `load_runs`.

    Returns:
        `key, task, model, configuration, stage, seed, split, id, label`, and a column per output:
        `logit_<class>`, or `value` for regression; NaN in the columns of other tasks.

    Raises:
        LookupError: If there is no such study or no such store.
    """
    uri = uri or default_uri()
    long = _read(study, uri)
    runs = _frame(long, study)
    keys = long.tags.loc[long.tags["name"] == "key", ["run", "value"]]
    places = keys.merge(long.runs, on="run").set_index("value")["artifact_uri"]
    about = runs.loc[runs["outcome"] == "completed", IDENTITY]
    parts = []
    for row in about.to_dict("records"):
        part = pd.read_parquet(BytesIO(_content(f"{places[row['key']]}/predictions.parquet", uri)))
        parts.append(part.assign(**{str(name): value for name, value in row.items()}))
    if not parts:
        return pd.DataFrame(columns=[*IDENTITY, "split"])
    together = pd.concat(parts, ignore_index=True)
    return together[IDENTITY + [name for name in together if name not in IDENTITY]]


def find_run(key: str, uri: str | None = None) -> dict[str, Any]:
    """Everything about one run.

    Args:
        key: The run's key, or its first digits.
        uri: As for `load_runs`.

    Returns:
        `key`, `study`, `name`, `tags`, `metrics`, `artifacts` (their place), `spec` (plain data).

    Raises:
        LookupError: If no run, or more than one, has such a key.
    """
    uri = uri or default_uri()
    found: dict[str, tuple[str, str, _Long]] = {}
    for name in studies(uri):
        long = _read(name, uri)
        keys = long.tags[(long.tags["name"] == "key") & long.tags["value"].str.startswith(key)]
        for run, full in zip(keys["run"], keys["value"], strict=True):
            found[str(full)] = (str(run), name, long)  # studies can share a run: the same bits
    if len(found) != 1:
        many = f"{len(found)} runs have keys that start with" if found else "no run has the key"
        raise LookupError(f"{many} {key!r}")
    run, name, long = next(iter(found.values()))
    tags = _of_run(long.tags, run)
    place = str(long.runs.set_index("run").at[run, "artifact_uri"])
    return {
        "key": tags["key"],
        "study": name,
        "name": tags.get("mlflow.runName", ""),
        "tags": {k: v for k, v in tags.items() if not k.startswith("mlflow.")},
        "metrics": _of_run(long.metrics, run),
        "artifacts": place,
        "spec": json.loads(_content(f"{place}/run.json", uri)),
    }


def experiment_id(study: str, uri: str | None = None) -> str:
    """MLflow's id of a study.

    Raises:
        LookupError: If there is no such study.
    """
    return _experiment(study, uri or default_uri())


def _of_run(long: pd.DataFrame, run: str) -> dict[str, Any]:
    part = long[long["run"] == run]
    return dict(zip(part["name"], part["value"], strict=True))


def default_uri() -> str:
    """`MLFLOW_TRACKING_URI` where set, else the store in `STUDY_HOME` or the working directory."""
    home = Path(os.environ.get("STUDY_HOME", "study-store")).resolve()
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"


# --- from long tables to the frame ------------------------------------------------------------


def _frame(long: _Long, study: str) -> pd.DataFrame:
    tags = long.tags.pivot(index="run", columns="name", values="value")
    if "kind" not in tags:
        raise LookupError(f"experiment {study!r} was not written by a study")
    cells = tags[tags["kind"] == "cell"]
    finished = long.runs.loc[long.runs["status"] == "FINISHED", "run"]
    runs = tags[(tags["kind"] == "run") & tags.index.isin(finished)]
    numbers = long.metrics.pivot(index="run", columns="name", values="value")
    runs = runs.join(numbers, rsuffix="_value")
    frame = _wanted(runs, cells[cells["in_study"] == "true"])
    return _typed(frame, study)


def _wanted(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The runs that the cells ask for; those without a result have the outcome `missing`."""
    asked = pd.DataFrame(
        [
            {"parent": parent, "cell": key, **dict(zip(STREAMS, map(str, seed), strict=True))}
            for parent, key, text in cells[["cell", "seeds"]].itertuples()
            for seed in seeds_of(text)
        ],
        columns=["parent", "cell", *STREAMS],
    )
    named = [*CELL_TEXT, *PROTOCOL, *(f"model.{fact}" for fact in FACTS)]
    about = [name for name in named if name in cells]
    needed = ["cell", *STREAMS, "outcome"]  # not there before the first run has finished
    kept = dict.fromkeys(name for name in [*runs, *needed] if name not in about)
    runs = runs.reindex(columns=list(kept)).astype(dict.fromkeys(needed, object))
    frame = asked.merge(runs, on=["cell", *STREAMS], how="left")
    frame["outcome"] = frame["outcome"].fillna("missing")
    return frame.merge(cells[about], left_on="parent", right_index=True, how="left")


def _typed(frame: pd.DataFrame, study: str) -> pd.DataFrame:
    frame = frame.rename(columns={f"model.{fact}": fact for fact in FACTS})
    frame = frame.rename(columns={"collapsed": "collapse_rule"})
    for name in [*CELL_TEXT, "search", *FACTS, *RUN_TEXT]:
        frame[name] = frame[name].fillna("").astype(str) if name in frame else ""
    frame["stage"] = frame["stage"].replace("", "final")  # as all was before there were stages
    for name in [*RUN_COUNTS, *STREAMS, "parameters", "tried"]:
        values = frame[name] if name in frame else pd.Series(pd.NA, index=frame.index)
        frame[name] = pd.to_numeric(values.replace("", pd.NA)).astype("Int64")
    frame["tried"] = frame["tried"].fillna(1)
    for name in RUN_NUMBERS:
        frame[name] = frame[name].astype(float) if name in frame else float("nan")
    frame = frame.rename(columns={"dev_floor": "floor"})
    for name in ["higher_is_better", "dirty"]:
        frame[name] = (frame[name] if name in frame else pd.Series("", index=frame.index)) == "true"
    # A cell whose runs are all missing has no direction yet; its task's other cells have.
    known = frame[frame["outcome"] != "missing"].groupby("metric")["higher_is_better"].first()
    absent = frame["outcome"] == "missing"
    frame.loc[absent, "higher_is_better"] = (
        frame.loc[absent, "metric"].map(known).fillna(True).astype(bool)
    )
    frame["collapsed"] = frame["collapse_rule"] != ""
    same = (frame["head"] == frame["order"]) & (frame["head"] == frame["noise"])
    frame["seed"] = frame["head"].where(same)
    frame["study"] = study
    frame["key"] = frame["key"].fillna("") if "key" in frame else ""
    return frame[COLUMNS].reset_index(drop=True)


def seeds_of(text: str) -> list[tuple[int, int, int]]:
    """The seeds that a cell asks for, as (head, order, noise).

    Args:
        text: `0-4,7`, each number setting all three, or `head=0-4 order=0-4 noise=0`, crossed.
    """
    if "=" not in text:
        return [(number, number, number) for number in _numbers(text)]
    parts = dict(part.split("=") for part in text.split())
    crossed = product(*(_numbers(parts[stream]) for stream in STREAMS))
    return [(head, order, noise) for head, order, noise in crossed]


def _numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"(-?\d+)(?:-(-?\d+))?", part)
        if ends is None:
            raise ValueError(f"{text!r} is not a list of seeds")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        found += range(first, last + 1)
    return found


# --- reading the store ------------------------------------------------------------------------


def _experiments(uri: str) -> dict[str, str]:
    if _is_database(uri):
        query = "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        found = _query(uri, query)
        pairs = list(zip(found["name"], found["experiment_id"].astype(str), strict=True))
    else:
        pairs = [(e.name, e.experiment_id) for e in _each_experiment(uri)]
    return {name: number for name, number in pairs if name != "Default"}


def _read(study: str, uri: str) -> _Long:
    number = _experiment(study, uri)
    return _once(_from_database(number, uri) if _is_database(uri) else _paged(number, uri))


def _once(long: _Long) -> _Long:
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
    return _Long(*(part[~part["run"].isin(older)] for part in long)) if older else long


def _experiment(study: str, uri: str) -> str:
    known = _experiments(uri)
    if study not in known:
        near = difflib.get_close_matches(study, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There: {', '.join(known) or 'none'}."
        raise LookupError(f"no study {study!r} in {_shown(uri)}. {hint}")
    return known[study]


def _from_database(experiment: str, uri: str) -> _Long:
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
    return _Long(runs, tags, metrics)


def _paged(experiment: str, uri: str) -> _Long:
    runs: list[dict[str, Any]] = []
    tags: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for run in _each_run(experiment, uri):
        about = {"run": run.info.run_id}
        runs.append({**about, "status": run.info.status, "artifact_uri": run.info.artifact_uri})
        tags += [{**about, "name": k, "value": v} for k, v in run.data.tags.items()]
        metrics += [{**about, "name": k, "value": v} for k, v in run.data.metrics.items()]
    columns = ["run", "name", "value"]
    return _Long(
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
            raise NoAnswer(_shown(told).splitlines()[0]) from error
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


def _history(study: str, uri: str, runs: list[str]) -> pd.DataFrame:
    if _is_database(uri):
        query = (
            "SELECT t.run_uuid AS run, t.key AS name, t.step AS epoch, t.value"
            " FROM metrics t JOIN runs r ON r.run_uuid = t.run_uuid"
            " WHERE r.experiment_id = :experiment AND r.lifecycle_stage = 'active'"
            " AND (t.key = 'train/loss' OR t.key LIKE 'dev/%')"
        )
        found = _query(uri, query, experiment=int(_experiment(study, uri)))
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
        raise NoAnswer(_shown(f"MLflow's store at {uri} cannot be read: {told}")) from error
    finally:
        engine.dispose()


def _content(artifact: str, uri: str) -> bytes:
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
