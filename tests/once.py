"""What all workers of pytest-xdist use, made once by one of them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder filled by `make`, once for all workers of pytest-xdist.

    Args:
        factory: Has the folder of this worker, which lies in that of all.
        name: Of the folder.
        make: Fills the empty folder it is given; where it fails, the next worker tries again.
    """
    common = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    folder, made = common / name, common / f"{name}.made"
    with FileLock(common / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite store to copy; MLflow takes two seconds to create one."""

    def make(folder: Path) -> None:
        from study.tracking.store import Store  # loads MLflow

        Store(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")

    return once(tmp_path_factory, "empty-store", make) / "mlflow.db"
