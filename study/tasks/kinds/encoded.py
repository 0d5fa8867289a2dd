"""Encoded data, and batches for training and evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from study.core.seeding import Seed, numpy_rng

WINDOW = 4  # batches sorted by length together; more saves padding but shuffles less
TARGETS = ("labels", "start_positions", "end_positions")  # inputs that only the loss reads
Ints = npt.NDArray[np.int64]
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Encoded:
    """An encoded split: ragged columns stored flat, and rectangular arrays.

    *Rows* make up a batch. A row is one example, except for long contexts, which are split into
    several overlapping windows, a row each. *Units* are what has its own output: a row, a word, a
    token.

    Attributes:
        ids: Example ids.
        gold: Gold answers, one per example; their type depends on the kind.
        starts: Start of each row in the flat columns, and the end, shape (n_rows + 1,).
        units: Start of each row's outputs among all outputs, and the end, shape (n_rows + 1,).
        columns: Flat model inputs by name, such as `input_ids`; includes `labels` for tagging.
        pad: The padding value per column.
        arrays: Model inputs and targets of fixed shape, first axis n_rows.
        aside: Arrays for decoding outputs that are not model inputs, by name.
        texts: The text that each example's answer is extracted from; empty for most kinds.
        pixels: Mean and standard deviation per channel, in [0, 255], of images stored as bytes.
    """

    ids: list[str]
    gold: Any
    starts: Ints
    units: Ints
    columns: dict[str, Ints] = field(default_factory=dict)
    pad: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    aside: dict[str, Ints] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    pixels: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> Ints:
        """Tokens per row, shape (n_rows,)."""
        return np.diff(self.starts)


def collate(data: Encoded, rows: Ints) -> Batch:
    """One batch, padded to its longest row.

    Returns:
        The model's inputs, shape (n_rows, longest), with `attention_mask` for texts, and targets.
    """
    batch = {}
    if data.columns:
        lengths = data.lengths[rows]
        longest = int(lengths.max())
        inside = np.arange(longest) < lengths[:, None]  # (n_rows, longest)
        indices = np.where(inside, data.starts[rows][:, None] + np.arange(longest), 0)
        for name, flat in data.columns.items():
            batch[name] = torch.from_numpy(np.where(inside, flat[indices], data.pad[name]))
        batch["attention_mask"] = torch.from_numpy(inside.astype(np.int64))
    for name, array in data.arrays.items():
        batch[name] = torch.from_numpy(np.ascontiguousarray(array[rows]))
    if data.pixels is not None:
        mean, deviation = (torch.tensor(side)[:, None, None] for side in data.pixels)
        batch["pixel_values"] = (batch["pixel_values"].float() - mean) / deviation
    return batch


def training_rows(
    data: Encoded, *, batch_size: int, by_length: bool, seed: Seed, epoch: int
) -> list[Ints]:
    """The rows of each batch of one epoch, in the order drawn from the `order` stream.

    Args:
        data: The training split.
        batch_size: Rows per batch; the last batch may be smaller.
        by_length: Sort rows by length within windows of `WINDOW` batches of the permutation, then
            shuffle the batches; False shuffles the rows only.
        seed: The run's seeds; only `order` is used.
        epoch: Counted over all phases of the run; each epoch has its own permutation.
    """
    rng = numpy_rng(seed, "order", epoch)
    order = rng.permutation(data.rows)
    if by_length:
        window = WINDOW * batch_size
        parts = [order[i : i + window] for i in range(0, len(order), window)]
        order = np.concatenate([p[np.argsort(data.lengths[p], kind="stable")] for p in parts])
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    sequence = rng.permutation(len(batches)) if by_length else np.arange(len(batches))
    return [batches[index] for index in sequence]


def padded_tokens(data: Encoded, rows: Ints) -> int:
    """Tokens of a batch of these rows, padding included."""
    return len(rows) * int(data.lengths[rows].max())


def evaluation_batches(data: Encoded, batch_size: int) -> Iterator[tuple[Ints, Batch]]:
    """All rows, longest first, with their indices; the order is deterministic."""
    order = np.argsort(-data.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, collate(data, rows)
