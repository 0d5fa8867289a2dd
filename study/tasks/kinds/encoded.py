"""Encoded rows, and how they are cut into batches."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from study.core.seeding import Seed, numpy_rng

WINDOW = 4  # batches whose rows are sorted by length together; more saves padding, mixes less
TARGETS = ("labels", "start_positions", "end_positions")  # what only the loss reads
Ints = npt.NDArray[np.int64]
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Encoded:
    """A split as a model takes it: ragged columns stored flat, and rectangular arrays.

    A row is what a batch is made of. It is an example, but for long contexts, of which several
    overlapping windows are rows. A unit is what has an output of its own: a row, a word, a token.

    Attributes:
        ids: Example ids.
        gold: What is right, one entry per example; its type is the kind's.
        starts: Where each row starts in the flat columns, and the end, shape (n_rows + 1,).
        units: Where each row's outputs start among all outputs, and the end, shape (n_rows + 1,).
        columns: Flat model inputs by name, such as `input_ids`; `labels` among them for tagging.
        pad: The padding value per column.
        arrays: Model inputs and targets of fixed shape, first axis n_rows.
        aside: What turning outputs into answers takes, and no model sees; arrays by name.
        texts: Per example the text that answers are cut from; empty for most kinds.
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
    """One batch, padded to its own longest row.

    Returns:
        The model's inputs, shape (n_rows, longest), with `attention_mask` for texts, and targets.
    """
    batch = {}
    if data.columns:
        lengths = data.lengths[rows]
        longest = int(lengths.max())
        inside = np.arange(longest) < lengths[:, None]  # (n_rows, longest)
        places = np.where(inside, data.starts[rows][:, None] + np.arange(longest), 0)
        for name, flat in data.columns.items():
            batch[name] = torch.from_numpy(np.where(inside, flat[places], data.pad[name]))
        batch["attention_mask"] = torch.from_numpy(inside.astype(np.int64))
    for name, array in data.arrays.items():
        batch[name] = torch.from_numpy(np.ascontiguousarray(array[rows]))
    if data.pixels is not None:
        mean, deviation = (torch.tensor(side)[:, None, None] for side in data.pixels)
        batch["pixel_values"] = (batch["pixel_values"].float() - mean) / deviation
    return batch


def training_batches(
    data: Encoded, *, batch_size: int, by_length: bool, seed: Seed, epoch: int, skip: int = 0
) -> Iterator[Batch]:
    """The batches of one epoch, in the order that the `order` stream draws.

    Args:
        data: The training split.
        batch_size: Rows per batch; the last one may be smaller.
        by_length: Sort rows by length inside windows of a few batches of the permutation, then
            shuffle the batches; off, a plain shuffle.
        seed: The run's seeds; only `order` is used.
        epoch: Counted over all phases of the run; each has its own permutation.
        skip: Batches at its beginning that are left out.
    """
    rng = numpy_rng(seed, "order", epoch)
    order = rng.permutation(data.rows)
    if by_length:
        window = WINDOW * batch_size
        parts = [order[i : i + window] for i in range(0, len(order), window)]
        order = np.concatenate([p[np.argsort(data.lengths[p], kind="stable")] for p in parts])
    cuts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    turns = rng.permutation(len(cuts)) if by_length else np.arange(len(cuts))
    for turn in turns[skip:]:
        yield collate(data, cuts[turn])


def evaluation_batches(data: Encoded, batch_size: int) -> Iterator[tuple[Ints, Batch]]:
    """All rows, longest first, with their indices; always the same."""
    order = np.argsort(-data.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, collate(data, rows)
