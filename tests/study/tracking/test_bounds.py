"""The outbox is bounded, and a full disk loses nothing."""

import subprocess
import time
from pathlib import Path

import pytest

from study.core.paths import Home
from study.tracking.sender import OUTBOX_LIMIT
from tests.study.tracking.conftest import entry, opened, put_all


@pytest.fixture
def small(tmp_path: Path):
    """A disk of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk needs root and mount: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_loses_nothing(small, study, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    home = Home(small)
    tracking = opened(home, study)
    assert not tracking.full
    ballast = small / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(3_000_000))
    put_all(tracking, study)
    assert tracking.full
    assert "No space left on device. Finished runs stay in memory" in caplog.text
    while tracking.trouble is None:
        time.sleep(0.05)
    assert "No space left" in tracking.trouble
    ballast.unlink()
    assert tracking.close(30) == 0
    assert sorted(tracking.records) == sorted(run.key for run in study.runs())


def test_a_disk_that_the_outbox_itself_fills_is_freed(small, study, tmp_path, monkeypatch):
    """The run in memory was written to the disk first, which failed before anything was sent."""
    store, away = tmp_path / "mlflow.db", tmp_path / "away.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    (tmp_path / "artifacts").mkdir()
    (small / "artifacts").symlink_to(tmp_path / "artifacts")
    tracking = opened(Home(small), study)
    store.rename(away)
    for run in study.runs()[:3]:
        tracking.put(entry(run), bytes(900_000))
    assert len(tracking._sender._unwritten) == 1
    away.rename(store)
    assert tracking.close(10) == 0
    assert len(tracking.records) == 3


def test_a_full_outbox_holds_new_runs_back(home, study):
    tracking = opened(home, study)
    tracking.close(20)
    for number in range(OUTBOX_LIMIT):
        assert not tracking.full
        (tracking.outbox.folder / f"{number:012x}").mkdir()
    assert tracking.full


def test_a_failed_put_leaves_nothing_behind(small, study):
    from study.tracking.outbox import Outbox

    box = Outbox(small / "outbox")
    with pytest.raises(OSError, match="No space"):
        box.put(entry(study.runs()[0]), bytes(3_000_000))
    assert list(box.folder.iterdir()) == []
    box.put(entry(study.runs()[0]), bytes(1_000))
    assert box.keys() == [study.runs()[0].key]
