"""What is said of runs that an earlier version made before a correction changed their results."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.frames.load import load_finished, load_runs
from study.cli.parser import run_command
from study.core.paths import default_home
from study.core.spec import digest
from study.models.loading import padding_corrected
from study.models.model import Model
from study.planning.study import Study
from study.planning.study_file import load_study, valid_study
from study.tasks.kinds import KINDS
from study.testing import tiny_task
from tests.families import CONFIGS, DECODERS, family_model
from tests.study.tracking.conftest import entry, opened

STUDY = """\
from study import FreezeLower, Recipe, Standard, Study, Task
from study.models import Model

FILES = {{split: f"{{split}}.jsonl" for split in ("train", "dev", "test")}}
STUDY = Study(
    name="decoders",
    tasks=[Task(name="pairs", text_pair="text_pair", **FILES)],
    models=[Model(name=name, checkpoint={folder!r} + "/" + name) for name in {names}],
    techniques=[Standard(), FreezeLower(layers=1)],
    recipe=Recipe(epochs=1, max_length=32),
    seeds=range(2),
    data={folder!r} + "/task",
)
"""

PREDICTIONS = pd.DataFrame(
    {"split": ["dev", "test"], "id": ["a", "b"], "label": ["no", "yes"], "logit_no": 0.1}
).assign(logit_yes=0.2)


def stating(folder: Path, padding: int | None) -> Model:
    """A decoder whose tokenizer pads with 1, and whose configuration states another id."""
    model = family_model("llama", folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"pad_token_id": padding}))
    return model.replace(name=folder.name)


@pytest.fixture
def file(tmp_path, monkeypatch, home) -> Path:
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    tiny_task(tmp_path / "task", rows=8)
    stating(tmp_path / "zero", 0)
    stating(tmp_path / "agreeing", 1)
    path = tmp_path / "decoders.py"
    path.write_text(STUDY.format(folder=str(tmp_path), names=["zero", "agreeing"]))
    return path


def the_study(file: Path) -> Study:
    return valid_study(load_study(file))


def as_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the store that a version before the correction left."""
    with monkeypatch.context() as earlier:
        earlier.setattr("study.planning.runs.padding_corrected", lambda model, kind: False)
        write_runs(file)


def write_runs(file: Path) -> None:
    study = the_study(file)
    tracking = opened(default_home(), study, str(file))
    for run in study.runs():
        tracking.put(entry(run), PREDICTIONS.to_parquet())
    assert tracking.close(30) == 0


def test_only_the_keys_of_affected_cells_change(file):
    for cell in the_study(file).cells():
        identity = dict(cell.identity)
        if cell.model.name == "zero":
            assert identity.pop("correction") == "padding"
            assert cell.former_key == digest(identity) != cell.key
        else:
            assert cell.former_key is None
        assert sorted(identity) == ["model", "recipe", "task", "technique"]


@pytest.mark.parametrize(
    ("stated", "affected"), [(None, False), (1, False), (0, True), (-1, True), (7, True)]
)
def test_decoders_that_were_read_at_padding(stated, affected, tmp_path):
    model = stating(tmp_path / "model", stated)
    for name, kind in KINDS.items():
        pooled = name in ("classification", "regression", "multilabel")
        assert padding_corrected(model, kind) == (affected and pooled), name


@pytest.mark.parametrize("family", [name for name in CONFIGS if name not in DECODERS])
def test_other_families_keep_their_keys(family, tmp_path):
    model = family_model(family, tmp_path / "model")
    for padding in (0, -1, 3):
        file = tmp_path / "model" / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token_id": padding}))
        assert not padding_corrected(model.replace(name=f"m{padding}"), KINDS["classification"])


def test_what_left_the_file_is_named_before_anything_starts(file, capsys):
    write_runs(file)
    text = file.read_text()
    file.write_text(text.replace("['zero', 'agreeing']", "['agreeing']").replace("range(2)", "[0]"))
    capsys.readouterr()
    assert run_command(["run", str(file), "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "study decoders: 2 done, 0 new" in said
    assert (
        "6 runs are no longer in the file, and kept in MLflow: pairs/agreeing/FreezeLower(1) (1), "
        "pairs/agreeing/Standard (1), pairs/zero/FreezeLower(1) (2), pairs/zero/Standard (2)\n"
    ) in said


NOTE = "2 cells were made before a correction to the padding of decoders: pairs/zero/Standard, "


@pytest.mark.parametrize(
    "words",
    [["run", "FILE", "--dry-run"], ["plan", "FILE"], ["status", "FILE"], ["report", "FILE"]],
)
def test_what_an_older_store_holds_is_said(words, file, capsys, monkeypatch):
    as_before(file, monkeypatch)
    assert run_command([str(file) if word == "FILE" else word for word in words]) == 0
    assert NOTE in capsys.readouterr().err
    if words[0] == "report":
        page = default_home().study("decoders") / "report" / "report.html"
        assert NOTE in page.read_text("utf-8")


@pytest.mark.parametrize("command", ["status", "report"])
def test_the_study_file_runs_once(command, file, capsys, monkeypatch):
    as_before(file, monkeypatch)
    file.write_text(file.read_text() + "\nprint('the file ran')\n")
    assert run_command([command, str(file)]) == 0
    assert capsys.readouterr().out.count("the file ran") == 1


def test_nothing_is_said_once_they_ran_again(file, capsys, monkeypatch):
    as_before(file, monkeypatch)
    write_runs(file)
    for words in (["run", str(file), "--dry-run"], ["status", str(file)]):
        assert run_command(words) == 0
        said = capsys.readouterr().err
        assert "correction" not in said
    assert len(load_runs("decoders")) == 8
    assert len(load_finished("decoders")) == 12  # the four earlier runs are kept


def test_nothing_is_said_where_nothing_was_corrected(file, capsys, monkeypatch):
    file.write_text(file.read_text().replace("'zero', ", ""))
    as_before(file, monkeypatch)
    for words in (["run", str(file), "--dry-run"], ["plan", str(file)], ["status", str(file)]):
        assert run_command(words) == 0
        assert "correction" not in capsys.readouterr().err


def test_an_earlier_run_is_not_trained_again_under_another_key(file, capsys, monkeypatch, tmp_path):
    as_before(file, monkeypatch)
    former = {cell.former_key for cell in the_study(file).cells()}
    done = load_finished("decoders")
    old = done.loc[done["cell"].isin(former), "key"].iloc[0]
    assert run_command(["export", old, "--out", str(tmp_path / "out")]) == 2
    assert "1 cell was made before a correction to the padding" in capsys.readouterr().err
