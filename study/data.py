"""Reading rows, tokenising them, and cutting them into batches."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from study.kinds import Kind
from study.seeding import Seed, numpy_rng
from study.spec import Mistake, SpecError, did_you_mean

WINDOW = 4  # batches whose rows are sorted by length together; more saves padding, mixes less


# --- rows -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """A table as read: the columns asked for, and where each row came from.

    Attributes:
        source: File or hub name, for messages.
        ids: One id per row; row numbers where the data has none.
        columns: Values per column name.
        numbers: Row (JSONL: line) number of each row in the source, counted from 1.
    """

    source: str
    ids: list[str]
    columns: dict[str, list[Any]]
    numbers: list[int]

    def where(self, index: int) -> str:
        """The place of a row in its source, for messages."""
        return f"{self.source}, row {self.numbers[index]}"

    def take(self, chosen: list[int]) -> "Rows":
        """The rows at these indices."""
        return Rows(
            self.source,
            [self.ids[i] for i in chosen],
            {name: [values[i] for i in chosen] for name, values in self.columns.items()},
            [self.numbers[i] for i in chosen],
        )


def resolve(source: str, folders: list[str]) -> str | Path:
    """Find the file that a task names.

    Args:
        source: As in `Task.train`.
        folders: Where relative paths are tried before the working directory.

    Raises:
        SpecError: If there is no such file, with the places that were tried.
    """
    if source.startswith("hf:"):
        return source
    if source.startswith("bundled:"):
        return Path(str(resources.files("study") / "bundled" / source.removeprefix("bundled:")))
    tried = dict.fromkeys(Path(folder).resolve() for folder in (*folders, "."))
    for folder in tried:
        if (path := Path(folder, source)).is_file():
            return path
    places = ", ".join(map(str, tried))
    hint = "" if folders else " Name its folder in the study's `data` or in STUDY_DATA."
    raise SpecError("data", [Mistake(source, f"no such file in {places}.{hint}")])


def read_rows(source: str | Path, columns: list[str], *, id_column: str, split: str) -> Rows:
    """Read JSONL, CSV, Parquet or a hub data set.

    Args:
        source: A file, or a name on the hub.
        columns: The texts' columns and, last, the label's.
        id_column: Column with ids; where it is absent rows are named by split and number.
        split: `train`, `dev` or `test`.

    Raises:
        SpecError: With every broken line, missing column and empty value.
    """
    records, numbers = _records(source)
    name = str(source)
    if not records:
        raise SpecError("data", [Mistake(name, "has no rows.")])
    known = sorted(set().union(*records))
    absent = [column for column in columns if column not in known]
    if absent:
        mistakes = [
            Mistake(f"{name}, column {c!r}", f"no such column. {did_you_mean(c, known)}")
            for c in absent
        ]
        raise SpecError("data", mistakes)
    wrong = []
    for record, number in zip(records, numbers, strict=True):
        for column in columns:
            value, where = record.get(column), f"{name}, row {number}, {column}"
            if value is None or value == "" or value != value:  # NaN is not itself
                wrong.append(Mistake(where, "is empty."))
            elif column != columns[-1] and not isinstance(value, str):
                wrong.append(Mistake(where, f"{value!r} is not text."))
    if wrong:
        raise SpecError("data", wrong[:10])
    ids = [
        str(record.get(id_column, f"{split}-{number}"))
        for record, number in zip(records, numbers, strict=True)
    ]
    return Rows(name, ids, {c: [record[c] for record in records] for c in columns}, numbers)


def _records(source: str | Path) -> tuple[list[dict[str, Any]], list[int]]:
    if isinstance(source, str):
        frame_rows = _hub_rows(source)
        return frame_rows, list(range(1, len(frame_rows) + 1))
    kinds = source.name.removesuffix(".gz").rsplit(".", 1)[-1]
    if kinds in ("jsonl", "json"):
        return _json_lines(source)
    import pandas as pd  # not needed for the bundled data

    if kinds == "csv":
        try:
            frame = pd.read_csv(source, dtype=str, keep_default_na=False)
        except pd.errors.EmptyDataError:
            return [], []
        except (pd.errors.ParserError, UnicodeDecodeError) as error:
            raise SpecError("data", [Mistake(str(source), f"is not UTF-8 CSV: {error}")]) from error
    elif kinds == "parquet":
        frame = pd.read_parquet(source)
    else:
        text = f"unknown kind of file {kinds!r}; JSONL, CSV and Parquet are read."
        raise SpecError("data", [Mistake(str(source), text)])
    records = [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
    return records, list(range(1, len(records) + 1))


def _json_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    records, numbers, mistakes = [], [], []
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for number, coded in enumerate(lines, start=1):
            try:
                line = coded.decode()
            except UnicodeDecodeError as error:
                text = f"is not UTF-8: {error.reason} at byte {error.start + 1}."
                mistakes.append(Mistake(f"{path}, row {number}", text))
                continue
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                text = f"is broken JSON: {error.msg} at character {error.pos + 1}."
                mistakes.append(Mistake(f"{path}, row {number}", text))
                continue
            if not isinstance(record, dict):
                mistakes.append(Mistake(f"{path}, row {number}", "is not a JSON object."))
                continue
            records.append(record)
            numbers.append(number)
    if mistakes:
        raise SpecError("data", mistakes[:10])
    return records, numbers


def _hub_rows(source: str) -> list[dict[str, Any]]:
    name, _, split = source.removeprefix("hf:").rpartition(":")
    owner_and_name, config = name.rsplit("/", 1) if name.count("/") == 2 else (name, None)
    try:
        import datasets
    except ImportError as error:
        text = "needs the `datasets` package: pip install 'finetuning-stability[hub]'."
        raise SpecError("data", [Mistake(source, text)]) from error
    try:
        loaded = datasets.load_dataset(owner_and_name, config, split=split)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        text = f"cannot be loaded from the hub: {reason}"
        raise SpecError("data", [Mistake(source, text)]) from error
    classes = {
        column: feature.names
        for column, feature in loaded.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    return [
        {k: classes[k][v] if k in classes and v >= 0 else v for k, v in row.items()}
        for row in loaded
    ]


# --- tokens -----------------------------------------------------------------------------------


class Encoded(NamedTuple):
    """A tokenised split: ragged rows, stored flat.

    Attributes:
        ids: Example ids.
        labels: Class ids (int64) or values (float32), shape (n_examples,).
        starts: Where each row starts in the flat columns, and the end, shape (n_examples + 1,).
        columns: Flat model inputs by name, such as `input_ids` and `token_type_ids`.
        pad: The padding value per column.
    """

    ids: list[str]
    labels: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[np.int64]]
    pad: dict[str, int]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per row, shape (n_examples,)."""
        return np.diff(self.starts)


def encode(split: Any, tokenizer: Any, max_length: int) -> Encoded:
    """Tokenise a split; segment ids stay with their pair.

    Args:
        split: A `tasks.Split`.
        tokenizer: A fast Hugging Face tokenizer.
        max_length: Tokens per row at most; longer rows lose the end of their longer segment.
    """
    tokens = tokenizer(split.text, split.text_pair, truncation=True, max_length=max_length)
    pads = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    names = [name for name in ("input_ids", "token_type_ids") if name in tokens]
    lengths = [len(row) for row in tokens["input_ids"]]
    columns = {n: np.concatenate([np.asarray(row, np.int64) for row in tokens[n]]) for n in names}
    labels = split.labels.astype(np.float32) if split.labels.dtype.kind == "f" else split.labels
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Encoded(split.ids, labels, starts, columns, {n: pads[n] for n in names})


class Prepared(NamedTuple):
    """A task's data as training takes it.

    Attributes:
        splits: `train`, `dev` and `test`, tokenised.
        kind: What a model's outputs for it mean.
    """

    splits: dict[str, Encoded]
    kind: Kind


def prepare(rows: Any, tokenizer: Any, max_length: int) -> Prepared:
    """Tokenise all splits of a `tasks.TaskData`."""
    splits = {name: encode(split, tokenizer, max_length) for name, split in rows.splits.items()}
    return Prepared(splits, rows.kind)


# --- batches ----------------------------------------------------------------------------------

Batch = dict[str, torch.Tensor]


def collate(data: Encoded, rows: npt.NDArray[np.int64]) -> Batch:
    """One batch, padded to its own longest row.

    Returns:
        The model's inputs, shape (n_rows, longest), `attention_mask`, and `labels` (n_rows,).
    """
    lengths = data.lengths[rows]
    longest = int(lengths.max())
    inside = np.arange(longest) < lengths[:, None]  # (n_rows, longest)
    places = np.where(inside, data.starts[rows][:, None] + np.arange(longest), 0)
    batch = {
        name: torch.from_numpy(np.where(inside, flat[places], data.pad[name]))
        for name, flat in data.columns.items()
    }
    batch["attention_mask"] = torch.from_numpy(inside.astype(np.int64))
    batch["labels"] = torch.from_numpy(np.ascontiguousarray(data.labels[rows]))
    return batch


def training_batches(
    data: Encoded, *, batch_size: int, by_length: bool, seed: Seed, epoch: int
) -> Iterator[Batch]:
    """The batches of one epoch, in the order that the `order` stream draws.

    Args:
        data: The training split.
        batch_size: Rows per batch; the last one may be smaller.
        by_length: Sort rows by length inside windows of a few batches of the permutation, then
            shuffle the batches; off, a plain shuffle.
        seed: The run's seeds; only `order` is used.
        epoch: Counted over all phases of the run; each has its own permutation.
    """
    rng = numpy_rng(seed, "order", epoch)
    order = rng.permutation(len(data.ids))
    if by_length:
        window = WINDOW * batch_size
        parts = [order[i : i + window] for i in range(0, len(order), window)]
        order = np.concatenate([p[np.argsort(data.lengths[p], kind="stable")] for p in parts])
    cuts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    turns = rng.permutation(len(cuts)) if by_length else np.arange(len(cuts))
    for turn in turns:
        yield collate(data, cuts[turn])


def evaluation_batches(
    data: Encoded, batch_size: int
) -> Iterator[tuple[npt.NDArray[np.int64], Batch]]:
    """All rows, longest first, with their indices; always the same."""
    order = np.argsort(-data.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, collate(data, rows)
