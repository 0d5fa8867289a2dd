"""A study from one MLflow store into another, by key: again and again, without a run twice."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Metric, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from study.core.paths import Home
from study.tracking.experiment import Experiment, place_of
from study.tracking.lease import Lease
from study.tracking.outbox import PREDICTIONS, RUN_JSON, Entry
from study.tracking.store import Store
from study.tracking.summary import Record, record_of


@dataclass
class Synced:
    """What a sync did.

    Attributes:
        total: Finished runs in the source.
        copied: Runs that the target did not have.
        there: Runs that it had, with the same scores.
        different: Names of runs that it has with other scores; they stay as they are.
    """

    total: int
    copied: int = 0
    there: int = 0
    different: list[str] = field(default_factory=list)


def sync(study: str, source: Store, target: Store, *, told: Callable[[Synced], object]) -> Synced:
    """Copy a study's cells and finished runs: tags, parameters, curves, scores, artifacts.

    Whatever is interrupted is completed by the next call. The study may run in the source.

    Args:
        study: Its name.
        source: Has it; only read.
        target: Gets it; no driver or other sync may hold the study there.
        told: Called after each run.

    Raises:
        StudyLockedError: If the study is held in the target.
    """
    found = source.client.get_experiment_by_name(study)
    with ExitStack() as held:
        if target.file is not None:  # a driver whose own store it is has a lock there
            held.enter_context(Home(target.file.parent).lock(study).held("sync"))
        experiment = target.experiment(study)
        lease = Lease(target, experiment, study, command="sync", stop=lambda: None)
        held.callback(lease.release)
        mine = Experiment(source, found.experiment_id, source.check)  # only read
        theirs = Experiment(target, experiment, lease.check)
        for cell in mine.cells.values():
            _copy_cell(cell, theirs)
        runs = [run for run in mine.search("tags.kind = 'run'") if run.info.status == "FINISHED"]
        done = Synced(len(runs))
        for run in runs:
            key = run.data.tags["key"]
            if key not in theirs.records:
                _copy_run(run, source, theirs)
                done.copied += 1
            elif _scores(record_of(run.data.tags, run.data.metrics)) == _scores(
                theirs.records[key]
            ):
                done.there += 1
            else:
                done.different.append(run.data.tags.get("mlflow.runName", key))
            told(done)
        return done


def _copy_cell(cell: MlflowRun, to: Experiment) -> None:
    tags = cell.data.tags
    place = place_of(tags["cell"], tags)
    if place in to.made and tags.get("in_study") != "true":
        return  # whoever runs the study there knows better
    run_id = to.cell(place, tags, cell.data.params, name=cell.info.run_name)
    ended = cell.info.end_time or cell.info.start_time
    metrics = [Metric(name, value, ended, 0) for name, value in cell.data.metrics.items()]
    batch = [RunTag(name, text) for name, text in tags.items()]
    to.writing().log_batch(run_id, metrics=metrics, tags=batch)
    if cell.info.status != "RUNNING":
        to.writing().set_terminated(run_id, cell.info.status, end_time=ended)


def _copy_run(run: MlflowRun, source: Store, to: Experiment) -> None:
    entry = _entry(run, source)
    place = place_of(entry.cell, entry.tags)
    parent = to.cell(place, {"in_study": "false"}, {}, name=entry.name.rpartition("/")[0])
    artifacts = get_artifact_repository(run.info.artifact_uri, source.uri)
    there = {file.path for file in artifacts.list_artifacts()}
    with tempfile.TemporaryDirectory(prefix="study-sync-") as folder:
        for name in sorted(there & {RUN_JSON, PREDICTIONS}):
            artifacts.download_artifacts(name, folder)
        to.send(entry, Path(folder), parent)
    to.settle(entry)


def _entry(run: MlflowRun, source: Store) -> Entry:
    metrics: list[tuple[str, float, int]] = []
    for name, value in run.data.metrics.items():
        if "/" in name:  # a curve
            history = source.client.get_metric_history(run.info.run_id, name)
            metrics += [(name, point.value, point.step) for point in history]
        else:
            metrics.append((name, value, 0))
    tags = run.data.tags
    return Entry(
        key=tags["key"],
        cell=tags["cell"],
        name=run.info.run_name,
        tags=tags,
        params=run.data.params,
        metrics=metrics,
        started=run.info.start_time,
        ended=run.info.end_time,
    )


def _scores(record: Record) -> tuple[str, float, float]:
    return record.outcome, record.dev, record.test
