"""Garbage collection: finds runs and files of a study that nothing needs, and removes them."""

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType

from study.core.paths import CHECKPOINTS, HANGS, OUTBOX, PROBLEMS, Home
from study.tracking import schema
from study.tracking.mlflow_internals import delete_permanently
from study.tracking.outbox import REFUSED, waiting
from study.tracking.store import Store

UNUSED_DAYS = 30  # encoded data take seconds to minutes to make again


@dataclass(frozen=True)
class Leftover:
    """Runs or files that can be removed.

    Attributes:
        reason: Why, in a few words.
        name: What it is.
        size: Bytes on this machine's disks.
        runs: MLflow runs.
        paths: Files and folders.
    """

    reason: str
    name: str
    size: int
    runs: tuple[MlflowRun, ...] = ()
    paths: tuple[Path, ...] = ()


def leftovers(
    home: Home, store: Store, study: str, *, wanted: Collection[str], failing: Collection[str]
) -> list[Leftover]:
    """Find what a study left behind.

    Args:
        home: Has the study's files.
        store: Has its runs.
        study: Its name.
        wanted: Keys of finished runs that the study asks for.
        failing: Keys of cells with missing runs.
    """
    runs = list(_all_runs(store, study))
    unsent = {entry.key for entry in waiting(home.study(study) / OUTBOX)}
    found = _runs_left(runs, store, home.artifacts / study, wanted=wanted, unsent=unsent)
    return found + _files_left(runs, home, store, study, wanted={*wanted, *unsent}, failing=failing)


def _runs_left(
    runs: Iterable[MlflowRun],
    store: Store,
    artifacts: Path,
    *,
    wanted: Collection[str],
    unsent: Collection[str],
) -> list[Leftover]:
    """Runs that can be removed, grouped by reason and cell."""
    groups: dict[tuple[str, str], list[MlflowRun]] = defaultdict(list)
    for run in runs:
        if reason := _reason(run, wanted, unsent):
            name = run.data.tags.get(schema.NAME, "")
            is_run = _kind(run) == schema.RUN_KIND
            groups[reason, name.rpartition("/")[0] if is_run else name].append(run)
    return [
        Leftover(
            reason,
            f"{name}: {_count(group)}",
            sum(_size(artifacts / run.info.run_id) for run in group),
            tuple(group),
            tuple(artifacts / run.info.run_id for run in group) if store.is_database else (),
        )
        for (reason, name), group in sorted(groups.items(), key=lambda item: item[0])
    ]


def _files_left(
    runs: Iterable[MlflowRun],
    home: Home,
    store: Store,
    study: str,
    *,
    wanted: Collection[str],
    failing: Collection[str],
) -> list[Leftover]:
    """Files and folders that can be removed."""
    own, artifacts = home.study(study), home.artifacts / study
    finished = {
        run.data.tags[schema.KEY]
        for run in runs
        if _kind(run) == schema.RUN_KIND and _is_complete(run)
    }
    known = {run.info.run_id for run in runs}
    own_store = not home.shared  # otherwise the artifacts here are of runs in another store

    def has_no_run(name: str) -> bool:
        # A study that was renamed keeps its artifacts in the folder of its old name.
        return own_store and name not in known and not store.lifecycle(name)

    folders: list[tuple[str, Path, Callable[[str], bool]]] = [
        ("artifacts without a run", artifacts, has_no_run),
        ("damaged result", own / REFUSED, lambda name: True),
        ("model without a run", home.models(study), lambda name: name not in wanted),
        ("checkpoint of a finished run", own / CHECKPOINTS, lambda name: name in finished),
        ("trace of a hung worker", own / HANGS, lambda name: True),
        ("resolved error", own / PROBLEMS, lambda name: Path(name).stem not in failing),
    ]
    return [
        Leftover(reason, str(path), _size(path), paths=(path,))
        for reason, folder, is_left in folders
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if is_left(path.name)
    ]


def unused(home: Home) -> list[Leftover]:
    """Encoded data that no study has read for `UNUSED_DAYS`."""
    oldest = time.time() - UNUSED_DAYS * 86400
    reason = f"encoded data, not read for {UNUSED_DAYS} days"
    files = sorted(home.encoded.iterdir()) if home.encoded.is_dir() else []
    stats = [(file, file.stat()) for file in files]
    return [
        Leftover(reason, str(file), stat.st_size, paths=(file,))
        for file, stat in stats
        if max(stat.st_atime, stat.st_mtime) < oldest
    ]


def remove(left: Iterable[Leftover], store: Store, *, check: Callable[[], object]) -> None:
    """Remove what was found.

    A database loses the runs for good; on a server they are marked as deleted.

    Args:
        left: What was found.
        store: Has the runs.
        check: Called before each removal; raises if a driver may be running.
    """
    for leftover in left:
        for run in leftover.runs:
            check()
            if not _is_deleted(run):
                store.client.delete_run(run.info.run_id)
            if store.is_database:
                delete_permanently(store.uri, run.info.run_id)
        for path in leftover.paths:
            check()
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _all_runs(store: Store, study: str) -> Iterator[MlflowRun]:
    """All runs of an experiment, including deleted ones if they can be removed for good."""
    experiment = store.client.get_experiment_by_name(study)
    view = ViewType.ALL if store.is_database else ViewType.ACTIVE_ONLY
    return store.runs(experiment.experiment_id, "", view)


def _reason(run: MlflowRun, wanted: Collection[str], unsent: Collection[str]) -> str | None:
    """Why a run can be removed; None if it cannot."""
    tags = run.data.tags
    if _is_deleted(run):
        return "deleted in MLflow"
    if _kind(run) == schema.CELL_KIND:
        return "no longer in the file" if tags.get(schema.IN_STUDY) == "false" else None
    if _kind(run) != schema.RUN_KIND:
        return None  # not written by this project
    if not _is_complete(run):
        return None if tags[schema.KEY] in unsent else "incomplete"
    return None if tags[schema.KEY] in wanted else "no longer in the file"


def _kind(run: MlflowRun) -> str:
    return str(run.data.tags.get(schema.KIND, ""))


def _is_complete(run: MlflowRun) -> bool:
    return not _is_deleted(run) and run.info.status == "FINISHED"


def _is_deleted(run: MlflowRun) -> bool:
    return bool(run.info.lifecycle_stage == "deleted")


def _count(group: Collection[MlflowRun]) -> str:
    runs = sum(_kind(run) == schema.RUN_KIND for run in group)
    cell = ["the cell"] if runs < len(group) else []
    return " and ".join(cell + ([f"{runs} runs" if runs > 1 else "1 run"] if runs else []))


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 if there is neither."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
