"""What studies leave behind that nothing needs any more: found, with its size, and removed."""

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.tracking._tracking_service.utils import _get_store

from study.core.paths import CHECKPOINTS, HANGS, OUTBOX, PROBLEMS, Home
from study.tracking.outbox import waiting
from study.tracking.store import Store

UNUSED_DAYS = 30  # encoded data are made anew in seconds to minutes


@dataclass(frozen=True)
class Left:
    """Something that can go.

    Attributes:
        why: Why, in few words.
        name: What it is.
        size: Bytes on this machine's disks.
        runs: Runs of MLflow.
        paths: Files and folders.
    """

    why: str
    name: str
    size: int
    runs: tuple[MlflowRun, ...] = ()
    paths: tuple[Path, ...] = ()


def leftovers(
    home: Home, store: Store, study: str, *, asked: Collection[str], failing: Collection[str]
) -> list[Left]:
    """What a study left behind.

    Args:
        home: Where its files are.
        store: Where it is tracked.
        study: Its name.
        asked: Keys of finished runs that the study asks for.
        failing: Keys of cells with missing runs.
    """
    runs = list(_runs(store, study))
    own, artifacts = home.study(study), home.artifacts / study
    sent = {entry.key for entry in waiting(own / OUTBOX)}
    found: dict[tuple[str, str], list[MlflowRun]] = defaultdict(list)
    for run in runs:
        if why := _reason(run, asked, sent):
            cell = run.data.tags.get("mlflow.runName", "").rpartition("/")
            name = cell[0] if run.data.tags.get("kind") == "run" else "".join(cell)
            found[why, name].append(run)
    left = [
        Left(
            why,
            f"{name}: {_count(group)}",
            sum(_size(artifacts / run.info.run_id) for run in group),
            tuple(group),
            tuple(artifacts / run.info.run_id for run in group) if store.is_database else (),
        )
        for (why, name), group in sorted(found.items())
    ]
    finished = {r.data.tags["key"] for r in runs if _kind(r) == "run" and _is_whole(r)}
    wanted = {*asked, *sent}
    own_store = not home.shared  # else the artifacts here are of runs in another one
    kept = {run.info.run_id for run in runs}

    def of_no_run(name: str) -> bool:  # a study that had this name before left some there
        return own_store and name not in kept and not store.lifecycle(name)

    folders: list[tuple[str, Path, Callable[[str], bool]]] = [
        ("artifacts of no run", artifacts, of_no_run),
        ("refused by MLflow", own / "refused", lambda name: True),
        ("kept model of no run", home.models(study), lambda name: name not in wanted),
        ("checkpoint of a finished run", own / CHECKPOINTS, lambda name: name in finished),
        ("left by a lost worker", own / HANGS, lambda name: True),
        ("error that is over", own / PROBLEMS, lambda name: Path(name).stem not in failing),
    ]
    for why, folder, gone in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if gone(path.name):
                left.append(Left(why, str(path), _size(path), paths=(path,)))
    return left


def unused(home: Home) -> list[Left]:
    """Encoded data that no study has read for long."""
    oldest = time.time() - UNUSED_DAYS * 86400
    why = f"encoded data, not read for {UNUSED_DAYS} days"
    files = sorted(home.encoded.iterdir()) if home.encoded.is_dir() else []
    stats = [(file, file.stat()) for file in files]
    return [
        Left(why, str(file), stat.st_size, paths=(file,))
        for file, stat in stats
        if max(stat.st_atime, stat.st_mtime) < oldest
    ]


def remove(left: Iterable[Left], store: Store, *, check: Callable[[], object]) -> None:
    """Remove what was found, and nothing else.

    Runs are removed from a database with their artifacts; a server marks them as deleted.

    Args:
        left: What was found.
        store: Where the runs are.
        check: Called before each removal; raises where a driver may be at work.
    """
    for each in left:
        for run in each.runs:
            check()
            if not _is_deleted(run):
                store.client.delete_run(run.info.run_id)
            if store.is_database:
                _get_store(store.uri)._hard_delete_run(run.info.run_id)
        for path in each.paths:
            check()
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _runs(store: Store, study: str) -> Iterator[MlflowRun]:
    """All runs of an experiment, those that were deleted included where they can be removed."""
    experiment = store.client.get_experiment_by_name(study)
    view = ViewType.ALL if store.is_database else ViewType.ACTIVE_ONLY
    return store.runs(experiment.experiment_id, "", view)


def _reason(run: MlflowRun, asked: Collection[str], sent: Collection[str]) -> str | None:
    tags = run.data.tags
    if _is_deleted(run):
        return "deleted in MLflow"
    if _kind(run) == "cell":
        return "no longer in the file" if tags.get("in_study") == "false" else None
    if _kind(run) != "run":
        return None  # not ours
    if not _is_whole(run):
        return None if tags["key"] in sent else "cut short"
    return None if tags["key"] in asked else "no longer in the file"


def _kind(run: MlflowRun) -> str:
    return str(run.data.tags.get("kind", ""))


def _is_whole(run: MlflowRun) -> bool:
    return not _is_deleted(run) and run.info.status == "FINISHED"


def _is_deleted(run: MlflowRun) -> bool:
    return bool(run.info.lifecycle_stage == "deleted")


def _count(group: Collection[MlflowRun]) -> str:
    runs = sum(_kind(run) == "run" for run in group)
    cell = ["the cell"] if runs < len(group) else []
    return " and ".join(cell + ([f"{runs} runs" if runs > 1 else "1 run"] if runs else []))


def _size(path: Path) -> int:
    """Bytes of a file or of a folder's files; 0 where there is none."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
