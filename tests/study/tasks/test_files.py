"""Files as people have them: separators, column files, image folders, places, and columns."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from study import ByGroup, ByTime, KFold, Recipe, Standard, Study, Task
from study.cli.parser import run_command
from study.core.spec import SpecError
from study.planning.notes import notes
from study.planning.preflight import problems
from study.tasks.guess import guess
from study.tasks.reading import read_records
from tests import needs

SPLITS = ("train", "dev", "test")
TAGS = {"kind": "tagging", "metric": "entity_f1"}


def task_of(folder: Path, content: str | bytes, ending: str, **fields: Any) -> Task:
    """A task whose three splits have the same content."""
    folder.mkdir(exist_ok=True)
    for split in SPLITS:
        raw = content.encode() if isinstance(content, str) else content
        (folder / f"{split}.{ending}").write_bytes(raw)
    files = {split: f"{split}.{ending}" for split in SPLITS}
    return Task(**{"name": "mine", "folder": str(folder), **files, **fields})


def mistakes_of(task: Task) -> list[str]:
    with pytest.raises(SpecError) as caught:
        task.load()
    return [str(mistake).replace(f"{task.folder}/", "") for mistake in caught.value.mistakes]


# --- columns ----------------------------------------------------------------------------------

COLUMNS = "uid,text,label,second,day\n1,a,x,b,2024-01-01\n2,c,y,d,2024-01-02\n"
HAS = "It has uid, text, label, second, day; name one of them in"


@pytest.mark.parametrize(
    ("field", "value", "near"),
    [
        ("text", "txt", "text"),
        ("text_pair", "secnd", "second"),
        ("label", "lable", "label"),
        ("id", "uidd", "uid"),
    ],
)
def test_a_misspelt_column_is_told_with_those_of_the_file(tmp_path, field, value, near):
    """A misspelt `id` used to number the rows silently."""
    task = task_of(tmp_path, COLUMNS, "csv", **{field: value})
    assert mistakes_of(task) == [
        f"{split}.csv, column {value!r}: no such column. Did you mean {near!r}? {HAS} `{field}`."
        for split in SPLITS
    ]


def test_a_misspelt_column_of_a_split(tmp_path):
    (tmp_path / "train.csv").write_text(COLUMNS)
    for split in (ByTime(column="dya"), ByGroup(column="dya", folds=3)):
        task = Task(name="mine", train="train.csv", split=split, folder=str(tmp_path))
        assert mistakes_of(task) == [
            f"train.csv, column 'dya': no such column. Did you mean 'day'? {HAS} `split`."
        ]


def test_names_that_are_like_no_column(tmp_path):
    task = task_of(tmp_path, "sentence,category\na,x\nb,y\n", "csv")
    assert mistakes_of(task)[:2] == [
        "train.csv, column 'text': no such column. It has sentence, category; name one of them in "
        "`text`.",
        "train.csv, column 'label': no such column. It has sentence, category; name one of them in "
        "`label`.",
    ]


def test_repeated_ids_are_one_mistake_with_its_cure(tmp_path):
    """It was one for each of ten rows."""
    rows = "".join(f"{n % 2},t{n},{'xy'[n % 2]}\n" for n in range(6))
    task = task_of(tmp_path, f"id,text,label\n{rows}", "csv")
    (mistake,) = mistakes_of(task)
    assert mistake == (
        "train.csv, row 3 repeats the id '0' of train.csv, row 1, and 15 more rows repeat one. "
        "Remove rows that are the same example; else id=None on the task numbers the rows."
    )
    assert task.replace(id=None).load().splits["dev"].ids == [f"dev-{n}" for n in range(1, 7)]


# --- separators -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "tsv", "txt", "TSV", "txt.gz"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_header_says_what_separates_columns(tmp_path, ending, separator):
    """Texts have all three signs, quoted where they separate."""
    texts = ["a, b; c\td", 'say "d"', "e"]
    quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
    lines = ["note", "text", "label"], *(["", q, "xyx"[n]] for n, q in enumerate(quoted))
    content = "\n".join(separator.join(line) for line in lines)
    raw = gzip.compress(content.encode()) if ending.endswith("gz") else content
    train = task_of(tmp_path, raw, ending).load().splits["train"]
    assert (train.text, train.gold.tolist()) == (texts, [0, 1, 0])


@pytest.mark.parametrize(
    "texts", [['"no end', "b"], ['"Well" she said', "b"], ['"no end', 'on its own"'], ['"', '"']]
)
def test_quotes_in_tabbed_files_that_do_not_quote(tmp_path, texts):
    """As in GLUE's: read as quotes of cells, they would join rows or go missing."""
    content = "text\tlabel\n" + "".join(f"{text}\t{n}\n" for n, text in enumerate(texts))
    train = task_of(tmp_path, content, "tsv").load().splits["train"]
    assert (train.text, train.gold.tolist()) == (texts, [0, 1])


def test_a_header_without_the_columns_is_read_in_its_most_likely_form(tmp_path):
    assert mistakes_of(task_of(tmp_path, "text;lable\na, b, c;x\n", "csv"))[0] == (
        "train.csv, column 'label': no such column. Did you mean 'lable'? It has text, lable; name "
        "one of them in `label`."
    )


def test_a_decimal_comma_is_told(tmp_path):
    task = task_of(tmp_path, "text;label\na;0,5\nb;1\n", "csv", kind="regression", metric="mse")
    assert mistakes_of(task)[0] == (
        "train.csv, row 1, label: '0,5' is not a number. Write a decimal point."
    )


def test_rows_with_a_separator_too_many(tmp_path):
    assert mistakes_of(task_of(tmp_path, "text;label\na;x;\n", "csv"))[0] == (
        "train.csv is not a table in UTF-8 CSV: Expected 2 fields in line 2, saw 3. Each row needs "
        "as many fields as the first; a semicolon at its end is one more."
    )


# --- column files -----------------------------------------------------------------------------

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP B-ORG
rejects VBZ I-VP O
# CD I-NP O

# text = Peter Blackburn
Peter NNP I-NP B-PER
Blackburn NNP I-NP I-PER

"""


@pytest.mark.parametrize("ending", ["conll", "bio", "conll.gz"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_column_files_by_hand(tmp_path, ending, separator):
    content = CONLL.replace(" ", separator) if separator == "\t" else CONLL
    raw = gzip.compress(content.encode()) if ending.endswith("gz") else content
    data = task_of(tmp_path, raw, ending, **TAGS).load()
    train = data.splits["train"]
    assert train.text == [["EU", "rejects", "#"], ["Peter", "Blackburn"]]
    assert train.gold == [["B-ORG", "O", "O"], ["B-PER", "I-PER"]]
    assert train.ids == ["train-3", "train-8"]  # lines
    assert data.kind.labels == ("O", "B-ORG", "B-PER", "I-PER")


def test_a_real_column_file_gives_the_rows_that_it_was_made_of(tmp_path):
    source = needs.shared("data", "bc2gm") / "dev.jsonl.gz"
    lines = gzip.decompress(source.read_bytes()).decode().splitlines()[:200]
    rows = [json.loads(line) for line in lines]
    sentences = [zip(row["tokens"], row["tags"], strict=True) for row in rows]
    content = "\n".join("".join(f"{w}\t{t}\n" for w, t in sentence) for sentence in sentences)
    train = task_of(tmp_path, content, "conll", **TAGS).load().splits["train"]
    assert train.text == [row["tokens"] for row in rows]
    assert train.gold == [row["tags"] for row in rows]


def test_iob1_is_left_as_it_is_written(tmp_path):
    """`entity_f1` reads it: an I- that follows no tag of its class begins an entity."""
    content = "EU I-ORG\nsays O\n\nA I-ORG\nB B-ORG\n"
    task = task_of(tmp_path, content, "conll", **TAGS)
    assert task.load().splits["train"].gold == [["I-ORG", "O"], ["I-ORG", "B-ORG"]]
    (mistake, *_) = mistakes_of(task.replace(metric="entity_f1_strict"))
    assert "'I-ORG' begins an entity" in mistake


def test_lines_of_a_column_file_that_cannot_be_read(tmp_path):
    content = b"EU NNP B-ORG\nrejects O\na\tb\n\nPeter\n\tNNP\tO\nis VBZ O\n" + b"\xff O O\n"
    assert mistakes_of(task_of(tmp_path, content, "conll", **TAGS))[:5] == [
        "train.conll, row 8 is not UTF-8: invalid start byte at byte 1.",
        "train.conll, row 2 has 2 columns, and most lines 3; write the same columns in every line.",
        "train.conll, row 3 has 2 columns, and most lines 3; write the same columns in every line.",
        "train.conll, row 5 has only 'Peter'; write a word, its tag last, and a tab or space "
        "between them.",
        "train.conll, row 6 has no word in the first column.",
    ]
    assert mistakes_of(task_of(tmp_path, "# a\n# b\n", "conll", **TAGS))[0] == (
        "train.conll has no rows."
    )


# --- images -----------------------------------------------------------------------------------

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}
IMAGES = {"kind": "image", "metric": "accuracy"}


def picture(colour: str, size: int = 4, form: str = "PNG") -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (size, size), COLOURS[colour]).save(made, form)
    return made.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three images of each of two classes in `train`, `dev` and `test`, of different sizes."""
    for number, split in enumerate(SPLITS):
        for colour in COLOURS:
            folder = tmp_path / split / colour
            folder.mkdir(parents=True)
            for copy in range(3):
                (folder / f"{copy}.png").write_bytes(picture(colour, 4 + 3 * number + copy))
    (tmp_path / "train" / ".DS_Store").touch()
    return tmp_path


def image_task(folder: Path, **fields: Any) -> Task:
    given = {"name": "pictures", "folder": str(folder), **IMAGES}
    return Task(**{**given, **dict(zip(SPLITS, SPLITS, strict=True)), **fields})


def test_a_folder_of_images_by_class(pictures):
    data = image_task(pictures).load()
    train = data.splits["train"]
    assert data.kind.labels == ("blue", "red")
    assert train.gold.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.ids == [f"train/{colour}/{n}.png" for colour in ("blue", "red") for n in range(3)]
    assert train.text[3] == picture("red", 4)
    one = image_task(pictures, dev=None, test=None, split=KFold(folds=3)).load()
    assert [len(split.ids) for split in one.splits.values()] == [2, 2, 2]


def test_a_table_that_names_image_files_reads_the_same(pictures):
    for split in SPLITS:
        names = [f"{split}/{colour}/{n}.png" for colour in ("blue", "red") for n in range(3)]
        rows = "".join(f"{name},{name.split('/')[1]}\n" for name in names)
        (pictures / f"{split}.csv").write_text(f"file,label\n{rows}")
    table = image_task(pictures, text="file", **{split: f"{split}.csv" for split in SPLITS})
    folder = image_task(pictures)
    assert table.load().splits["dev"].text == folder.load().splits["dev"].text
    assert table.load().fingerprint == folder.load().fingerprint


def test_what_is_no_image_is_told_with_its_file(pictures):
    (pictures / "train" / "loose.png").write_bytes(picture("red"))
    (pictures / "train" / "red" / "notes.txt").touch()
    (pictures / "dev" / "red" / "0.png").write_bytes(b"no image")
    assert mistakes_of(image_task(pictures)) == [
        "train/loose.png is in no class; the folder needs a folder per class with its images.",
        "train/red/notes.txt is not an image; move it elsewhere.",
    ]
    (pictures / "train" / "loose.png").unlink()
    (pictures / "train" / "red" / "notes.txt").unlink()
    assert mistakes_of(image_task(pictures, name="again")) == [
        "dev/red/0.png, text is not an image: give the name of a file, its bytes, or base64 text."
    ]
    (pictures / "train.csv").write_text("text,label\nred.png,red\n")
    assert mistakes_of(image_task(pictures, train="train.csv"))[0] == (
        f"train.csv, row 1, text: no such file 'red.png' in {pictures}."
    )
    text = Task(name="t", train="train", split=KFold(folds=3), folder=str(pictures))
    assert mistakes_of(text) == [
        "train is a folder, which only a task of kind 'image' reads; name a file."
    ]


# --- labels -----------------------------------------------------------------------------------


def rows_of(folder: Path, *, train: list[Any], dev: list[Any], **fields: Any) -> Task:
    folder.mkdir()
    for split, labels in {"train": train, "dev": dev, "test": train}.items():
        rows = [json.dumps({"text": f"{split} w{i}", "label": y}) for i, y in enumerate(labels)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    files = {split: f"{split}.jsonl" for split in SPLITS}
    return Task(**{"name": "mine", "folder": str(folder), **files, **fields})


def test_labels_are_those_of_all_splits(tmp_path, model):
    """A tag that only dev has used to be a mistake. What no run can learn is noted."""
    train, dev = [["B-X", "O"], ["O", "B-Y"]], [["B-X", "I-X"], ["B-Z", "O"]]
    task = rows_of(tmp_path / "tags", train=train, dev=dev, **TAGS)
    assert task.load().kind.labels == ("O", "B-X", "B-Y", "B-Z", "I-X")
    given = {"models": [model], "techniques": [Standard()], "recipe": Recipe(max_length=32)}
    study = Study(name="s", tasks=[task], seeds=[0], **given)
    assert problems(study) == []
    assert notes(study) == [
        "task 'mine': no row of train has these labels of dev, so no run can learn them: 'B-Z', "
        "'I-X'."
    ]
    classes = rows_of(tmp_path / "classes", train=["yes", "no"], dev=["yes", "perhaps"])
    assert classes.load().kind.labels == ("no", "perhaps", "yes")
    several = {"kind": "multilabel", "metric": "micro_f1"}
    sets = rows_of(tmp_path / "sets", train=[["a"], ["b"]], dev=[["a", "c"]], **several)
    assert sets.load().kind.labels == ("a", "b", "c")
    assert "labels of dev, so no run can learn them: 'c'." in notes(study.replace(tasks=[sets]))[0]
    same = rows_of(tmp_path / "same", train=["yes", "no"], dev=["yes", "no"])
    stated = same.replace(labels=("no", "yes"))
    assert same.load().fingerprint == stated.load().fingerprint


def test_a_label_much_like_one_of_train_is_taken_for_misspelt(tmp_path):
    task = rows_of(tmp_path / "a", train=["entailment", "neutral"], dev=["entailmnet", "neutral"])
    assert mistakes_of(task) == [
        "dev.jsonl, row 1, label: 'entailmnet' is not a label of train. Did you mean 'entailment'? "
        "If not, name all labels of the task in `labels`."
    ]
    tags = rows_of(tmp_path / "b", train=[["B-Gene", "O"]], dev=[["B-Gene", "I-Gnee"]], **TAGS)
    assert "Did you mean 'I-Gene'?" in mistakes_of(tags)[0]
    numbered = rows_of(tmp_path / "c", train=["CPR:3", "CPR:4"], dev=["CPR:9"])
    assert numbered.load().kind.labels == ("CPR:3", "CPR:4", "CPR:9")


@pytest.mark.parametrize("labels", [(0, 1), ("0", "1"), [0, 1]])
def test_labels_that_are_numbers_need_no_quotes(tmp_path, labels):
    task = rows_of(tmp_path / "a", train=[1, 0, "0"], dev=[0, 1], labels=labels)
    assert task.load().splits["train"].gold.tolist() == [1, 0, 0]
    assert task.canonical()["labels"] == ["0", "1"]


# --- places -----------------------------------------------------------------------------------


def test_relative_paths_begin_beside_the_study_file(tmp_path, monkeypatch, capsys, model):
    """Or in the working directory; the error names both."""
    beside, elsewhere = tmp_path / "beside", tmp_path / "elsewhere"
    beside.mkdir(), elsewhere.mkdir()
    (beside / "mine.py").write_text(
        "from study import KFold, Recipe, Standard, Study, Task\nfrom study.models import Model\n"
        "task = Task(name='rows', train='rows.csv', split=KFold(folds=3))\n"
        "STUDY = Study(name='mine', tasks=[task], techniques=[Standard()], seeds=[0],\n"
        f"    models=[Model(name='m', checkpoint={model.checkpoint!r}, family='bert-tiny')],\n"
        "    recipe=Recipe(max_length=32))\n"
    )
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("STUDY_DATA", raising=False)
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    command = ["run", str(beside / "mine.py"), "--dry-run"]
    assert run_command(command) == 2
    assert f"rows.csv: no such file in {beside}, {elsewhere}." in capsys.readouterr().err
    content = "text,label\n" + "".join(f"w{n},{'xy'[n % 2]}\n" for n in range(36))
    found = []
    for folder in (elsewhere, beside):
        (folder / "rows.csv").write_text(content)
        assert run_command(command) == 0
        found.append(capsys.readouterr().out)
        (folder / "rows.csv").unlink()
    assert found[0] == found[1]  # the same key, wherever the file is


@pytest.mark.parametrize("where", ["beside", "elsewhere"])
def test_a_studys_data_folder_may_be_relative_to_its_file(tmp_path, monkeypatch, model, where):
    for name in ("beside", "elsewhere"):
        (tmp_path / name).mkdir()
    task_of(tmp_path / where / "data", "text,label\na,x\nb,y\n", "csv")
    monkeypatch.chdir(tmp_path / "elsewhere")
    files = {split: f"{split}.csv" for split in SPLITS}
    study = Study(
        name="s",
        tasks=[Task(name="mine", **files)],
        models=[model],
        techniques=[Standard()],
        seeds=[0],
        data="data",
        folder=str(tmp_path / "beside"),
    )
    (task,) = study.located_tasks()
    assert task.load().splits["train"].text == ["a", "b"]


def test_a_tsv_without_a_header_is_not_taken_for_commas(tmp_path):
    """Commas in its first sentence won over its tabs: `expected 6 fields, saw 7`."""
    (tmp_path / "raw.tsv").write_text(
        "1_1\t0.3\tOne, two, three, four, five and six: a sentence longer than a name ever is\n"
        "1_2\t-1.5\tAnother, with, six, commas, in, all, of it\n"
    )
    with pytest.raises(SpecError, match="the first row looks like data, not like names of columns"):
        guess(read_records(tmp_path / "raw.tsv"))
