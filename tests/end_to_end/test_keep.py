"""A study that keeps the best model of each cell on dev, and exports it unchanged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from analysis import load_runs

pytestmark = pytest.mark.slow


def test_the_best_model_of_each_cell_is_kept_and_exported(bench, tmp_path):
    file = bench.write(["Standard()", "BiasedAdam()"], seeds="range(3)", epochs=2)
    text = file.read_text().replace("    seeds=", '    keep="best",\n    seeds=')
    file.write_text(text)
    home = tmp_path / "home"
    assert bench.start(home).finish() == 0
    runs = load_runs("kills", f"sqlite:///{home / 'mlflow.db'}")
    models = home / "studies" / "kills" / "models"
    kept = {path.name for path in models.iterdir()}
    assert len(kept) == 2
    for _, cell in runs.groupby("configuration"):
        best = cell[cell["dev"] == cell["dev"].max()]["key"].min()
        assert best in kept

    key = sorted(kept)[0]
    command = [str(Path(sys.executable).parent / "study"), "export", key, "--out", "given"]
    environment = {**os.environ, "STUDY_HOME": str(home)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert "kept by the study" in done.stdout
    about = json.loads((tmp_path / "given" / "run.json").read_text())
    assert about["key"] == key
    transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "given")
