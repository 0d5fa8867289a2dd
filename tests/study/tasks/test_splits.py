"""Splits: disjoint parts, whole groups, no rows from the future in train, and error messages."""

import csv
import time
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


def test_stratified_groups(tmp_path):
    """Eight patients of four rows, two of them with the rare class: one per fold of 4 if spread."""
    lines = [f"t{n},{'rare' if n // 4 in (2, 5) and n % 4 < 3 else 'common'},p{n // 4}"
             for n in range(32)]  # fmt: skip
    (tmp_path / "mine.csv").write_text("\n".join(["text,label,patient", *lines]))
    split = ByGroup(column="patient", folds=3, stratify=True)
    task = Task(name="mine", train="mine.csv", folder=str(tmp_path), split=split)
    folds = [fold.load() for fold in task.folds()]
    rare = [data.kind.labels.index("rare") for data in folds]
    counts = [d.splits["test"].gold.tolist().count(r) for d, r in zip(folds, rare, strict=True)]
    assert sorted(counts) == [0, 3, 3]
    for data in folds:
        parts = [{(int(text[1:])) // 4 for text in rows.text} for rows in data.splits.values()]
        assert sum(map(len, parts)) == len(set().union(*parts)) == 8
    plain = ByGroup(column="patient", folds=3)
    assert "stratify" not in plain.canonical()
    assert {**plain.canonical(), "stratify": True} == split.canonical()


@pytest.mark.parametrize(
    ("fields", "folds", "text"),
    [
        ({"kind": "regression", "metric": "mse", "label": "n"}, 3, "stratify: needs one class per"),
        ({}, 5, "folds: 5 is more than the 4 rows labelled 'no'"),
    ],
)
def test_groups_that_cannot_be_stratified(tmp_path, fields, folds, text):
    lines = [f"t{n},{'no' if n < 4 else 'yes'},{n},p{n}" for n in range(12)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label,n,patient", *lines]))
    split = ByGroup(column="patient", folds=folds, stratify=True)
    task = Task(name="mine", train="mine.csv", folder=str(tmp_path), split=split, **fields)
    with pytest.raises(SpecError, match=f"split.{text}"):
        task.load()


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


ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Auckland", "Europe/Berlin"]


@pytest.fixture
def timed(tmp_path: Path):
    """A task of one row per time."""

    def timed(*times: object) -> Task:
        rows = [f"t{n},{'aabb'[n % 4]},{time}" for n, time in enumerate(times, start=1)]
        (tmp_path / "mine.csv").write_text("\n".join(["text,label,when", *rows]))
        split = ByTime(column="when", dev=0.4, test=0.4)
        return Task(name="mine", train="mine.csv", folder=str(tmp_path), split=split)

    return timed


def test_parts_by_time_do_not_depend_on_the_time_zone(timed, monkeypatch):
    """In New York, local times were ordered by a clock that is put back on 3 November 2024."""
    times = [  # as hours after midnight UTC: 5.5, 1, 6, 6.5, 2, 7, 5.6, 1.2, 6.1, 6.6
        *("2024-11-03 05:30", "2024-11-03T01:00+00:00", "2024-11-03 06:00", "2024-11-03 06:30"),
        *("2024-11-03T01:00-01:00", "2024-11-03 07:00", "2024-11-03 00:36-05:00"),
        *("2024-11-03 01:12", "2024-11-03 06:06", "2024-11-03T06:36Z"),
    ]
    task, found = timed(*times), []
    for zone in ZONES:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        found.append(task.replace(name=zone.replace("/", ".")).load())
    monkeypatch.undo()
    time.tzset()
    assert {data.fingerprint for data in found} == {found[0].fingerprint}
    texts = {name: split.text for name, split in found[0].splits.items()}
    assert texts == {
        "train": ["t2", "t8"],
        "dev": ["t1", "t3", "t5", "t7"],
        "test": ["t4", "t6", "t9", "t10"],
    }


@pytest.mark.parametrize("year", ["nan", "inf", "n/a", "c. 1990", "2019?"])
def test_unreadable_times_are_errors(timed, year):
    """`nan` is in no order with other times, and used to go to train."""
    with pytest.raises(SpecError) as caught:
        timed(2001, 2002, year, 2004, 2005).load()
    assert [str(mistake).partition(", row ")[2] for mistake in caught.value.mistakes] == [
        f"3, when: {year!r} is neither a finite number nor an ISO date such as 2024-01-31; for "
        'dates in another form write ByTime(..., format="%d.%m.%Y").'
    ]


def test_dates_in_a_format_of_ones_own(timed):
    """As numbers, 01.02.2024 and 2.1.2024 would be in another order, or none."""
    dates = ["01.02.2024", "2.1.2024", "28.12.2023", "01.01.2024", "03.03.2024"]
    task = timed(*dates)
    own = task.replace(split=ByTime(column="when", dev=0.4, test=0.4, format="%d.%m.%Y"))
    texts = {name: split.text for name, split in own.load().splits.items()}
    assert texts == {"train": ["t3"], "dev": ["t2", "t4"], "test": ["t1", "t5"]}
    with pytest.raises(SpecError, match=r"'01.02.2024' is neither .* ByTime\(\.\.\., format="):
        task.load()
    other = task.replace(split=ByTime(column="when", format="%Y%m%d"))
    with pytest.raises(SpecError, match=r"'2.1.2024' is not a date in the format '%Y%m%d'\."):
        other.load()
    hours = timed("01.02.2024 10:00 +0200", "01.02.2024 09:00 +0000", "01.02.2024 10:30 +0200")
    hours = hours.replace(
        name="hours", split=ByTime(column="when", dev=0.3, test=0.3, format="%d.%m.%Y %H:%M %z")
    )
    assert hours.load().splits["test"].text == ["t2"]  # at 9 in UTC, the others at 8 and 8.5


def test_numbers_beside_dates_are_an_error(timed):
    with pytest.raises(SpecError, match=r"when has both numbers \('2001' in .*row 1\) and dates "):
        timed(2001, 2002, "2003-05-01", 2004).load()


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
        (ByTime(column="text"), "row 1, text: 'text 0' is neither a finite number nor an ISO date"),
        (ByTime(column="label"), "row 1, label: 'no' is neither a finite number nor an ISO date"),
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


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["science", "politics"] * 10 + ["sciense"], r"'sciense' in row 21 .*you mean 'science'\?"),
        (["science", "politics"] * 10 + ["sport"], "1 rows labelled 'sport'; use fewer folds"),
        (["CPR:3", "CPR:4"] * 10 + ["CPR:9"], "1 rows labelled 'CPR:9'; use fewer folds"),
        ([str(i / 7) for i in range(60)], "60 different numbers as .*kind='regression'"),
    ],
)
def test_what_is_wrong_with_a_rare_class_is_said(labels, message, tmp_path):
    lines = ["text,label", *(f"t{n},{label}" for n, label in enumerate(labels))]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    task = Task(name="mine", train="mine.csv", folder=str(tmp_path), split=KFold(folds=5))
    with pytest.raises(SpecError, match=message):
        task.load()


def test_many_classes_may_be_numbers(tmp_path):
    lines = ["text,label", *(f"t{n},{n % 30}" for n in range(300))]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    task = Task(name="mine", train="mine.csv", folder=str(tmp_path), split=KFold(folds=5))
    assert len(task.load().kind.labels) == 30


def test_the_label_is_not_the_text():
    task = Task(name="mine", train="mine.csv", text="label", split=KFold(folds=5))
    assert isinstance(task, Invalid)
    assert "a model would read the answer" in str(task.error)
