"""What a study will take, before it is run: runs, hours, memory."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from study.core.spec import SpecError
from study.models.families import depths_of
from study.models.loading import meta_model
from study.planning.runs import Cell, Run
from study.tasks.kinds import KINDS
from study.tasks.task import SPLITS

EFFICIENCY = 0.5  # share of a plain matrix product's speed that training reaches
GPU_FLOPS = 2e13  # a guess for a GPU that is elsewhere; said to be one wherever it is shown
WORDS_TO_TOKENS = 1.4
PATCHES = 196  # of a picture, as ViT-base cuts it
PROCESS_BYTES = 600e6  # a worker with its libraries, before the first model


@dataclass(frozen=True)
class Expected:
    """What one run of a cell will take.

    Attributes:
        seconds: On one worker.
        memory: Bytes at least, on the device that holds the model; activations come on top.
        basis: `measured` on this cell, `similar` cells of the same task and model, or `rough`, from
            the sizes of model and data.
    """

    seconds: float
    memory: float
    basis: str


def expect(
    cells: Iterable[Cell], seen: Mapping[str, list[float]], *, gpus: float
) -> dict[str, Expected]:
    """What a run of each cell will take.

    Args:
        cells: The study's.
        seen: Seconds of finished runs by cell key.
        gpus: Share of a GPU per run; 0 for CPUs.
    """
    cells = list(cells)
    alike: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        alike.setdefault((cell.task.name, cell.model.name), []).extend(seen.get(cell.key, []))
    expected = {}
    for cell in cells:
        own, similar = seen.get(cell.key, []), alike[cell.task.name, cell.model.name]
        guess = rough(cell, gpus=gpus)
        if own:
            guess = replace(guess, seconds=float(np.mean(own)), basis="measured")
        elif similar:
            guess = replace(guess, seconds=float(np.mean(similar)), basis="similar")
        expected[cell.key] = guess
    return expected


def rough(cell: Cell, *, gpus: float) -> Expected:
    """What a run will take, from the sizes of model and data, or their published sizes.

    Args:
        cell: Its checkpoint and data need not be at hand.
        gpus: Share of a GPU per run; 0 for CPUs.

    Raises:
        SpecError: If neither the sizes nor published ones are known.
    """
    weights, parameters = _sizes(cell)
    recipe = cell.technique.recipe(cell.recipe)
    tokens = _tokens(cell, recipe.max_length)
    trained = recipe.epochs * tokens["train"]
    evaluated = recipe.epochs * tokens["dev"] + tokens["test"]
    # Kaplan et al. 2020, section 2.1: 6 operations per weight and token trained on, 2 per token
    # evaluated, without embeddings and attention products.
    operations = weights * (6 * trained + 2 * evaluated)
    # Weights, gradients and both of Adam's moments as float32.
    memory = 16.0 * parameters + (0.0 if gpus else PROCESS_BYTES)
    return Expected(operations / (GPU_FLOPS if gpus else _speed()), memory, "rough")


def at_once(runs: list[Run], gpus: float, workers: int | None) -> int:
    """Runs that this machine can hold at once; a cluster may hold more.

    Args:
        runs: Which.
        gpus: Share of a GPU per run.
        workers: An upper limit; None for none.
    """
    threads = max((run.recipe.threads for run in runs), default=1)
    room = (os.cpu_count() or 1) // threads
    if gpus:
        room = min(room, int(torch.cuda.device_count() / gpus))
    return max(1, min(workers or room, room, len(runs)))


def total_seconds(runs: Iterable[Run], expected: Mapping[str, Expected]) -> float:
    """Seconds that these runs will take on one worker."""
    return sum(expected[run.cell.key].seconds for run in runs)


def _tokens(cell: Cell, max_length: int) -> dict[str, float]:
    """Tokens of each split, from the rows or from what was published of them."""
    task = cell.task
    try:
        splits = task.load().splits
    except SpecError:
        if task.published is None:
            raise
        *rows, words = task.published
        limits = (task.train_rows, task.dev_rows, task.test_rows)
        each = min(words * WORDS_TO_TOKENS + 3, max_length)
        return {
            name: each * (limit or count)
            for name, count, limit in zip(SPLITS, rows, limits, strict=True)
        }
    tokens = {}
    for name, split in splits.items():
        counts = np.array([_words(text) for text in split.text])
        if split.text_pair:
            counts = counts + np.array([_words(text) for text in split.text_pair])
        tokens[name] = float(np.minimum(counts * WORDS_TO_TOKENS + 3, max_length).sum())
    return tokens


def _words(text: Any) -> int:
    """Words of a text or a list of words; a picture counts as one patch in each of 14 x 14."""
    if isinstance(text, bytes):
        return PATCHES
    return len(text.split() if isinstance(text, str) else text)


def _sizes(cell: Cell) -> tuple[int, int]:
    """Weights that every token passes through, and all parameters."""
    try:
        model = meta_model(cell.model, KINDS[cell.task.kind])
    except SpecError:
        if cell.model.parameters is None:
            raise
        return cell.model.parameters, cell.model.parameters  # somewhat more than the former
    depths = depths_of(model)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    return sum(n for name, n in sizes.items() if depths.of(name) > 0), sum(sizes.values())


@cache
def _speed() -> float:
    """Operations per second of one thread here, measured in a tenth of a second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a, b = torch.ones(384, 384), torch.ones(384, 1536)
        a @ b
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < 0.1:
            a @ b
            count += 1
        return EFFICIENCY * count * 2 * 384 * 384 * 1536 / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
