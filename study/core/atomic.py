"""Atomic writes: a file or folder is written under a temporary name, then renamed."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"  # ends the name of what is still being written


@contextmanager
def atomic(target: Path, *, sync: bool = False) -> Iterator[Path]:
    """Write a file or a folder so that readers see all of it or nothing.

    After an error nothing partial is left; a killed process leaves a hidden `*.partial`.

    Args:
        target: Final path; its folder is created if absent. An existing file is replaced; a folder
            that is not empty makes the final rename fail with `OSError`.
        sync: Whether everything is on disk when the block has ended, rename included.

    Yields:
        The path to write to, in the same folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Unique, because a worker that counts as lost may still be writing its own copy.
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield partial
        if sync:
            for path in [partial, *partial.rglob("*")]:
                _fsync(path)
        partial.rename(target)
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
        raise
    if sync:
        _fsync(target.parent)  # a rename is on disk only once its folder is


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
