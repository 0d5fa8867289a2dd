"""Tasks of the catalogue that are read from the hub, whose client is replaced by a small one."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from study.tasks import GLUE, MNLI_MISMATCHED, MRPC, RTE, TASKS, Task


class ClassLabel(SimpleNamespace):
    """As in `datasets`: the names of class ids."""


class Rows(list[dict[str, Any]]):
    """As in `datasets`: rows, and the types of their columns."""

    features: dict[str, Any]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """What is asked of the hub: data set, configuration and split."""
    asked: list[tuple[str, str, str]] = []

    def load_dataset(name: str, config: str, split: str) -> Rows:
        asked.append((name, config, split))
        names = ["entailment", "not_entailment"]
        made = Rows(
            {"sentence1": f"{split} a{n}", "sentence2": f"b{n}", "label": n % 2, "idx": n}
            for n in range(4)
        )
        made.features = {"sentence1": None, "sentence2": None, "label": ClassLabel(names=names)}
        return made

    client = SimpleNamespace(load_dataset=load_dataset, ClassLabel=ClassLabel)
    monkeypatch.setitem(sys.modules, "datasets", client)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return asked


def test_a_task_of_the_hub(hub):
    data = RTE.replace(name="rte").load()
    assert hub == [
        ("nyu-mll/glue", "rte", "train[:90%]"),
        ("nyu-mll/glue", "rte", "train[90%:]"),
        ("nyu-mll/glue", "rte", "validation"),
    ]
    dev = data.splits["dev"]
    assert (dev.text[1], dev.text_pair) == ("train[90%:] a1", ["b0", "b1", "b2", "b3"])
    assert dev.gold.tolist() == [0, 1, 0, 1]
    assert dev.ids == ["dev-1", "dev-2", "dev-3", "dev-4"]
    assert data.kind.labels == ("entailment", "not_entailment")


FROM_HUB = [task for task in TASKS.values() if str(task.train).startswith("hf:")]


@pytest.mark.parametrize("task", FROM_HUB, ids=lambda task: task.name)
def test_published_sizes_are_those_of_the_hub(task: Task):
    """Rows of train and of the split that is test here, as the data card of GLUE has them."""
    card = {
        "rte": (2490, 277),
        "mrpc": (3668, 408),
        "qnli": (104_743, 5463),
        "qqp": (363_846, 40_430),
        "mnli": (392_702, 9815),
        "mnli_mismatched": (392_702, 9832),
        "wnli": (635, 71),
    }
    assert task.published is not None
    train, dev, test, _ = task.published
    assert (train + dev, test) == card[task.name.removeprefix("glue_")]
    assert train == round(0.9 * (train + dev))


def test_glue_has_its_nine_tasks_and_one_test_of_mnli():
    assert len(GLUE) == 9
    assert MNLI_MISMATCHED not in GLUE
    assert (RTE.metric, MRPC.metric, MRPC.labels) == (
        "accuracy",
        "f1",
        ("not_equivalent", "equivalent"),
    )
