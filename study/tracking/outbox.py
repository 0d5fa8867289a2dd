"""The outbox: finished runs on disk, until MLflow has them.

One folder per run, written beside its place and renamed into it, so that an entry is either whole
or not there.
"""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from study.core.atomic import PARTIAL, atomic
from study.tracking.summary import Record, record_of

RUN_JSON, PREDICTIONS = "run.json", "predictions.parquet"  # a run's artifacts


@dataclass(frozen=True)
class Entry:
    """A finished run as MLflow will get it.

    Attributes:
        key: The run's key.
        cell: Its cell's key.
        name: As people read it.
        tags: Plain text by name.
        params: Plain text by name.
        metrics: Name, value, and epoch (0 where a value belongs to the whole run); finite.
        started: Unix time in milliseconds; with `ended` also the metrics' time stamps, so that
            writing an entry twice writes the same rows.
        ended: Unix time in milliseconds.
        spec: What `study.run_from` makes the run from.
    """

    key: str
    cell: str
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: list[tuple[str, float, int]]
    started: int
    ended: int
    spec: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """As `from_json` reads it."""
        return json.dumps(asdict(self))

    def record(self) -> Record:
        """What the driver remembers of it."""
        values = {name: value for name, value, step in self.metrics if step == 0}
        return record_of({**self.tags, "cell": self.cell}, values)

    @classmethod
    def from_json(cls, text: str) -> "Entry":
        """What `to_json` wrote.

        Raises:
            ValueError: If it is something else.
        """
        try:
            data = json.loads(text)
            data["metrics"] = [tuple(metric) for metric in data["metrics"]]
            return cls(**data)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"entry.json is damaged ({error})") from error


class Outbox:
    """A folder of entries."""

    def __init__(self, folder: Path) -> None:
        """Open it, and clear what an interrupted write or removal left."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in [*folder.glob(f".*{PARTIAL}"), *folder.glob(".*.sent")]:
            shutil.rmtree(left)

    def put(self, entry: Entry, predictions: bytes) -> None:
        """Write an entry; it is on disk when this returns.

        Args:
            entry: The run.
            predictions: Per-example predictions, a Parquet file; empty for none.

        Raises:
            OSError: If the disk is full, for instance; nothing of the entry is left then.
        """
        target = self.folder / entry.key
        if target.exists():  # the same run, twice: the results are the same bits
            return
        spec = json.dumps(entry.spec, indent=1, sort_keys=True)
        with atomic(target, sync=True) as partial:
            (partial / "artifacts").mkdir(parents=True)
            (partial / "artifacts" / RUN_JSON).write_text(spec)
            if predictions:
                (partial / "artifacts" / PREDICTIONS).write_bytes(predictions)
            (partial / "entry.json").write_text(entry.to_json())

    def keys(self) -> list[str]:
        """The entries that wait, oldest first; a file in between is somebody else's."""
        waiting = []
        for path in self.folder.iterdir():
            if not path.name.startswith(".") and path.is_dir():
                with suppress(FileNotFoundError):  # the other thread has just sent it
                    waiting.append((path.stat().st_mtime_ns, path.name))
        return [name for _, name in sorted(waiting)]

    def count(self) -> int:
        """How many entries wait; no entry is asked for its age, which takes long on far disks."""
        with os.scandir(self.folder) as entries:
            return sum(not each.name.startswith(".") and each.is_dir() for each in entries)

    def get(self, key: str) -> tuple[Entry, Path]:
        """An entry and the folder of its artifacts.

        Raises:
            ValueError: If the entry is damaged.
        """
        place = self.folder / key
        return Entry.from_json((place / "entry.json").read_text()), place / "artifacts"

    def remove(self, key: str) -> None:
        """Forget an entry that MLflow has."""
        gone = self.folder / f".{key}.sent"
        (self.folder / key).rename(gone)
        shutil.rmtree(gone)

    def refuse(self, key: str, reason: str) -> Path:
        """Set an entry aside that MLflow will never take.

        Returns:
            Where it is now, with the reason beside it.
        """
        place = self.folder.parent / "refused" / key
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(exist_ok=True)
        (self.folder / key).rename(place)
        (place / "reason.txt").write_text(reason + "\n")
        return place


def waiting(folder: Path) -> list[Entry]:
    """The sound entries of an outbox that a driver may be emptying; nothing in it is touched.

    Args:
        folder: The outbox, which need not be there.
    """
    found = []
    for path in sorted(folder.glob("[!.]*/entry.json")):
        with suppress(FileNotFoundError, ValueError):  # just sent, or damaged
            found.append(Entry.from_json(path.read_text()))
    return found
