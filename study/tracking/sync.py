"""Copies a study from one MLflow store into another, by key; repeatable, without duplicates."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Metric, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from study.core.paths import Home
from study.tracking import schema
from study.tracking.entry import Entry, Record, record_of
from study.tracking.experiment import Experiment, cell_stage
from study.tracking.lease import Lease
from study.tracking.store import Store


@dataclass
class Synced:
    """What a sync did.

    Attributes:
        total: Finished runs in the source.
        copied: Runs that the target did not have.
        unchanged: Runs that the target had, with the same scores.
        different: Names of runs that the target had with other scores; they stay as they are.
    """

    total: int
    copied: int = 0
    unchanged: int = 0
    different: list[str] = field(default_factory=list)


def sync(
    study: str, source: Store, target: Store, *, progress: Callable[[Synced], object]
) -> Synced:
    """Copy a study's cells and finished runs: tags, parameters, curves, scores, artifacts.

    A call after an interruption completes what is left. The study may be running in the source.

    Args:
        study: Its name.
        source: Has the study; it is only read.
        target: Gets the study; no driver or other sync may hold it there.
        progress: Called after each run.

    Raises:
        StudyLockedError: If the study is held in the target.
    """
    experiment = source.client.get_experiment_by_name(study)
    with ExitStack() as held:
        if target.file is not None:  # a driver with this store as its own holds a file lock there
            held.enter_context(Home(target.file.parent).lock(study).held("sync"))
        target_id = target.experiment(study)
        lease = Lease(target, target_id, study, command="sync", stop=lambda: None)
        held.callback(lease.release)
        here = Experiment(source, experiment.experiment_id, source.check)  # only read
        there = Experiment(target, target_id, lease.check)
        for cell in here.cells.values():
            _copy_cell(cell, there)
        runs = [run for run in here.search(schema.RUNS) if run.info.status == "FINISHED"]
        done = Synced(len(runs))
        for run in runs:
            key = run.data.tags[schema.KEY]
            if key not in there.records:
                _copy_run(run, source, there)
                done.copied += 1
            elif _scores(record_of(run.data.tags, run.data.metrics)) == _scores(there.records[key]):
                done.unchanged += 1
            else:
                done.different.append(run.data.tags.get(schema.NAME, key))
            progress(done)
        return done


def _copy_cell(cell: MlflowRun, to: Experiment) -> None:
    tags = cell.data.tags
    at = cell_stage(tags[schema.CELL], tags)
    if at in to.parents and tags.get(schema.IN_STUDY) != "true":
        return  # the cell has left the source's file, which may not be true of the target's
    run_id = to.parent(at, tags, cell.data.params, name=cell.info.run_name)
    ended = cell.info.end_time or cell.info.start_time
    metrics = [Metric(name, value, ended, 0) for name, value in cell.data.metrics.items()]
    batch = [RunTag(name, text) for name, text in tags.items()]
    to.writing().log_batch(run_id, metrics=metrics, tags=batch)
    if cell.info.status != "RUNNING":
        to.writing().set_terminated(run_id, cell.info.status, end_time=ended)


def _copy_run(run: MlflowRun, source: Store, to: Experiment) -> None:
    entry = _entry(run, source)
    at = cell_stage(entry.cell, entry.tags)
    name = entry.name.rpartition("/")[0]
    # Normally the cell has been copied. The source may have got a new one since it was read.
    parent = to.parent(at, {schema.IN_STUDY: "false"}, {}, name=name)
    artifacts = get_artifact_repository(run.info.artifact_uri, source.uri)
    names = {file.path for file in artifacts.list_artifacts()}
    with tempfile.TemporaryDirectory(prefix="study-sync-") as folder:
        for name in sorted(names.intersection(schema.ARTIFACTS)):
            artifacts.download_artifacts(name, folder)
        to.send(entry, Path(folder), parent)
    to.settle(entry)


def _entry(run: MlflowRun, source: Store) -> Entry:
    metrics: list[tuple[str, float, int]] = []
    for name, value in run.data.metrics.items():
        if schema.CURVE in name:
            history = source.client.get_metric_history(run.info.run_id, name)
            metrics += [(name, point.value, point.step) for point in history]
        else:
            metrics.append((name, value, 0))
    tags = run.data.tags
    return Entry(
        key=tags[schema.KEY],
        cell=tags[schema.CELL],
        name=run.info.run_name,
        tags=tags,
        params=run.data.params,
        metrics=metrics,
        started=run.info.start_time,
        ended=run.info.end_time,
    )


def _scores(record: Record) -> tuple[str, float, float]:
    return record.outcome, record.dev, record.test
