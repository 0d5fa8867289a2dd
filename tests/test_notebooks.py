"""The notebooks run from top to bottom on studies of the names they read."""

from pathlib import Path

import pytest

from study import BiasedAdam, Recipe, Seeds, Standard, Study
from study.core.paths import Home
from study.training.train import train
from tests.conftest import CPU

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


@pytest.fixture
def home(tmp_path, monkeypatch, task, model, prepared, loaded) -> Home:
    from study.tracking.entry import entry_of
    from study.tracking.writer import TrackingWriter
    from study.training.result import packed

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    home = Home(tmp_path / "home")
    shared = {"tasks": [task], "models": [model]}
    shared["recipe"] = Recipe(lr=1e-2, epochs=2, batch_size=8)
    crossed = Seeds(head=range(3), order=range(3), noise=[0])
    for study in (
        Study(name="quickstart", techniques=[Standard(), BiasedAdam()], seeds=range(5), **shared),
        Study(name="variance-sources", techniques=[Standard()], seeds=crossed, **shared),
    ):
        tracking = TrackingWriter(home, study, f"{study.name}.py")
        for run in study.runs():
            outcome, _ = train(run.setting(prepared.kind), prepared.splits, loaded, CPU)
            result = packed(outcome, prepared, started=0.0, ended=1.0)
            tracking.put(entry_of(run, result, faults={}), result.predictions)
        assert tracking.close(30) == 0
    return home


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs(path, home):
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300).execute()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_is_committed_with_its_output(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 1
    assert not any(o.output_type == "error" for cell in cells for o in cell.outputs)


def test_the_page_on_reading_a_study_runs(home, tmp_path, monkeypatch, capsys):
    """Its block, as it is shown."""
    monkeypatch.chdir(tmp_path)
    page = (FOLDER.parent / "docs" / "analysis.md").read_text()
    block = page.split("```python\n")[1].split("```")[0]
    exec(block, {})
    assert "Do seeds agree?" in capsys.readouterr().out
    assert Path("cells.svg").read_text().startswith("<svg")
