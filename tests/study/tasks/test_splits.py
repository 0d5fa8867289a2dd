"""Dividing one's own rows: nothing twice, groups whole, the future never in train."""

import csv
from pathlib import Path

import pytest

from study.core.spec import Invalid, SpecError
from study.tasks import ByGroup, ByTime, KFold, Task


@pytest.fixture
def table(tmp_path: Path) -> Task:
    rows = [
        {
            "text": f"text {number}",
            "label": "yes" if number % 3 else "no",
            "patient": f"p{number % 7}",
            "day": f"2024-01-{1 + number % 28:02d}",
        }
        for number in range(60)
    ]
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return Task(name="mine", train="mine.csv", folder=str(tmp_path), split=KFold(folds=5))


def ids(task: Task) -> dict[str, list[str]]:
    return {name: split.ids for name, split in task.load().splits.items()}


def test_each_row_is_test_in_one_fold_and_dev_in_one(table):
    folds = [ids(task) for task in table.folds()]
    for split in ("test", "dev"):
        assert sorted(id_ for fold in folds for id_ in fold[split]) == sorted(
            f"row-{number}" for number in range(1, 61)
        )
    for fold in folds:
        assert len({id_ for part in fold.values() for id_ in part}) == 60
    assert [task.name for task in table.folds()] == [f"mine.fold{n}" for n in range(5)]


def test_folds_have_classes_in_equal_shares(table):
    for task in table.folds():
        assert task.load().splits["test"].gold.tolist().count(0) == 4  # a third of twelve


def test_classes_that_are_numbers_are_classes(tmp_path):
    lines = ["text,label"] + [f"t{n},{int(n < 3)}" for n in range(30)]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    task = Task(name="mine", train="mine.csv", folder=str(tmp_path), split=KFold(folds=3))
    assert [int(fold.load().splits["test"].gold.sum()) for fold in task.folds()] == [1, 1, 1]


def test_the_folds_are_drawn_by_the_tasks_own_seed(table):
    assert ids(table) == ids(table.replace(name="again"))
    assert ids(table) != ids(table.replace(split=KFold(folds=5, seed=1)))


def test_no_group_is_in_two_parts(table):
    task = table.replace(split=ByGroup(column="patient", folds=3))
    parts = [{int(id_.split("-")[1]) % 7 for id_ in part} for part in ids(task).values()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 7


def test_the_newest_rows_are_test_and_equal_times_stay_together(table):
    task = table.replace(split=ByTime(column="day", dev=0.2, test=0.2))
    days = {
        name: {(int(id_.split("-")[1]) - 1) % 28 for id_ in part}
        for name, part in ids(task).items()
    }
    assert max(days["train"]) < min(days["dev"]) <= max(days["dev"]) < min(days["test"])


def test_times_that_are_numbers_are_compared_as_numbers(tmp_path):
    lines = ["text,label,year"] + [f"t{n},{'ab'[n % 2]},{n}" for n in range(1, 21)]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    task = Task(
        name="mine", train="mine.csv", folder=str(tmp_path), split=ByTime(column="year", test=0.5)
    )
    assert task.load().splits["test"].text == [f"t{n}" for n in range(11, 21)]


def test_a_split_survives_its_canonical_form(table):
    for split in (
        KFold(folds=5, fold=2),
        ByGroup(column="patient", folds=3),
        ByTime(column="day"),
    ):
        task = table.replace(split=split)
        assert Task(**task.canonical()) == task


@pytest.mark.parametrize(
    ("split", "text"),
    [
        (KFold(folds=21), "21 is more than the 20 rows labelled 'no'"),
        (KFold(folds=61), "61 is more than the 60 rows"),
        (ByGroup(column="patient", folds=8), "8 is more than the 7 groups in 'patient'"),
        (ByGroup(column="pacient", folds=3), "Did you mean 'patient'"),
        (ByTime(column="text"), "'text 0' is neither a number nor an ISO date"),
        (ByTime(column="label"), "'no' is neither a number nor an ISO date"),
    ],
)
def test_what_cannot_be_divided(table, split, text):
    with pytest.raises(SpecError, match=text):
        table.replace(split=split).load()


def test_mistakes_of_the_fields():
    wrong = Task(name="mine", train="a.csv", test="b.csv", split=KFold(folds=3, fold=3))
    assert isinstance(wrong, Invalid)
    assert [str(mistake) for mistake in wrong.error.mistakes] == [
        "split.fold: 3 is not in [0, 2].",
        "split: divides the rows of `train`; leave out test.",
    ]
    missing = Task(name="mine", train="a.csv", dev="b.csv")
    assert [mistake.path for mistake in missing.error.mistakes] == ["test"]


@pytest.mark.parametrize(
    ("fields", "mistake"),
    [
        ({"metric": "f1"}, "labels: 'f1' needs `labels`, the negative class first"),
        ({"metric": "micro_f1_excl_negative"}, "labels: 'micro_f1_excl_negative' needs `labels`"),
        ({"kind": "span", "metric": "squad_f1"}, "kind: 'span' needs `text_pair`"),
        ({"truncate": "only_second"}, "truncate: 'only_second' needs `text_pair`"),
    ],
)
def test_fields_that_need_another(fields, mistake):
    made = Task(name="mine", train="a.csv", split=KFold(folds=3), **fields)
    (found,) = made.error.mistakes
    assert str(found).startswith(mistake)
