"""Encoding a task's data for a checkpoint, with a cache on disk."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from study.core.atomic import atomic
from study.core.spec import Mistake, SpecError, digest
from study.models.loading import meta_model
from study.models.loading import processor as processor_of
from study.models.model import Model
from study.tasks import TaskData
from study.tasks.kinds import Kind, Split
from study.tasks.kinds.encoded import Encoded, Ints
from study.training.row_checks import (
    pixel_mistakes,
    processor_mistakes,
    text_mistakes,
    token_mistakes,
)
from study.training.truncation import Truncation, truncation

ENCODERS = ("tokenizers", "transformers", "pillow")
# Of the cache; raise it with every change of `kinds` that changes encoded data, and with every new
# check of it: what is in the cache is not checked again.
FORMAT = 5


class Prepared(NamedTuple):
    """A task's encoded data.

    Attributes:
        splits: `train`, `dev` and `test`, encoded.
        kind: What the outputs of a model for it mean.
        truncation: What the maximum length cut; None for kinds without truncation.
    """

    splits: dict[str, Encoded]
    kind: Kind
    truncation: Truncation | None = None


def prepare(data: TaskData, processor: Any, max_length: int) -> Prepared:
    """Encode all splits.

    Args:
        data: The task's rows.
        processor: The checkpoint's tokenizer or image processor, from `models.loading`.
        max_length: Tokens per row at most.
    """
    splits = {
        name: data.kind.encode(
            _encoded(name, split, data.kind),
            processor,
            max_length=max_length,
            truncate=data.truncate,
        )
        for name, split in data.splits.items()
    }
    lengths = full_lengths(data, processor)
    cut = None if lengths is None else truncation(lengths, max_length)
    return Prepared(splits, data.kind, cut)


def _encoded(name: str, split: Split, kind: Kind) -> Split:
    """What is encoded of a split."""
    return kind.trained_on(split) if name == "train" else split


def full_lengths(data: TaskData, processor: Any) -> Ints | None:
    """Tokens per row of all splits without truncation; None for kinds without truncation."""
    found = [data.kind.full_lengths(split, processor) for split in data.splits.values()]
    known = [lengths for lengths in found if lengths is not None]
    return np.concatenate(known) if known else None


def prepare_once(data: TaskData, model: Model, max_length: int, folder: Path | None) -> Prepared:
    """Encode all splits, or read them where they were encoded for this checkpoint before.

    Args:
        data: The task's rows.
        model: The checkpoint.
        max_length: Tokens per row at most.
        folder: Has one file per combination of rows, checkpoint and length; created if absent.
            None neither reads nor writes.

    Raises:
        SpecError: If the rows do not fit the checkpoint or the length; every run would fail.
    """
    file = folder and cache_file(data, model, max_length, folder)
    if file and file.is_file():
        with np.load(file, allow_pickle=False) as opened:
            stored = dict(opened)
        splits = {
            part: _unflatten(stored, f"{part}/", _encoded(part, split, data.kind), data.kind)
            for part, split in data.splits.items()
        }
        return Prepared(splits, data.kind, _read_truncation(stored))
    processor = processor_of(model, type(data.kind))
    config, image = meta_model(model, type(data.kind)).config, data.kind.name == "image"
    before = processor_mistakes(processor) if image else text_mistakes(data, processor, max_length)
    _refuse(model, before)
    prepared = prepare(data, processor, max_length)
    if image:
        _refuse(model, pixel_mistakes(prepared.splits, config))
    else:
        _refuse(model, token_mistakes(data, prepared.splits, processor, config))
    if file:
        with atomic(file) as partial, partial.open("wb") as stream:
            np.savez(stream, **_flatten(prepared.splits), truncation=prepared.truncation or ())
    return prepared


def cache_file(data: TaskData, model: Model, max_length: int, folder: Path) -> Path:
    """Where `prepare_once` keeps these rows, which fit the checkpoint if the file exists."""
    name = digest(
        {
            "format": FORMAT,
            "kind": repr(data.kind),  # with what targets are standardised by
            "data": data.fingerprint,
            "model": model.identity(),
            "max_length": max_length,
            "truncate": data.truncate,
            "versions": [importlib.metadata.version(name) for name in ENCODERS],
        }
    )
    return folder / f"{name}.npz"


def truncation_of(
    data: TaskData, model: Model, max_length: int, folder: Path | None
) -> Truncation | None:
    """What `prepare_once` with the same arguments cuts, without encoding all rows again."""
    file = folder and cache_file(data, model, max_length, folder)
    if file and file.is_file():
        with np.load(file, allow_pickle=False) as stored:  # reads only what is asked for
            return _read_truncation(stored)
    lengths = full_lengths(data, processor_of(model, type(data.kind)))
    return None if lengths is None else truncation(lengths, max_length)


def _read_truncation(stored: Mapping[str, Any]) -> Truncation | None:
    if not stored["truncation"].size:
        return None
    rows, tokens, proposed = stored["truncation"].tolist()
    return Truncation(rows, tokens, int(proposed))


def _refuse(model: Model, mistakes: list[Mistake]) -> None:
    if mistakes:
        raise SpecError(f"the data for model {model.name!r}", mistakes)


def _flatten(splits: Mapping[str, Encoded]) -> dict[str, Any]:
    """The arrays of all splits, by names such as `train/columns/input_ids`."""
    arrays: dict[str, Any] = {}
    for part, encoded in splits.items():
        arrays |= {f"{part}/starts": encoded.starts, f"{part}/units": encoded.units}
        for group in ("columns", "arrays", "aside"):
            named = getattr(encoded, group).items()
            arrays |= {f"{part}/{group}/{name}": array for name, array in named}
        arrays |= {f"{part}/pad/{name}": np.array(value) for name, value in encoded.pad.items()}
        if encoded.pixels is not None:
            arrays[f"{part}/pixels"] = np.array(encoded.pixels)
    return arrays


def _unflatten(stored: Mapping[str, Any], prefix: str, split: Split, kind: Kind) -> Encoded:
    own = {
        name.removeprefix(prefix): array
        for name, array in stored.items()
        if name.startswith(prefix)
    }

    def group(name: str) -> dict[str, Any]:
        return {k.removeprefix(f"{name}/"): v for k, v in own.items() if k.startswith(f"{name}/")}

    pixels = own.get("pixels")
    return Encoded(
        split.ids,
        kind.references(split),
        own["starts"],
        own["units"],
        group("columns"),
        {name: int(value) for name, value in group("pad").items()},
        group("arrays"),
        group("aside"),
        kind.contexts(split),
        None if pixels is None else (tuple(pixels[0].tolist()), tuple(pixels[1].tolist())),
    )
