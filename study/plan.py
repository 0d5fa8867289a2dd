"""What a study will take, before it is run: runs, hours, memory."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from study.kinds import KINDS
from study.models import depths_of, hollow
from study.study import Cell, Run

EFFICIENCY = 0.5  # share of a plain matrix product's speed that training reaches
GPU_FLOPS = 2e13  # a guess for a GPU that is elsewhere; said to be one wherever it is shown
WORDS_TO_TOKENS = 1.4
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
        memory = _memory(cell, gpus)
        if own:
            expected[cell.key] = Expected(float(np.mean(own)), memory, "measured")
        elif similar:
            expected[cell.key] = Expected(float(np.mean(similar)), memory, "similar")
        else:
            speed = GPU_FLOPS if gpus else _speed()
            expected[cell.key] = Expected(_operations(cell) / speed, memory, "rough")
    return expected


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


def _operations(cell: Cell) -> float:
    """Floating-point operations of a run: 6 per weight and token trained on, 2 per evaluated.

    Source: Kaplan et al. 2020, section 2.1, without embeddings and attention products.
    """
    weights, _ = _sizes(cell)
    splits = cell.task.load().splits
    recipe = cell.technique.recipe(cell.recipe)
    tokens = {}
    for name, split in splits.items():
        words = [len(text.split()) for text in split.text]
        if split.text_pair:
            words = [a + len(b.split()) for a, b in zip(words, split.text_pair, strict=True)]
        each = np.minimum(np.array(words) * WORDS_TO_TOKENS + 3, recipe.max_length)
        tokens[name] = float(each.sum())
    trained = recipe.epochs * tokens["train"]
    evaluated = recipe.epochs * tokens["dev"] + tokens["test"]
    return weights * (6 * trained + 2 * evaluated)


def _memory(cell: Cell, gpus: float) -> float:
    """Weights, gradients and both of Adam's moments as float32; activations come on top."""
    _, parameters = _sizes(cell)
    return 16.0 * parameters + (0.0 if gpus else PROCESS_BYTES)


def _sizes(cell: Cell) -> tuple[int, int]:
    """Weights that every token passes through, and all parameters."""
    model = hollow(cell.model, KINDS[cell.task.kind])
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
