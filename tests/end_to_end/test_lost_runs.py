"""Runs that crash their worker, hang, or run out of memory are retried, with the same scores.

What needs several hosts is in `tests/faults/campaign.py`.
"""

import re
import shutil
from pathlib import Path

import pytest

from tests.end_to_end.conftest import scores, tracked

pytestmark = pytest.mark.slow
TRAPPED = Path(__file__).resolve().parents[1] / "faults" / "trapped.py"
TECHNIQUES = ["Standard()", "Trapped()"]


@pytest.fixture
def trapped(bench, monkeypatch, tmp_path):
    """A study of two techniques, one of which fails where a trap lies."""
    shutil.copy(TRAPPED, bench.folder)
    path = bench.write(techniques=TECHNIQUES, seeds="range(3)")
    text = path.read_text().replace("import BiasedAdam", "import Budget, BiasedAdam", 1)
    path.write_text("from trapped import Trapped\n" + text)
    monkeypatch.setenv("TRAPS", str(tmp_path / "traps"))
    for name in ("traps", "sprung"):
        (tmp_path / name).mkdir()
    return path


def test_crash_hang_and_out_of_memory(bench, trapped, tmp_path):
    quiet = bench.start(tmp_path / "quiet", "--workers", "1")
    assert quiet.finish() == 0, quiet.said()
    trapped.write_text(trapped.read_text().replace("seeds=", "hang_minutes=0.5,\n    seeds="))
    traps = ("crash", "hang", "memory")
    for trap in traps:
        (tmp_path / "traps" / trap).touch()
    driver = bench.start(tmp_path / "home")
    assert driver.finish(300) == 0, driver.said()
    assert sorted(path.name for path in (tmp_path / "sprung").iterdir()) == sorted(traps)
    told = re.search(r", 3 retried \((.*)\)", driver.said())
    assert told, driver.said()
    assert sorted(told[1].split(", ")) == ["1 hang", "1 memory", "1 process"]
    keys = tracked(driver.home)
    assert len(keys) == len(set(keys)) == 6
    assert scores(driver.home) == scores(tmp_path / "quiet")
    left = driver.home / "studies" / "kills"
    assert list(left.glob("hangs/*")) == []


def test_a_budget_ends_a_study_that_resumes(bench, trapped, tmp_path):
    whole = trapped.read_text().replace("range(3)", "range(150)")
    budget = f"budget=Budget(hours={45 / 3600}),\n    seeds="
    trapped.write_text(whole.replace("seeds=", budget))
    driver = bench.start(tmp_path / "home", "--workers", "1")
    assert driver.finish() == 1, driver.said()
    assert re.search(
        r"no further runs were started: its budget of 0.0\d+ hours is spent", driver.said()
    )
    assert "Traceback" not in driver.said()
    done = tracked(driver.home)
    assert 1 <= len(done) < 300
    dry = bench.start(tmp_path / "home", "--dry-run")
    assert dry.finish() == 0
    assert f"{len(done)} done, {300 - len(done)} new" in dry.said()
