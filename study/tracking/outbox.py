"""The outbox: finished runs on disk, until MLflow has them.

One folder per run. It is written under another name and then renamed, so an entry is either
complete or absent.
"""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from study.core.atomic import PARTIAL, atomic
from study.tracking.entry import Entry
from study.tracking.schema import PREDICTIONS, RUN_JSON, TRAINED
from study.tracking.trained_picture import trained_picture

REFUSED = "refused"  # beside the outbox: damaged entries


class Outbox:
    """A folder of entries."""

    def __init__(self, folder: Path) -> None:
        """Open it, and clear what an interrupted write or removal left."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        leftovers = [f".*{PARTIAL}", ".*.sent", ".*.new"]  # the last is of earlier versions
        for left in [path for pattern in leftovers for path in folder.glob(pattern)]:
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
            if picture := trained_picture(entry.metrics):
                (partial / "artifacts" / TRAINED).write_text(picture)
            (partial / "entry.json").write_text(entry.to_json())

    def keys(self) -> list[str]:
        """Keys of the waiting entries, oldest first; stray files are ignored."""
        waiting = []
        for path in self.folder.iterdir():
            if not path.name.startswith(".") and path.is_dir():
                with suppress(FileNotFoundError):  # the other thread has just sent it
                    waiting.append((path.stat().st_mtime_ns, path.name))
        return [name for _, name in sorted(waiting)]

    def count(self) -> int:
        """The number of waiting entries.

        Unlike `keys`, it calls no `stat` per entry, which is slow on network file systems.
        """
        with os.scandir(self.folder) as entries:
            return sum(not entry.name.startswith(".") and entry.is_dir() for entry in entries)

    def get(self, key: str) -> tuple[Entry, Path]:
        """An entry and the folder of its artifacts.

        Raises:
            ValueError: If the entry is damaged.
        """
        path = self.folder / key
        return Entry.from_json((path / "entry.json").read_text()), path / "artifacts"

    def remove(self, key: str) -> None:
        """Delete an entry that MLflow has."""
        # Renamed first: a removal that is interrupted would otherwise leave a damaged entry.
        sent = self.folder / f".{key}.sent"
        (self.folder / key).rename(sent)
        shutil.rmtree(sent)

    def set_aside(self, key: str, reason: str) -> Path:
        """Move a damaged entry out of the outbox.

        Returns:
            Its new folder, which also holds the reason.
        """
        path = self.folder.parent / REFUSED / key
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(exist_ok=True)
        (self.folder / key).rename(path)
        (path / "reason.txt").write_text(reason + "\n", encoding="utf-8")
        return path

    def recover(self) -> None:
        """Take back valid entries that earlier versions set aside because MLflow refused them."""
        for entry in waiting(self.folder.parent / REFUSED):
            if not (target := self.folder / entry.key).exists():
                (self.folder.parent / REFUSED / entry.key).rename(target)


def waiting(folder: Path) -> list[Entry]:
    """Read the valid entries of an outbox that a driver may be emptying; nothing is changed.

    Args:
        folder: The outbox; it may be absent.
    """
    entries = []
    for path in sorted(folder.glob("[!.]*/entry.json")):
        with suppress(FileNotFoundError, ValueError):  # just sent, or damaged
            entries.append(Entry.from_json(path.read_text()))
    return entries
