"""Data files as people have them: read as meant, or refused with file, row and cure."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.core.spec import SpecError
from study.tasks import Task
from study.tasks.task import TaskData

Reader = Callable[..., TaskData]
SPLITS = ("train", "dev", "test")


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Load a task whose three splits have the same content."""

    def read(content: str | bytes, ending: str = "csv", **fields: Any) -> TaskData:
        raw = content.encode() if isinstance(content, str) else content
        for split in SPLITS:
            (tmp_path / f"{split}.{ending}").write_bytes(raw)
        files = {split: f"{split}.{ending}" for split in SPLITS}
        return Task(**{"name": "mine", **files, "folder": str(tmp_path), **fields}).load()

    return read


def refused(read: Reader, *arguments: Any, **fields: Any) -> list[str]:
    """The mistakes in the training file, without its folder."""
    with pytest.raises(SpecError) as caught:
        read(*arguments, **fields)
    texts = [str(mistake) for mistake in caught.value.mistakes]
    return [text[text.index("train.") :] for text in texts if "train." in text.split(" ")[0]]


def lines(*rows: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, rows))


# --- files ------------------------------------------------------------------------------------

ROWS = "text,label\ngood,pos\nbad,neg\n"


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        (ROWS, "CSV"),
        (gzip.compress(ROWS.encode(), mtime=0), "Csv.GZ"),
        (ROWS.encode("utf-8-sig"), "csv"),
        (lines({"text": "good", "label": "pos"}, {"text": "bad", "label": "neg"}), "JSONL"),
        ('[{"text": "good", "label": "pos"},\n{"text": "bad", "label": "neg"}]', "json"),
    ],
    ids=["CSV", "Csv.GZ", "byte order mark", "JSONL", "json"],
)
def test_endings_and_layouts_that_can_only_mean_one_thing(read, content, ending):
    train = read(content, ending).splits["train"]
    assert (train.text, train.gold.tolist()) == (["good", "bad"], [1, 0])


def test_a_byte_order_mark_does_not_spoil_json_lines(read):
    content = lines({"text": "a", "label": "x"}, {"text": "b", "label": "y"})
    assert read(content.encode("utf-8-sig"), "jsonl").splits["train"].text == ["a", "b"]


def test_a_comma_at_the_end_of_rows_is_an_error(read):
    """All columns used to move by one: numbers became the texts, and weights the labels."""
    content = "doc,text,label,weight\nd1,good film,0.5,1.0,\nd2,bad film,0.25,2.0,\n"
    assert refused(read, content, kind="regression", metric="mse") == [
        "train.csv is not a table in UTF-8 CSV: Expected 4 fields in line 2, saw 5. Each row needs "
        "as many fields as the first; a comma at its end is one more."
    ]


def test_a_column_named_twice_is_an_error(read):
    content = "text,label,label\ngood,1,pos\nbad,0,neg\n"
    assert refused(read, content) == [
        "train.csv: names more than one column 'label'; rename one of them."
    ]


def test_ids_that_restart_in_every_split(read):
    content = "id,text,label\n0,good,pos\n1,bad,neg\n"
    with pytest.raises(SpecError) as caught:
        read(content)
    (mistake,) = caught.value.mistakes
    assert mistake.text.startswith("repeats the id '0' of ")
    assert mistake.text.endswith(
        " The ids restart in every split; set id=None on the task to number the rows instead."
    )
    data = read(content, id=None)
    assert data.splits["dev"].ids == ["dev-1", "dev-2"]


def test_rows_without_an_id_are_numbered(read):
    content = lines({"id": None, "text": "a", "label": "x"}, {"text": "b", "label": "y"})
    assert read(content, "jsonl").splits["train"].ids == ["train-1", "train-2"]


# --- classes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["pos ", "Pos", "pos\u200b", "\u00a0pos"])
def test_labels_that_differ_only_in_what_is_not_seen(read, other):
    content = lines(*({"text": "t", "label": label} for label in ("pos", "neg", other)))
    first, second = sorted(("pos", other))
    rows = {"pos": 1, other: 3}
    (text,) = refused(read, content, "jsonl")
    assert text.startswith(f"train.jsonl, row {rows[second]}, label: {second!r} differs from ")
    assert f"{first!r} of " in text
    assert f"row {rows[first]} only in spaces, case or the form of a number" in text
    stated = read(content, "jsonl", labels=("pos", "neg", other))
    assert stated.splits["train"].gold.tolist() == [0, 1, 2]


def test_numbers_in_two_forms_are_one_label(read):
    content = lines(
        {"text": "a", "label": 1}, {"text": "b", "label": 0}, {"text": "c", "label": 1.0}
    )
    (text,) = refused(read, content, "jsonl")
    assert text.startswith("train.jsonl, row 3, label: '1.0' differs from '1' of ")


def test_a_list_is_not_one_label(read):
    content = lines({"text": "a", "label": [0, 1]}, {"text": "b", "label": [1, 0]})
    assert refused(read, content, "jsonl")[0] == (
        "train.jsonl, row 1, label: [0, 1] is not one label; for several labels per row use "
        "kind='multilabel'."
    )


# --- several classes per row ------------------------------------------------------------------

MULTI = {"kind": "multilabel", "metric": "micro_f1"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a|b", "b"),
        ("['a', 'b']", "['b']"),  # as `DataFrame.to_csv` writes lists
        ('["a", "b"]', '["b"]'),
        ('["a","b"]', '["b"]'),  # JSON of JavaScript
        (["a", "b"], ["b"]),
    ],
)
def test_lists_of_labels_and_lists_written_as_text(read, first, second):
    data = read(
        lines({"text": "t", "label": first}, {"text": "u", "label": second}), "jsonl", **MULTI
    )
    assert data.kind.labels == ("a", "b")
    assert data.splits["train"].gold.tolist() == [[1, 1], [0, 1]]


def test_an_empty_list_written_as_text_is_no_label(read):
    content = "text,label\nt,\"['a', 'b']\"\nu,[]\n"
    assert read(content, **MULTI).splits["train"].gold.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("ones", [[[0, 1, 0], [1, 1, 0]], [[0.0, 1.0, 0.0], [True, True, False]]])
def test_one_hot_rows_need_names(read, ones):
    content = lines(*({"text": "t", "label": row} for row in ones))
    texts = refused(read, content, "jsonl", **MULTI)
    assert texts[0].startswith(
        f"train.jsonl, row 1, label: {ones[0]} has a 0 or 1 per class; name the classes in `labels`"
    )
    data = read(content, "jsonl", labels=("x", "y", "z"), **MULTI)
    assert data.splits["train"].gold.tolist() == [[0, 1, 0], [1, 1, 0]]
    assert refused(read, content, "jsonl", labels=("x", "y"), **MULTI)[0] == (
        f"train.jsonl, row 1, label: {ones[0]} has 3 entries of 0 or 1 for 2 labels."
    )


def test_class_numbers_are_names(read):
    content = lines({"text": "t", "label": [0, 1]}, {"text": "u", "label": [2]})
    data = read(content, "jsonl", **MULTI)
    assert (data.kind.labels, data.splits["train"].gold.tolist()) == (
        ("0", "1", "2"),
        [[1, 1, 0], [0, 0, 1]],
    )


@pytest.mark.parametrize("text", ["['a' 'b']", "[0 1 0]", "[a, b]", "array(['a'], dtype=object)"])
def test_lists_in_other_forms_are_errors(read, text):
    content = lines({"text": "t", "label": text}, {"text": "u", "label": "b"})
    assert refused(read, content, "jsonl", **MULTI) == [
        f"train.jsonl, row 1, label: {text!r} is a list in a form that cannot be read; write it as "
        "JSON, or as one text with | between labels."
    ]


def test_labels_joined_by_commas_are_errors(read):
    content = 'text,label\ngood,"a,b"\nbad,b\n'
    assert refused(read, content, **MULTI) == [
        "train.csv, row 1, label: 'a,b' is not a label; write | between labels. If the comma is "
        "part of a label, name all labels of the task in `labels`."
    ]
    assert read(content, labels=("a,b", "b"), **MULTI).kind.labels == ("a,b", "b")
    content = 'text,label\ngood,"Cells, Cultured|b"\nbad,b\n'  # here a comma can only be a comma
    assert read(content, **MULTI).kind.labels == ("Cells, Cultured", "b")


def test_soft_labels_are_errors(read):
    content = lines({"text": "t", "label": [0.2, 0.8]})
    assert refused(read, content, "jsonl", **MULTI) == [
        "train.jsonl, row 1, label: [0.2, 0.8] has 0.2, which is not a label."
    ]


# --- tags -------------------------------------------------------------------------------------

TAGS = {"kind": "tagging", "metric": "entity_f1"}


def test_words_and_tags_written_as_text(read):
    content = "text,label\n\"['EU', 'rejects']\",\"['B-ORG', 'O']\"\n[ 1 ] EU,O O O B-ORG\n"
    train = read(content, **TAGS).splits["train"]
    assert train.text == [["EU", "rejects"], ["[", "1", "]", "EU"]]
    assert train.gold == [["B-ORG", "O"], ["O", "O", "O", "B-ORG"]]


def test_iob1_under_the_strict_metric_is_an_error(read):
    """A perfect prediction would score 0."""
    rows = [
        {"text": ["EU", "says"], "label": ["I-ORG", "O"]},
        {"text": ["EU", "UN", "says"], "label": ["B-ORG", "I-PER", "I-PER"]},
        {"text": ["New", "York"], "label": ["B-ORG", "I-ORG"]},
    ]
    found = refused(read, lines(*rows), "jsonl", **(TAGS | {"metric": "entity_f1_strict"}))
    assert [text[: text.index(" begins")] for text in found] == [
        "train.jsonl, row 1, label: 'I-ORG'",
        "train.jsonl, row 2, label: 'I-PER'",
    ]
    assert "use 'entity_f1', which reads IOB1 and IOB2" in found[0]
    assert read(lines(*rows), "jsonl", **TAGS).splits["train"].gold[0] == ["I-ORG", "O"]


# --- answers ----------------------------------------------------------------------------------

SPAN = {"kind": "span", "metric": "squad_f1", "text_pair": "context", "label": "answers"}
EMOJI = "\U0001f600" * 6 + " w1 w2 w3 w2"  # w2 stands at 10 and 16; in UTF-16 units at 16 and 22


def answered(answers: Any, context: str = "the cat sat on the mat") -> str:
    return lines({"text": "where?", "context": context, "answers": answers})


@pytest.mark.parametrize("start", [8, 7, 4, -1, 999])
def test_an_answer_that_is_in_one_place_stands_there(read, start):
    """A start that was wrong used to teach "no answer" or another word."""
    data = read(answered([{"text": "sat", "start": start}]), "jsonl", **SPAN)
    assert data.splits["train"].gold == [(("sat", 8),)]


@pytest.mark.parametrize(("start", "stands"), [(10, 10), (16, 16), (22, 16)])
def test_starts_in_utf16_units(read, start, stands):
    """16 is the second w2 in characters and the first in UTF-16 units: characters come first."""
    content = answered([{"text": "w2", "start": start}], EMOJI)
    assert read(content, "jsonl", **SPAN).splits["train"].gold == [(("w2", stands),)]


@pytest.mark.parametrize(
    ("answer", "start", "problem"),
    [
        ("dog", 4, "the answer 'dog' is not in the context."),
        (
            "the",
            -1,
            "the answer 'the' does not stand at -1 but at 0, 15; give its start in characters, "
            "counted from 0.",
        ),
    ],
)
def test_answers_without_one_place_are_errors(read, answer, start, problem):
    content = answered([{"text": answer, "start": start}])
    assert refused(read, content, "jsonl", **SPAN) == [f"train.jsonl, row 1, answers: {problem}"]


@pytest.mark.parametrize(
    "answers",
    [
        [{"text": "cat", "answer_start": 4}],
        {"text": ["cat"], "answer_start": [4]},
        "{'text': ['cat'], 'answer_start': [4]}",
        [{"text": "cat", "start": 4}, {"text": "", "start": 0}],
    ],
)
def test_layouts_of_answers(read, answers):
    data = read(answered(answers), "jsonl", **SPAN)
    assert data.splits["train"].gold == [(("cat", 4),)]


def test_squads_own_file(read):
    question = {"id": "q", "question": "who?", "answers": [{"text": "cat", "answer_start": 4}]}
    none = {"id": "r", "question": "why?", "answers": [], "is_impossible": True}
    paragraph = {"context": "the cat sat", "qas": [question, none]}
    article = {"title": "x", "paragraphs": [paragraph]}
    content = json.dumps({"version": "v2.0", "data": [article]}, indent=1)
    data = read(content, "json", id=None, **(SPAN | {"text": "question"}))
    train = data.splits["train"]
    assert (train.text, train.text_pair) == (["who?", "why?"], ["the cat sat"] * 2)
    assert train.gold == [(("cat", 4),), ()]


def test_an_empty_cell_is_not_the_answer_none(read):
    assert refused(read, answered(None), "jsonl", **SPAN) == [
        "train.jsonl, row 1, answers is empty; write [] for a question without an answer."
    ]
