"""Reading and encoding data: rows, tokens, batches, caching, and messages about bad data."""

import json
from pathlib import Path

import numpy as np
import pytest

from study.core.seeding import Seed
from study.core.spec import SpecError
from study.tasks import BIOSSES, TERMS, Task
from study.tasks.kinds.encoded import Encoded, collate, evaluation_batches, training_rows
from study.training.prepare import prepare_once
from tests import needs


def write(folder: Path, **splits: list[object]) -> Task:
    for name, rows in splits.items():
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    paths = {name: f"{name}.jsonl" for name in ("train", "dev", "test")}
    return Task(name="mine", folder=str(folder), **paths)


def row(text: str = "a", label: str = "yes") -> dict[str, str]:
    return {"text": text, "label": label}


GOOD = [row(), row(label="no")]


def mistakes_of(task: Task) -> list[str]:
    with pytest.raises(SpecError) as raised:
        task.load()
    folder = f"{task.folder}/"
    return [str(mistake).replace(folder, "") for mistake in raised.value.mistakes]


def test_broken_json_names_file_and_row(tmp_path):
    task = write(tmp_path, train=[row(), "{oops"], dev=GOOD, test=GOOD)
    assert mistakes_of(task)[0].startswith("train.jsonl, row 2 is not valid JSON: ")


def test_missing_column_suggests_the_one_meant(tmp_path):
    task = write(tmp_path, train=[{"txt": "a", "label": "yes"}], dev=GOOD, test=GOOD)
    assert mistakes_of(task) == [
        "train.jsonl, column 'text': no such column. Did you mean 'txt'? It has txt, label; name "
        "one of them in `text`."
    ]


def test_unknown_label_names_row_and_column(tmp_path):
    task = write(tmp_path, train=GOOD, dev=[row(label="yess")], test=GOOD)
    assert mistakes_of(task) == [
        "dev.jsonl, row 1, label: 'yess' is not a label of train. Did you mean 'yes'? If not, name "
        "all labels of the task in `labels`."
    ]


def test_every_problem_of_every_split_at_once(tmp_path):
    task = write(tmp_path, train=[], dev=[row(text="")], test=["[1]"])
    assert mistakes_of(task) == [
        "train.jsonl has no rows.",
        "dev.jsonl, row 1, text is empty; give a value or remove the row.",
        'test.jsonl, row 1 is not a JSON object; each line must be one, such as {"text": "..."}.',
    ]


def test_a_missing_file_names_the_places_that_were_searched(tmp_path):
    task = Task(name="mine", train="train.csv", dev="dev.csv", test="test.csv")
    assert mistakes_of(task)[0].startswith("train.csv: no such file in ")


def test_values_must_be_numbers(tmp_path):
    task = write(tmp_path, train=[row(label="0.5")], dev=[row(label="x")], test=[row(label="nan")])
    task = task.replace(kind="regression", metric="pearson")
    assert mistakes_of(task) == [
        "dev.jsonl, row 1, label: 'x' is not a number.",
        "test.jsonl, row 1, label: 'nan' is not finite.",
    ]


def test_repeated_ids(tmp_path):
    same = [{"id": "1", **row()}]
    train = [{"id": "0", **row()}, {"id": "2", **row(label="no")}]
    task = write(tmp_path, train=train, dev=same, test=same)
    assert mistakes_of(task) == [
        "test.jsonl, row 1 repeats the id '1' of dev.jsonl, row 1. Remove rows that are the same "
        "example; else id=None on the task numbers the rows."
    ]


def test_a_single_label_is_refused(tmp_path):
    task = write(tmp_path, train=[row()], dev=[row()], test=[row()])
    assert mistakes_of(task) == [
        "train.jsonl, label has only one label, 'yes'; classification needs at least two."
    ]


def test_texts_must_be_strings(tmp_path):
    task = write(tmp_path, train=[*GOOD, {"text": 7, "label": "no"}], dev=GOOD, test=GOOD)
    assert mistakes_of(task) == ["train.jsonl, row 3, text: 7 is not text."]


def test_other_text_encodings_are_reported(tmp_path):
    task = write(tmp_path, train=GOOD, dev=GOOD, test=GOOD)
    (tmp_path / "train.jsonl").write_bytes('{"text": "né", "label": "yes"}'.encode("latin-1"))
    assert mistakes_of(task)[0].startswith("train.jsonl, row 1 is not UTF-8: ")


def test_parquet_nulls_are_empty(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"text": ["a", None], "label": ["yes", None]})
    for split in ("train", "dev", "test"):
        frame.to_parquet(tmp_path / f"{split}.parquet")
    paths = {split: f"{split}.parquet" for split in ("train", "dev", "test")}
    mistakes = mistakes_of(Task(name="mine", folder=str(tmp_path), **paths))
    assert mistakes[:2] == [
        "train.parquet, row 2, text is empty; give a value or remove the row.",
        "train.parquet, row 2, label is empty; give a value or remove the row.",
    ]


def test_files_of_one_name_in_several_folders(tmp_path):
    paths = {}
    for split in ("train", "dev", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "data.jsonl").write_text("\n".join(map(json.dumps, GOOD)))
        paths[split] = f"{split}/data.jsonl"
    loaded = Task(name="mine", folder=str(tmp_path), **paths).load()
    assert loaded.splits["dev"].ids == ["dev-1", "dev-2"]


def test_labels_come_from_all_of_train_not_from_its_subset(tmp_path):
    train = [row(label=f"c{i}") for i in range(20)]
    task = write(tmp_path, train=train, dev=train, test=train)
    assert len(task.subset(4, seed=0).load().kind.labels) == 20


def test_csv_and_parquet_read_like_jsonl(tmp_path):
    import pandas as pd

    jsonl = write(tmp_path, train=GOOD, dev=GOOD, test=GOOD)
    frame = pd.DataFrame(GOOD)
    for split in ("train", "dev", "test"):
        frame.to_csv(tmp_path / f"{split}.csv", index=False)
        frame.to_parquet(tmp_path / f"{split}.parquet")
    for kind in ("csv", "parquet"):
        paths = {split: f"{split}.{kind}" for split in ("train", "dev", "test")}
        other = Task(name="mine", folder=str(tmp_path), **paths)
        assert other.load().fingerprint == jsonl.load().fingerprint


def test_a_subset_is_fixed_and_inside_a_larger_one():
    small = TERMS.subset(16, seed=0).load().splits["train"].ids
    large = TERMS.subset(64, seed=0).load().splits["train"].ids
    assert len(small) == 16
    assert set(small) < set(large)
    assert TERMS.subset(16, seed=1).load().splits["train"].ids != small


def test_too_large_a_subset_is_refused():
    with pytest.raises(SpecError, match="train_rows: 100000 is more than the 590 rows"):
        TERMS.subset(100_000, seed=0).load()


def test_real_regression_rows():
    loaded = BIOSSES.replace(folder=str(needs.shared("data"))).load()
    assert {name: len(split.ids) for name, split in loaded.splits.items()} == {
        "train": 64,
        "dev": 16,
        "test": 20,
    }
    assert loaded.splits["train"].gold.dtype == np.float64


def test_a_batch_is_padded_to_its_own_longest_row(data: dict[str, Encoded]):
    train = data["train"]
    shortest = np.argsort(train.lengths, kind="stable")[:3]
    batch = collate(train, shortest)
    assert batch["input_ids"].shape == (3, int(train.lengths[shortest].max()))
    assert batch["attention_mask"].sum(1).tolist() == train.lengths[shortest].tolist()
    for position, number in enumerate(shortest):
        start, end = train.starts[number], train.starts[number + 1]
        tokens = batch["input_ids"][position, : end - start]
        assert tokens.tolist() == train.columns["input_ids"][start:end].tolist()


@pytest.mark.parametrize("by_length", [True, False])
def test_an_epoch_sees_every_row_once_in_an_order_of_its_own(data, by_length):
    def rows(seed: Seed, epoch: int) -> list[tuple[int, ...]]:
        train = data["train"]
        batches = training_rows(train, batch_size=5, by_length=by_length, seed=seed, epoch=epoch)
        return [
            tuple(line)
            for chosen in batches
            for line in collate(train, chosen)["input_ids"].tolist()
        ]

    def content(rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        return sorted(tuple(t for t in row if t != 0) for row in rows)

    first = rows(Seed(0, 0, 0), 0)
    assert rows(Seed(9, 0, 9), 0) == first  # only `order` decides
    for other in (rows(Seed(0, 1, 0), 0), rows(Seed(0, 0, 0), 1)):
        assert other != first
        assert content(other) == content(first)


def test_evaluation_covers_every_row(data: dict[str, Encoded]):
    covered = np.concatenate([rows for rows, _ in evaluation_batches(data["dev"], 7)])
    assert sorted(covered) == list(range(len(data["dev"].ids)))


def test_encoded_data_are_read_back_from_disk(tmp_path, task, model):
    first = prepare_once(task.load(), model, 32, tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_ino
    again = prepare_once(task.load(), model, 32, tmp_path)
    assert again.kind == first.kind
    for name, split in first.splits.items():
        for batch, other in zip(
            evaluation_batches(split, 7), evaluation_batches(again.splits[name], 7), strict=True
        ):
            assert batch[0].tolist() == other[0].tolist()
            assert {k: v.tolist() for k, v in batch[1].items()} == {
                k: v.tolist() for k, v in other[1].items()
            }
    assert file.stat().st_ino == written  # not written, so not encoded, again
    for change in ({"max_length": 31}, {"data": task.subset(4, seed=0).load()}):
        given = {"data": task.load(), "model": model, "max_length": 32, **change}
        prepare_once(**given, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_lists_in_parquet_and_rows_without_any_label(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": [["x", "y"], [], ["y"]]})
    for split in ("train", "dev", "test"):
        frame.to_parquet(tmp_path / f"{split}.parquet")
        lines = ["text,label", "a,x|y", "b,", "c,y"]
        (tmp_path / f"{split}.csv").write_text("\n".join(lines))
    for kind in ("parquet", "csv"):
        files = {split: f"{split}.{kind}" for split in ("train", "dev", "test")}
        task = Task(name="m", kind="multilabel", metric="micro_f1", folder=str(tmp_path), **files)
        assert task.load().splits["train"].gold.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_the_name_of_a_subset_says_its_sizes():
    assert TERMS.subset(64, seed=0).name == "terms@64"
    assert TERMS.subset(64, seed=3, dev_rows=16, test_rows=8).name == "terms@64d16t8.3"
