"""Load the runs, curves and predictions of a study from MLflow as tidy data frames."""

import ast
import json
import re
from io import BytesIO
from typing import Any

import pandas as pd

from analysis.frames.columns import (
    CELL,
    CELL_KIND,
    CELL_TEXT,
    COLLAPSE_RULE,
    COLUMNS,
    FACTS,
    FINISHED,
    FINISHED_NUMBERS,
    IDENTITY,
    IN_STUDY,
    KEY,
    KIND,
    MODEL_FACT,
    NAME,
    PREDICTIONS,
    PROTOCOL,
    RUN_COUNTS,
    RUN_JSON,
    RUN_KIND,
    RUN_NUMBERS,
    RUN_TEXT,
    SEEDS,
    SKILL,
    STAGE,
    STREAMS,
    seeds_of,
)
from analysis.frames.integers import integer_series
from analysis.frames.runs import DEFINED
from analysis.frames.store import (
    LongTables,
    artifact_bytes,
    default_uri,
    experiment_number,
    experiment_numbers,
    metric_history,
    read_experiment,
    read_parameters,
)
from analysis.frames.units import with_units

WORKFLOW = "workflowType=machine_learning"  # of MLflow's pages; by default that of language models


def studies(uri: str | None = None) -> list[str]:
    """List the names of the studies in a store, sorted."""
    return sorted(experiment_numbers(uri or default_uri()))


def load_runs(study: str, uri: str | None = None) -> pd.DataFrame:
    """Load the runs that a study asks for, one row each, including those without a result.

    Args:
        study: Name of the study, which is also that of its MLflow experiment.
        uri: MLflow tracking URI of a database or server; None takes `MLFLOW_TRACKING_URI`, else
            the `study-store` in `STUDY_HOME` or the working directory.

    Returns:
        The columns `COLUMNS`. `stage` is `tune` for the trials of a search, else `final`; `tried`
        is the number of configurations that this one was selected from, 1 if it is fixed in the
        study file; `search` describes the search as JSON, else it is empty. `task_type` groups
        tasks in a suite's score, empty where the study does not set it. `outcome` is
        `completed`, `diverged` or `missing`; `dev` and `test` are NaN unless completed;
        `dev_floor` and `test_floor` are the constant predictor's scores. Runs of cells or seeds
        that are no longer in the study file are left out. `seconds` are wall-clock seconds.

    Raises:
        StoreUnreachableError: If the store cannot be read, or its server does not answer.
        LookupError: If there is no such study or no such store.

    Example:
        >>> runs = load_runs("quickstart")  # doctest: +SKIP
    """
    return _frame(read_experiment(study, uri or default_uri()), study)


def load_finished(study: str, uri: str | None = None) -> pd.DataFrame:
    """Load every run with a result, including those that are no longer in the study file.

    Args:
        study: Name of the study.
        uri: As for `load_runs`.

    Returns:
        The columns `FINISHED`. `dev` is NaN where a run diverged; `dev_floor` is the constant
        predictor's dev score.

    Raises:
        StoreUnreachableError: If the store cannot be read, or its server does not answer.
        LookupError: If there is no such study or no such store.
    """
    long = read_experiment(study, uri or default_uri())
    ended = long.runs.loc[long.runs["status"] == "FINISHED", "run"]
    tags = long.tags[long.tags["run"].isin(ended)]
    tags = tags.pivot(index="run", columns="name", values="value")
    numbers = long.metrics.pivot(index="run", columns="name", values="value")
    tags = tags.reindex(columns=[KIND, KEY, NAME, CELL, STAGE]).rename(columns={NAME: "name"})
    found = tags[tags[KIND] == RUN_KIND].join(numbers.reindex(columns=FINISHED_NUMBERS))
    return found.fillna({STAGE: "final"})[FINISHED].reset_index(drop=True)


def load_curves(study: str, uri: str | None = None) -> pd.DataFrame:
    """Load the learning curves of a study, one row per run, curve and epoch.

    Args:
        study: Name of the study.
        uri: As for `load_runs`.

    Returns:
        `key, task, model, configuration, stage, seed, epoch, name, value`; `name` is `train/loss`,
        `dev/<metric>`, or `trained/depth_<number>`, the share of the weights at a depth (embeddings
        0, the head last) that a step trained, of techniques that choose it step by step. Epochs
        count from 1.

    Raises:
        StoreUnreachableError: If the store cannot be read, or its server does not answer.
        LookupError: If there is no such study or no such store.

    Example:
        >>> curves = load_curves("quickstart")  # doctest: +SKIP
    """
    uri = uri or default_uri()
    long = read_experiment(study, uri)
    runs = _frame(long, study)
    keys = long.tags[long.tags["name"] == KEY].set_index("run")["value"]
    history = metric_history(study, uri, list(keys.index[keys.isin(runs["key"])]))
    history["key"] = history.pop("run").map(keys)
    merged = runs[IDENTITY].merge(history, on="key")
    return merged.sort_values(["key", "name", "epoch"], ignore_index=True)


def load_retained(study: str, uri: str | None = None) -> pd.DataFrame:
    """Load what runs retained of skills that they did not train, one row per run and skill.

    Args:
        study: Name of the study.
        uri: As for `load_runs`.

    Returns:
        `key, task, model, configuration, stage, seed, skill, metric, before, after, retained`:
        `skill` is a task in the study's `retains` and `metric` its metric; `before` is the score of
        the untouched checkpoint and `after` that of the run's model, in the metric's own unit;
        `retained` is after over before, or before over after where lower is better, NaN where the
        score before is not above 0. Completed runs only; empty if the study has no `retains`.

    Raises:
        StoreUnreachableError: If the store cannot be read, or its server does not answer.
        LookupError: If there is no such study or no such store.

    Example:
        >>> retained = load_retained("sft_small")  # doctest: +SKIP
    """
    long = read_experiment(study, uri or default_uri())
    runs, metrics = _frame(long, study), long.metrics
    keys = long.tags[long.tags["name"] == KEY].set_index("run")["value"]
    pattern = rf"^(?P<of>{'|'.join(SKILL)})\.(?P<skill>.+)\.(?P<metric>[^.]+)$"
    named = metrics["name"].str.extract(pattern)
    found = named.assign(key=metrics["run"].map(keys), value=metrics["value"].astype("float64"))
    wide = found.dropna(subset="of").pivot(
        index=["key", "skill", "metric"], columns="of", values="value"
    )
    wide = wide.reindex(columns=list(SKILL)).dropna(subset="after").reset_index()
    merged = runs[IDENTITY].merge(wide, on="key")
    return merged.sort_values(["skill", "key"], ignore_index=True)


def load_predictions(study: str, uri: str | None = None) -> pd.DataFrame:
    """Load the stored predictions of a study, one row per run and example.

    Args:
        study: Name of the study.
        uri: As for `load_runs`.

    Returns:
        `key, task, model, configuration, stage, seed, split, id, label`, and a column per output:
        `logit_<class>`, or `value` for regression; NaN in the columns of other tasks.

    Raises:
        StoreUnreachableError: If the store cannot be read, or its server does not answer.
        LookupError: If there is no such study or no such store.

    Example:
        >>> predictions = load_predictions("quickstart")  # doctest: +SKIP
    """
    uri = uri or default_uri()
    long = read_experiment(study, uri)
    runs = _frame(long, study)
    folders = _artifacts(long)
    completed = runs.loc[runs["outcome"] == "completed", IDENTITY]
    parts = []
    for row in completed.to_dict("records"):
        path = f"{folders[row['key']]}/{PREDICTIONS}"
        part = pd.read_parquet(BytesIO(artifact_bytes(path, uri)))
        parts.append(part.assign(**{str(name): value for name, value in row.items()}))
    if not parts:
        return pd.DataFrame(columns=[*IDENTITY, "split"])
    together = pd.concat(parts, ignore_index=True)
    return together[IDENTITY + [name for name in together if name not in IDENTITY]]


def find_run(key: str, uri: str | None = None, study: str | None = None) -> dict[str, Any]:
    """Load everything about one run.

    Args:
        key: The run's key, or its first digits.
        uri: As for `load_runs`.
        study: The study to search; None searches all studies of the store.

    Returns:
        `key`, `study`, `name`, `tags`, `metrics`, `artifacts` (their URI), `spec` (plain data).

    Raises:
        StoreUnreachableError: If the store cannot be read, or its server does not answer.
        LookupError: If no run, or more than one, has such a key.
    """
    uri = uri or default_uri()
    if re.fullmatch("[0-9a-f]+", key) is None:  # it goes into an SQL LIKE pattern
        raise LookupError(f"no run has the key {key!r}")
    found: dict[str, tuple[str, str, LongTables]] = {}
    for name in studies(uri) if study is None else [study]:
        long = read_experiment(name, uri, key)
        keys = long.tags[long.tags["name"] == KEY]
        for run, full in zip(keys["run"], keys["value"], strict=True):
            found[str(full)] = (str(run), name, long)  # studies can share a run
    if len(found) != 1:
        many = f"{len(found)} runs have keys that start with" if found else "no run has the key"
        raise LookupError(f"{many} {key!r}")
    run, name, long = next(iter(found.values()))
    tags = _of_run(long.tags, run)
    artifacts = str(long.runs.set_index("run").at[run, "artifact_uri"])
    return {
        "key": tags[KEY],
        "study": name,
        "name": tags.get(NAME, ""),
        "tags": {k: v for k, v in tags.items() if not k.startswith("mlflow.")},
        "metrics": _of_run(long.metrics, run),
        "artifacts": artifacts,
        "spec": json.loads(artifact_bytes(f"{artifacts}/{RUN_JSON}", uri)),
    }


def load_settings(study: str, uri: str | None = None) -> pd.DataFrame:
    """Load what the cells of a study were set to, one row per cell and setting.

    Args:
        study: Name of the study; one file is read per cell of its final stage.
        uri: As for `load_runs`.

    Returns:
        `task, model, configuration, name, value`; the name is that of a field of the recipe, task,
        model or technique, such as `recipe.lr`, the value its JSON. The recipe is that of the
        training, after what the technique changes, and complete, except in stores without the
        parameters of cells; other fields at their default are left out, as are cells without a
        result and those whose file was deleted.

    Raises:
        StoreUnreachableError: If the store cannot be read, or its server does not answer.
        LookupError: If there is no such study or no such store.

    Example:
        >>> settings = load_settings("quickstart")  # doctest: +SKIP
    """
    uri = uri or default_uri()
    long = read_experiment(study, uri)
    runs, files = _frame(long, study), _artifacts(long)
    recipes = _recipes(long, study, uri)
    labels = ["task", "model", "configuration"]
    finished = runs[(runs["key"] != "") & (runs["stage"] == "final")].drop_duplicates(labels)
    rows = []
    for key, cell, *label in finished[["key", "cell", *labels]].itertuples(index=False):
        try:
            spec = json.loads(artifact_bytes(f"{files[key]}/{RUN_JSON}", uri))
        except OSError:
            continue
        values = {
            f"{part}.{name}": json.dumps(value)
            for part in ("recipe", "task", "model", "technique")
            for name, value in spec[part].items()
        }
        values.pop("task.folder", None)  # a place on one machine
        values |= recipes.get(cell, {})
        rows += [(*label, name, value) for name, value in values.items()]
    return pd.DataFrame(rows, columns=[*labels, "name", "value"])


def load_links(study: str, uri: str | None = None) -> pd.DataFrame:
    """Load where the finished runs of a study are, one row each.

    Args:
        study: Name of the study.
        uri: As for `load_runs`.

    Returns:
        `key, page, files`: `page` is that of MLflow's UI, relative to its address; `files` the URI
        of the run's artifacts.

    Raises:
        StoreUnreachableError: If the store cannot be read, or its server does not answer.
        LookupError: If there is no such study or no such store.
    """
    uri = uri or default_uri()
    number, long = experiment_number(study, uri), read_experiment(study, uri)
    keys = long.tags.loc[long.tags["name"] == KEY, ["run", "value"]]
    found = keys.merge(long.runs[long.runs["status"] == "FINISHED"], on="run")
    return pd.DataFrame(
        {
            "key": found["value"],
            "page": f"#/experiments/{number}/runs/" + found["run"] + f"?{WORKFLOW}",
            "files": found["artifact_uri"],
        }
    )


def experiment_id(study: str, uri: str | None = None) -> str:
    """MLflow's experiment ID of a study.

    Raises:
        StoreUnreachableError: If the store cannot be read, or its server does not answer.
        LookupError: If there is no such study.
    """
    return experiment_number(study, uri or default_uri())


def _of_run(long: pd.DataFrame, run: str) -> dict[str, Any]:
    part = long[long["run"] == run]
    return dict(zip(part["name"], part["value"], strict=True))


def _artifacts(long: LongTables) -> "pd.Series[str]":
    """The URI of each run's artifacts, by the run's key."""
    keys = long.tags.loc[long.tags["name"] == KEY, ["run", "value"]]
    return keys.merge(long.runs, on="run").set_index("value")["artifact_uri"]


def _recipes(long: LongTables, study: str, uri: str) -> dict[str, dict[str, str]]:
    """The recipe that each cell trained with, by the cell's key; values as JSON."""
    cells = long.tags[long.tags["name"] == CELL].set_index("run")["value"]
    found: dict[str, dict[str, str]] = {}
    for run, name, text in read_parameters(study, uri).itertuples(index=False):
        if run in cells and name.startswith("recipe."):
            found.setdefault(cells[run], {})[name] = _as_json(text)
    return found


def _as_json(text: str) -> str:
    """A value that was stored as Python prints it, as JSON."""
    try:
        return json.dumps(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return json.dumps(text)


# --- from long tables to the frame ------------------------------------------------------------


def _frame(long: LongTables, study: str) -> pd.DataFrame:
    tags = long.tags.pivot(index="run", columns="name", values="value")
    if KIND not in tags:
        raise LookupError(f"experiment {study!r} was not written by a study")
    cells = tags[tags[KIND] == CELL_KIND]
    finished = long.runs.loc[long.runs["status"] == "FINISHED", "run"]
    runs = tags[(tags[KIND] == RUN_KIND) & tags.index.isin(finished)]
    numbers = long.metrics.pivot(index="run", columns="name", values="value")
    runs = runs.join(numbers, rsuffix="_value")
    frame = _wanted(runs, cells[cells[IN_STUDY] == "true"])
    return _typed(frame, study)


def _wanted(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The runs that the cells ask for; those without a result have the outcome `missing`."""
    asked = pd.DataFrame(
        [
            {"parent": parent, "cell": key, **dict(zip(STREAMS, map(str, seed), strict=True))}
            for parent, key, text in cells[[CELL, SEEDS]].itertuples()
            for seed in seeds_of(text)
        ],
        columns=["parent", "cell", *STREAMS],
    )
    named = [*CELL_TEXT, *PROTOCOL, *(f"{MODEL_FACT}{fact}" for fact in FACTS)]
    of_cell = [name for name in named if name in cells]
    needed = ["cell", *STREAMS, "outcome"]  # absent until the first run has finished
    kept = dict.fromkeys(name for name in [*runs, *needed] if name not in of_cell)
    runs = runs.reindex(columns=list(kept)).astype(dict.fromkeys(needed, object))
    frame = asked.merge(runs, on=["cell", *STREAMS], how="left")
    frame["outcome"] = frame["outcome"].fillna("missing")
    return frame.merge(cells[of_cell], left_on="parent", right_index=True, how="left")


def _typed(frame: pd.DataFrame, study: str) -> pd.DataFrame:
    frame = frame.rename(columns={f"{MODEL_FACT}{fact}": fact for fact in FACTS})
    frame = frame.rename(columns={COLLAPSE_RULE: "collapse_rule"})
    for name in [*CELL_TEXT, "search", *FACTS, *RUN_TEXT]:
        frame[name] = frame[name].fillna("").astype(str) if name in frame else ""
    frame["stage"] = frame["stage"].replace(
        "", "final"
    )  # stores written before stages existed have none
    for name in [*RUN_COUNTS, *STREAMS, "parameters", "tried"]:
        values = frame[name] if name in frame else pd.Series(pd.NA, index=frame.index)
        frame[name], wrong = integer_series(values)
        if wrong.any():
            raise LookupError(
                f"study {study!r} has runs with {name} {values[wrong].iloc[0]}, which is not an "
                "integer of 64 bits; change it in the study file and run the study again"
            )
    frame["tried"] = frame["tried"].fillna(1)
    for name in RUN_NUMBERS:
        frame[name] = frame[name].astype(float) if name in frame else float("nan")
    for name in ["higher_is_better", "dirty"]:
        frame[name] = (frame[name] if name in frame else pd.Series("", index=frame.index)) == "true"
    # A missing run has no direction of its own; take that of other runs with the same metric.
    missing = frame["outcome"] == "missing"
    known = frame[~missing].groupby("metric")["higher_is_better"].first()
    frame.loc[missing, "higher_is_better"] = (
        frame.loc[missing, "metric"].map(known).fillna(True).astype(bool)
    )
    frame["collapsed"] = frame["collapse_rule"] != ""
    same = (frame["head"] == frame["order"]) & (frame["head"] == frame["noise"])
    frame["seed"] = frame["head"].where(same)
    frame["study"] = study
    frame["key"] = frame["key"].fillna("") if "key" in frame else ""
    frame["direction_from"] = DEFINED
    frame = with_units(frame)
    return frame[COLUMNS].reset_index(drop=True)
