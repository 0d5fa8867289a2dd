"""Durable renames: flush a folder's entries to disk."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk; until then a crash can undo a rename in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
