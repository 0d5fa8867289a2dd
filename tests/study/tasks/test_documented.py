"""The examples of docs/tasks.md: every file is read and every kind of task can be encoded."""

import re
from pathlib import Path

import pytest
from PIL import Image

from study import Task
from study.models.model import Model
from study.tasks.kinds import KINDS
from study.training.prepare import prepare_once
from tests.generating import decoder
from tests.needs import ROOT

PAGE = (ROOT / "docs" / "tasks.md").read_text()
FILES = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
CODE = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
COPIES = 10  # of the shown rows, so that five folds have rows of each


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Task]:
    """The page's tasks, with its files in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        header, body = "", content
        if name.endswith((".csv", ".tsv")):
            header, _, body = content.partition("\n")
            header += "\n"
        if name == "papers.csv":  # five folds need five journals
            body = "".join(body.replace(",A", f",{n}").replace(",B", f",{n}") for n in range(5))
        end = "\n" if name.endswith(".conll") else ""
        Path(name).write_text(header + (body + end) * COPIES)
    for number in range(1, 6):
        for animal in ("cat", "dog"):
            file = Path("photos", animal, f"{number}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(file)
    scope: dict[str, object] = {}
    exec(CODE, scope)
    return {name: value for name, value in scope.items() if isinstance(value, Task)}


def test_there_is_an_example_of_each_kind(examples):
    own = {name: task for name, task in examples.items() if name.islower()}
    assert {task.kind for task in own.values()} == set(KINDS)
    sources = {task.train or task.test for task in own.values()}
    assert sources == {*FILES, "photos", "pairs.csv"}


@pytest.mark.parametrize(
    ("name", "text", "gold"),
    [
        ("reviews", "A fine film, and long", 1),
        ("similar", "A man is walking", 80.0),
        ("papers", "Mice without the gene live longer", [1, 1, 0]),
        ("genes", ["BRCA1", "is", "mutated"], ["B-Gene", "O", "O"]),
        ("questions", "Who sat?", (("cat", 2),)),
        ("capitals", "What is the capital of Peru?", ("Lima",)),
        ("manners", "You are most", ("welcome",)),
    ],
)
def test_examples_are_read_and_encoded(examples, model: Model, name, text, gold, tmp_path):
    data = examples[name].load()
    train = next(iter(data.splits.values()))
    found = train.gold[train.text.index(text)]
    assert (found.tolist() if hasattr(found, "tolist") else found) == gold
    if data.kind.pretrained_head:
        model = decoder(tmp_path / "decoder", tied=True)
    prepared = prepare_once(data, model, 64, None)
    assert {split: made.rows for split, made in prepared.splits.items()} == {
        split: len(rows.ids) for split, rows in data.splits.items()
    }


def test_the_folder_of_images(examples):
    data = examples["photos"].load()
    assert data.kind.labels == ("cat", "dog")
    assert sum(len(split.ids) for split in data.splits.values()) == 10
