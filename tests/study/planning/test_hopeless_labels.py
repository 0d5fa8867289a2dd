"""Labels on which every run would fail, told before the first."""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from study import Recipe, Standard, Study, Task
from study.models import Model
from study.planning.preflight import problems

Problems = Callable[..., list[str]]
YES_NO = ["yes", "no"] * 8


@pytest.fixture
def found(model: Model, tmp_path: Path) -> Problems:
    """The problems of a study on these labels."""
    folders = map(str, count())  # a task is read once per process

    def found(
        *, dev: list[Any], train: list[Any], test: list[Any], text: Any = "w1 w2", **fields: Any
    ) -> list[str]:
        folder = tmp_path / next(folders)
        folder.mkdir()
        for split, labels in (("train", train), ("dev", dev), ("test", test)):
            rows = [json.dumps({"text": text, "context": "w3", "label": label}) for label in labels]
            (folder / f"{split}.jsonl").write_text("\n".join(rows))
        files = {split: f"{split}.jsonl" for split in ("train", "dev", "test")}
        study = Study(
            name="s",
            tasks=[Task(**{"name": "t", **files, **fields})],
            models=[model],
            recipe=Recipe(max_length=32),
            techniques=[Standard()],
            seeds=[0],
            data=str(folder),
        )
        return [str(mistake) for mistake in problems(study)]

    return found


MCC = {"metric": "matthews_corrcoef"}
PEARSON = {"kind": "regression", "metric": "pearson"}
MSE = {"kind": "regression", "metric": "mse"}
MULTI = {"kind": "multilabel", "metric": "micro_f1"}
TAGS = {"kind": "tagging", "metric": "entity_f1"}
SPAN = {"kind": "span", "metric": "squad_f1", "text_pair": "context"}
ANSWER = [{"text": "w3", "start": 0}]


@pytest.mark.parametrize(
    ("fields", "labels", "same"),
    [
        ({}, YES_NO, "yes"),
        (MCC, YES_NO, "yes"),
        (PEARSON, [0.5, 1.5] * 8, 1),
        (MSE, [0.5, 1.5] * 8, 1),
        (MULTI, [["a"], ["b"]] * 8, ["a"]),
        (TAGS, [["B-X", "O"], ["O", "O"]] * 8, ["O", "O"]),
        (SPAN, [ANSWER, []] * 8, []),
    ],
)
def test_dev_with_one_label_is_told_for_every_kind(found, fields, labels, same):
    """Every run of such a study used to be recorded as collapsed."""
    assert found(train=labels, dev=labels, test=labels, **fields) == []
    assert found(train=labels, dev=[same] * 16, test=labels, **fields) == [
        "task 't', dev.jsonl, label: all 16 rows have the same label, so every run would count as "
        "collapsed; add rows with other labels."
    ]


def test_dev_on_which_a_perfect_prediction_would_count_as_collapsed(found):
    """4 rows, half of them of one class: 0.5 + 2 sqrt(0.25 / 4) = 1, and 1 is not above it."""
    assert found(train=YES_NO, dev=YES_NO[:4], test=YES_NO) == [
        "task 't', dev.jsonl, label: on its 4 rows a perfect prediction scores 1 in accuracy and a "
        "constant one 0.5, so every run would count as collapsed; use more rows, or a metric on "
        "which a constant prediction scores lower."
    ]
    assert found(train=YES_NO, dev=YES_NO[:6], test=YES_NO) == []
    rare = ["yes", *["no"] * 199]  # accuracy: 0.995 and a point is above 1
    assert len(found(train=YES_NO, dev=rare, test=YES_NO)) == 1
    assert found(train=YES_NO, dev=rare, test=YES_NO, metric="macro_f1") == []


def test_values_that_are_all_the_same_in_train_or_test(found):
    values = [0.5, 1.5] * 8
    assert found(train=[1] * 16, dev=values, test=[1] * 16, **PEARSON) == [
        "task 't', train.jsonl, label: all 16 rows have the same label, so there is nothing to "
        "learn.",
        "task 't', test.jsonl, label: all 16 rows have the same label, for which pearson is "
        "undefined; add rows with other labels.",
    ]
    assert found(train=values, dev=values, test=[1] * 16, **MSE) == []


def broken(gold: Any, predicted: Any) -> float:
    raise TypeError("no such class")


def test_a_metric_that_raises_is_told(found):
    metric = f"{__name__}:broken"
    assert found(train=YES_NO, dev=YES_NO, test=YES_NO, metric=metric) == [
        f"task 't', metric: {metric!r} fails on constant answers or on the right ones: "
        "TypeError: no such class"
    ]
