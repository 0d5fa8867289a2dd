"""A study of what is forgotten, from its file to MLflow, the report and a recommendation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import load_predictions, load_retained, load_runs, retained
from tests.generating import answering_task, decoder

pytestmark = pytest.mark.slow

FILE = """\
from study import FreezeLower, Model, Recipe, Standard, Study, Task, main

ROWS = {folder!r} + "/rows/"
OTHER = ROWS + "dev.jsonl"
STUDY = Study(
    name="forgets",
    tasks=[
        Task(
            name="answers",
            kind="generation",
            metric="token_f1",
            **{{split: ROWS + split + ".jsonl" for split in ("train", "dev", "test")}},
        )
    ],
    models=[Model(name="tiny", checkpoint={folder!r} + "/model", family="llama")],
    recipe=Recipe(lr=1e-2, steps=80, batch_size=8, max_length=16, schedule="cosine"),
    techniques=[Standard(), FreezeLower(layers=1)],
    seeds=range(2),
    retains=[
        Task(name="text", kind="generation", metric="perplexity", test=OTHER),
        Task(name="words", kind="generation", metric="perplexity", end=False, test=OTHER),
    ],
)

if __name__ == "__main__":
    main(STUDY)
"""


def test_what_is_forgotten_reaches_every_place(tmp_path):
    decoder(tmp_path / "model", tied=True)
    answering_task(tmp_path / "rows")
    (tmp_path / "forgets.py").write_text(FILE.format(folder=str(tmp_path)))
    home = tmp_path / "home"
    environment = {**os.environ, "STUDY_HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = str(Path(sys.executable).parent / "study")

    def study(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [command, *words], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "16 test rows, scored before and after training" in study("plan", "forgets.py")
    study("run", "forgets.py")
    uri = f"sqlite:///{home / 'mlflow.db'}"
    runs, skills = load_runs("forgets", uri), load_retained("forgets", uri)
    assert (runs["outcome"] == "completed").all()
    assert len(skills) == 4 * 2
    assert skills.groupby("skill")["before"].nunique().tolist() == [1, 1]
    # Measured once by each worker at most, and kept by content.
    assert len(list((home / "studies" / "forgets" / "untouched").iterdir())) == 2
    least_of = skills.groupby("key")["retained"].min()
    assert runs.set_index("key")["retained"].to_dict() == pytest.approx(least_of.to_dict())
    assert len(retained(skills)) == 2 * 2
    predictions = load_predictions("forgets", uri)
    assert (predictions["answer"].str.len() > 0).any()

    study("report", "forgets")
    page = (home / "studies" / "forgets" / "report" / "report.html").read_text()
    assert "Skills retained" in page
    assert "retained of the skill that lost most, %" in page  # the picture
    assert "retained of the skill that lost most" in study("recommend", "forgets")
    assert "beyond the limit" not in study("recommend", "forgets", "--keep", "0.01")
    assert "95 is not a share" in study("recommend", "forgets", "--keep", "95", code=2).replace(
        "'", ""
    )
    # A study without what is measured is another one: its runs have other keys.
    file = tmp_path / "forgets.py"
    file.write_text(file.read_text().replace("    retains=[", "    retains=[][:0] and ["))
    assert "4 to run" in study("plan", "forgets.py").replace("(4 of 4 to run)", "(4 to run)")
