"""A user's own module works like a built-in one; where it fails, other cells go on."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ALIKE
from tests.needs import ROOT

pytestmark = pytest.mark.slow
DOC = ROOT / "docs" / "own_technique.md"

BROKEN = '''
from study import Technique


class Broken(Technique):
    """Fails in every run."""

    def prepare(self, state):
        raise RuntimeError("no such layer")
'''


def study(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **ALIKE, "STUDY_HOME": str(folder / "home")}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [str(Path(sys.executable).parent / "study"), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


@pytest.fixture
def folder(tmp_path: Path, bench) -> Path:
    """The files that the documentation shows, with the tiny model and a CSV of word pairs."""
    import pandas as pd

    for block in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOC.read_text(), re.DOTALL):
        (tmp_path / block[0]).write_text(block[1])
    for split in ("train", "dev", "test"):
        rows = [json.loads(line) for line in (bench.folder / "task" / f"{split}.jsonl").open()]
        table = {"sentence": [r["text"] for r in rows], "gold": [r["label"] for r in rows]}
        pd.DataFrame(table).to_csv(tmp_path / f"{split}.csv", index=False)
    (tmp_path / "my_broken.py").write_text(BROKEN)
    text = (tmp_path / "my_study.py").read_text()
    model = f'Model(name="tiny", checkpoint={str(bench.folder / "model")!r})'
    text = text.replace("models=[MINILM]", f"models=[{model}]").replace("range(10)", "range(4)")
    text = text.replace("from study.models import MINILM", "from study.models.model import Model")
    text = text.replace("epochs=5", "epochs=1").replace("techniques=[", "techniques=[Broken(), ")
    (tmp_path / "my_study.py").write_text("from my_broken import Broken\n" + text)
    return tmp_path


def test_the_documented_example_runs_and_a_broken_technique_is_paused(folder):
    done = study(folder, "run", "my_study.py")
    assert done.returncode == 1, done.stderr
    assert "paused mine/tiny/Broken" in done.stderr
    assert "RuntimeError: no such layer" in done.stderr
    shown = json.loads(study(folder, "status", "own_technique", "--json").stdout)
    missing = {row["configuration"]: row["missing"] for row in shown}
    assert missing == {
        "Standard": 0,
        "HeadDecay": 0,
        "LayerwiseDecay(0.9) + HeadDecay": 0,
        "Broken": 4,
    }
    assert {row["metric"] for row in shown} == {"share_correct"}


def test_a_run_with_own_code_is_exported_from_its_file_alone(folder):
    assert study(folder, "run", "my_study.py", "--only", "technique=HeadDecay").returncode == 0
    from analysis import load_runs

    frame = load_runs("own_technique", f"sqlite:///{folder / 'home' / 'mlflow.db'}")
    key = frame.query("technique == 'HeadDecay'")["key"].iloc[0]
    refused = study(folder, "export", key, "--out", "model")
    assert refused.returncode == 2
    assert "my_techniques:HeadDecay" in refused.stderr
    made = study(folder, "export", key, "--out", "model", "--file", "my_study.py")
    assert made.returncode == 0, made.stderr
    assert "identical to the study's run" in made.stdout
