"""Making sure that what was renamed is on disk."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Return when the folder's own entries are on disk; a rename is safe only then."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
