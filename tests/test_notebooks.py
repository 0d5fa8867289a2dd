"""The notebooks run from top to bottom on studies of the names they read."""

import json
import re
import subprocess
from pathlib import Path

import nbclient
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from analysis import load_runs
from analysis.frames.load import find_run
from study import BiasedAdam, Recipe, Seeds, Standard, Study, Task
from study.core.paths import Home
from study.models.loading import Loaded
from study.training.prepare import prepare
from study.training.train import train
from tests.conftest import CPU
from tests.needs import ROOT, files

OWN = """
from study.techniques.base import Technique


class Plain(Technique):
    \"\"\"Changes nothing. Source: none.\"\"\"
"""
CELL = """
from mine import Plain
from study import Model, Recipe, Study, Task, run
from study.execution.cluster import own_modules
from study.planning.study_file import folder_of, started

study = Study(
    name="noted",
    tasks=[{task!r}],
    models=[Model(name="tiny", checkpoint={checkpoint!r})],
    recipe=Recipe(lr=1e-2, epochs=1, batch_size=8),
    techniques=[Plain()],
    seeds=[0],
)
assert run(study, workers=1)
print("modules", own_modules([], folder_of(started())))
"""


def write_runs(home: Home, study: Study) -> None:
    """Train the runs of a study of one task and model, and put them into its store."""
    from study.tracking.entry import entry_of
    from study.tracking.writer import TrackingWriter
    from study.training.result import packed

    data, model = study.tasks[0].load(), study.models[0]
    loaded = Loaded(model, data.kind)
    prepared = prepare(data, loaded.processor, study.recipe.max_length)
    tracking = TrackingWriter(home, study, Path(f"{study.name}.py"))
    for run in study.runs():
        outcome, _ = train(run.setting(prepared.kind), prepared.splits, loaded, CPU)
        result = packed(outcome, prepared, started=0.0, ended=1.0)
        tracking.put(entry_of(run, result, faults=()), result.predictions)
    assert tracking.close(30) == 0


@pytest.fixture
def studies(home, monkeypatch, task, model) -> None:
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    shared = {"tasks": [task], "models": [model]}
    shared["recipe"] = Recipe(lr=1e-2, epochs=2, batch_size=8, max_length=32)
    crossed = Seeds(head=range(3), order=range(3), noise=[0])
    two = [Standard(), BiasedAdam()]
    write_runs(home, Study(name="quickstart", techniques=two, seeds=range(5), **shared))
    write_runs(
        home, Study(name="variance-sources", techniques=[Standard()], seeds=crossed, **shared)
    )


@pytest.mark.parametrize("path", files("notebooks/*.ipynb"), ids=lambda path: path.stem)
def test_notebook_runs(path, studies):
    execute(path)


def execute(path: Path, study: str = "") -> None:
    """Run a notebook, on another study than the one it names."""
    notebook = nbformat.read(path, as_version=4)
    if study:
        for cell in notebook.cells:
            cell.source = re.sub(
                '^STUDY = "[a-z-]+"', f'STUDY = "{study}"', cell.source, flags=re.M
            )
    nbclient.NotebookClient(notebook, timeout=300).execute()


def test_a_study_of_ones_own_is_looked_at(home, monkeypatch, tmp_path, model):
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    row = {"tokens": ["w1", "w2", "w3"], "tags": ["B-X", "O", "O"]}
    for split in ("train", "dev", "test"):
        rows = [json.dumps(row | {"id": f"{split}{i}"}) for i in range(16)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "dev", "test")}
    columns = {"text": "tokens", "label": "tags", "labels": ("O", "B-X", "I-X")}
    task = Task(name="tags", kind="tagging", metric="entity_f1", **columns, **files)
    recipe = Recipe(lr=1e-2, epochs=1, batch_size=8, max_length=32)
    study = Study(
        name="mine",
        tasks=[task],
        models=[model],
        techniques=[Standard()],
        recipe=recipe,
        seeds=range(2),
    )
    write_runs(home, study)
    execute(ROOT / "notebooks" / "first_look.ipynb", "mine")
    with pytest.raises(
        CellExecutionError, match="mine has no crossed seeds, so variance cannot be"
    ):
        execute(ROOT / "notebooks" / "variance_sources.ipynb", "mine")


@pytest.mark.parametrize("path", files("notebooks/*.ipynb"), ids=lambda path: path.stem)
def test_notebook_is_committed_with_its_output(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 1
    assert not any(o.output_type == "error" for cell in cells for o in cell.outputs)


def test_the_page_on_reading_a_study_runs(studies, tmp_path, monkeypatch, capsys):
    """Its block, as it is shown."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "analysis.md").read_text()
    block = page.split("```python\n")[1].split("```")[0]
    exec(block, {})
    assert "Agreement between seeds" in capsys.readouterr().out
    assert Path("cells.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_a_study_run_in_a_notebook_is_of_its_folder(tmp_path, monkeypatch, task, model):
    """Commit, source and own modules were those of the kernel's launcher."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "analysis of mine"
    folder.mkdir()
    (folder / "mine.py").write_text(OWN)
    commit = ["-c", "user.name=me", "-c", "user.email=me@host", "commit", "-qm", "mine"]
    for words in (["init", "-q"], ["add", "mine.py"], commit):
        subprocess.run(["git", *words], cwd=folder, check=True)
    head = ["git", "rev-parse", "HEAD"]
    made = subprocess.run(head, cwd=folder, check=True, capture_output=True, text=True).stdout
    study = CELL.format(checkpoint=model.checkpoint, task=task)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(study)])
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    said = "".join(output.get("text", "") for output in notebook.cells[0].outputs)
    assert f"modules {[str(folder / 'mine.py')]}" in said
    assert "ipykernel" not in said
    found = load_runs("noted", f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")
    assert list(found["outcome"]) == ["completed"]
    assert list(found["commit"]) == [made[:12]]
    tags = find_run(found["key"][0], f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")["tags"]
    assert not any("ipykernel" in value for value in tags.values())
