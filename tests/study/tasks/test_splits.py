"""Splits: disjoint parts, whole groups, no rows from the future in train, and error messages."""

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


def test_folds_are_stratified_by_class(table):
    for task in table.folds():
        assert task.load().splits["test"].gold.tolist().count(0) == 4  # a third of twelve


def test_folds_are_stratified_by_numeric_classes_too(tmp_path):
    lines = ["text,label"] + [f"t{n},{int(n < 3)}" for n in range(30)]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    task = Task(name="mine", train="mine.csv", folder=str(tmp_path), split=KFold(folds=3))
    assert [int(fold.load().splits["test"].gold.sum()) for fold in task.folds()] == [1, 1, 1]


def test_folds_depend_on_the_splits_seed_and_not_on_the_tasks_name(table):
    assert ids(table) == ids(table.replace(name="again"))
    assert ids(table) != ids(table.replace(split=KFold(folds=5, seed=1)))


def test_no_group_is_in_two_parts(table):
    task = table.replace(split=ByGroup(column="patient", folds=3))
    parts = [{int(id_.split("-")[1]) % 7 for id_ in part} for part in ids(task).values()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 7


def test_the_newest_rows_are_test_and_rows_of_equal_time_stay_together(table):
    task = table.replace(split=ByTime(column="day", dev=0.2, test=0.2))
    days = {
        name: {(int(id_.split("-")[1]) - 1) % 28 for id_ in part}
        for name, part in ids(task).items()
    }
    assert max(days["train"]) < min(days["dev"]) <= max(days["dev"]) < min(days["test"])


def test_numeric_times_are_compared_as_numbers(tmp_path):
    lines = ["text,label,year"] + [f"t{n},{'ab'[n % 2]},{n}" for n in range(1, 21)]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    task = Task(
        name="mine", train="mine.csv", folder=str(tmp_path), split=ByTime(column="year", test=0.5)
    )
    assert task.load().splits["test"].text == [f"t{n}" for n in range(11, 21)]


def test_a_split_can_be_restored_from_its_canonical_form(table):
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
        (KFold(folds=21), "21 is more than the 20 rows labelled 'no'; use fewer folds"),
        (KFold(folds=61), "61 is more than the 60 rows of .*mine.csv; use fewer folds"),
        (ByGroup(column="patient", folds=8), "8 is more than the 7 groups in 'patient' of "),
        (ByGroup(column="pacient", folds=3), "Did you mean 'patient'"),
        (ByTime(column="text"), "'text 0' is neither a number nor an ISO date"),
        (ByTime(column="label"), "'no' is neither a number nor an ISO date"),
    ],
)
def test_impossible_splits_are_errors(table, split, text):
    with pytest.raises(SpecError, match=text):
        table.replace(split=split).load()


def test_inconsistent_splits_are_reported():
    invalid = Task(name="mine", train="a.csv", test="b.csv", split=KFold(folds=3, fold=3))
    assert isinstance(invalid, Invalid)
    assert [str(mistake) for mistake in invalid.error.mistakes] == [
        "split.fold: 3 is not in [0, 2].",
        "split: `split` already divides the rows of `train`; remove test.",
    ]
    missing = Task(name="mine", train="a.csv", dev="b.csv")
    assert [str(mistake) for mistake in missing.error.mistakes] == [
        "test is missing; name its file, or divide `train`, such as with split=KFold(folds=5)."
    ]


def test_folds_of_a_task_without_folds_are_an_error(table):
    with pytest.raises(ValueError, match="has no folds; use KFold or ByGroup"):
        table.replace(split=ByTime(column="day")).folds()


@pytest.mark.parametrize(
    ("fields", "mistake"),
    [
        ({"metric": "f1"}, "labels: 'f1' needs `labels` with the negative class first"),
        ({"metric": "micro_f1_excl_negative"}, "labels: 'micro_f1_excl_negative' needs `labels`"),
        ({"kind": "span", "metric": "squad_f1"}, "kind: 'span' needs `text_pair`"),
        ({"truncate": "only_second"}, "truncate: 'only_second' needs `text_pair`"),
    ],
)
def test_fields_that_require_another_field(fields, mistake):
    invalid = Task(name="mine", train="a.csv", split=KFold(folds=3), **fields)
    (actual,) = invalid.error.mistakes
    assert str(actual).startswith(mistake)
