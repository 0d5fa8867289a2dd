"""Finished runs of a study, read from the store and the outbox for several commands."""

import math
from contextlib import suppress
from typing import Any, NamedTuple

import pandas as pd

from study.cli.messages import complain
from study.core.paths import OUTBOX, Home, without_password
from study.core.spec import SpecError
from study.planning.study import Study


class Seen(NamedTuple):
    """What the announcement of a study needs of a finished run.

    Attributes:
        cell: Its cell's key.
        seconds: Its duration.
        name: `TASK/MODEL/CONFIGURATION/SEED`.
    """

    cell: str
    seconds: float
    name: str


def seen(done: Any) -> dict[str, Seen]:
    """The finished runs, by key."""
    rows = done[["key", *Seen._fields]].itertuples(index=False)
    return {key: Seen(*others) for key, *others in rows}


def scores(done: Any) -> dict[str, float]:
    """Dev score of every finished run, by its key; the constant predictor's where it diverged."""
    return dict(zip(done["key"], done["dev"].fillna(done["dev_floor"]), strict=True))


def finished(study: Study, home: Home) -> Any:
    """Runs with a result, in the store or still in the outbox, as `load_finished` returns them.

    Runs are identified by key alone, as when a study runs, since the file may have changed.

    Raises:
        StoreUnreachableError: If the store is a server that does not answer.
    """
    from analysis.frames.columns import FINISHED, FINISHED_NUMBERS
    from analysis.frames.load import load_finished
    from analysis.frames.store import StoreUnreachableError
    from study.tracking.outbox import waiting

    try:
        done = load_finished(study.name, home.uri)
    except StoreUnreachableError:
        raise
    except LookupError:  # no store yet, or not this study
        done = pd.DataFrame(columns=FINISHED)
    known = set(done["key"])
    rows = [
        {
            "key": entry.key,
            "name": entry.name,
            "cell": entry.cell,
            "stage": entry.tags.get("stage", "final"),
            **dict.fromkeys(FINISHED_NUMBERS, math.nan),
            **{name: value for name, value, epoch in entry.metrics if epoch == 0},
        }
        for entry in waiting(home.study(study.name) / OUTBOX)
        if entry.key not in known
    ]
    if not rows:
        return done
    new = pd.DataFrame(rows)[FINISHED]
    return pd.concat([done, new], ignore_index=True) if len(done) else new


def correction_note(study: Study | None, home: Home) -> str:
    """What a user must know of cells in the store that were made before a correction.

    Args:
        study: That of a study file, which says which cells those are; None if only its name is
            known.
        home: Has the store.

    Returns:
        Empty if there are no such cells, or the data or checkpoints are not on this machine.
    """
    if study is None:
        return ""
    # Slow to load, and seldom needed.
    from study.models.loading import padding_corrected
    from study.planning.runs import outdated, outdated_text
    from study.planning.stages import Stages
    from study.tasks.kinds import KINDS

    with suppress(SpecError):
        if not any(
            model.is_here() and padding_corrected(model, KINDS[task.kind])
            for task, model in study.task_model_pairs()
        ):
            return ""  # without reading data
        done = finished(study, home)
        cells = Stages(study, scores(done)).cells
        if old := outdated(cells, set(done["cell"])):
            return outdated_text(old)
    return ""


def trouble(uri: str, error: Exception) -> int:
    """Print an error of the store and return the exit code."""
    from study.tracking.store import in_brief

    complain(f"MLflow at {without_password(uri)}: {in_brief(error)}")
    return 1
