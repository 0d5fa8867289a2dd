"""Estimates of a study's running time and memory before it is run."""

import math
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
from study.planning.memory import PLAIN, predicted_split
from study.planning.runs import Cell, Run
from study.tasks import Task
from study.tasks.kinds import KINDS
from study.tasks.task import SPLITS
from study.training.memory import MemorySplit
from study.training.savers import MemorySavers

EFFICIENCY = 0.5  # speed of training relative to a plain matrix product
GPU_FLOPS = 2e13  # a guess, since the GPU is on another machine; shown with basis `rough`
WORDS_TO_TOKENS = 1.4
START_SECONDS = 20.0  # until the first run: Ray, and what workers import; on two idle cores
PATCHES = 196  # per image, as in ViT-base
PROCESS_BYTES = 600e6  # memory of a worker process with its libraries, before a model is loaded


@dataclass(frozen=True)
class Estimate:
    """Expected time and memory of one run of a cell.

    Attributes:
        seconds: On one worker.
        memory: Bytes on the device with the model: the peak of a finished run of this cell; else
            what its step holds, predicted from shapes (the peak is larger by what operations need
            while they run); else a lower bound without activations. NaN where it was not asked for.
        basis: Of the seconds: `measured` on runs of this cell, `similar` from other cells of the
            same task and model, or `rough` from the sizes of model and data.
        peak: Whether `memory` is a peak that was measured.
        predicted: Whether it is predicted, with activations.
        process: Whether it is of a whole process, with its libraries, as for runs on a CPU.
    """

    seconds: float
    basis: str
    memory: float = math.nan
    peak: bool = False
    predicted: bool = False
    process: bool = False


def estimate_runs(
    cells: Iterable[Cell],
    measured: Mapping[str, list[float]],
    *,
    gpus: float,
    peaks: Mapping[str, float] | None = None,
    savers: MemorySavers = PLAIN,
) -> dict[str, Estimate]:
    """Estimate a run of each cell.

    Args:
        cells: The study's cells.
        measured: Seconds of finished runs by cell key.
        gpus: GPUs per run; 0 for CPUs.
        peaks: Peak memory of finished runs in bytes by cell key; NaN where unknown. None estimates
            no memory.
        savers: How runs need less memory.

    Returns:
        Estimates by cell key.
    """
    cells = list(cells)
    pooled: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        pooled.setdefault((cell.task.name, cell.model.name), []).extend(measured.get(cell.key, []))
    estimates = {}
    for cell in cells:
        own, similar = measured.get(cell.key, []), pooled[cell.task.name, cell.model.name]
        estimate = rough_estimate(cell, gpus=gpus)
        if own:
            estimate = replace(estimate, seconds=float(np.mean(own)), basis="measured")
        elif similar:
            estimate = replace(estimate, seconds=float(np.mean(similar)), basis="similar")
        if peaks is not None:
            peak = peaks.get(cell.key, math.nan)
            estimate = _with_memory(estimate, cell, peak, savers, gpu=gpus > 0)
        estimates[cell.key] = estimate
    return estimates


def rough_estimate(cell: Cell, *, gpus: float) -> Estimate:
    """Estimate a run's time from the sizes of model and data, or from their published sizes.

    Args:
        cell: Its checkpoint and data need not be available.
        gpus: GPUs per run; 0 for CPUs.

    Raises:
        SpecError: If neither actual nor published sizes are available.
    """
    weights, _ = _sizes(cell)
    recipe = cell.technique.recipe(cell.recipe)
    tokens = _tokens(cell.task, recipe.max_length)
    passes = float(recipe.epochs)
    if recipe.steps is not None:
        passes = recipe.steps * recipe.batch_size / _training_rows(cell.task)
    trained = passes * tokens["train"]
    evaluated = math.ceil(passes) * tokens["dev"] + tokens["test"]
    evaluated += sum(_tokens(task, recipe.max_length)["test"] for task in cell.retains)
    # Kaplan et al. 2020, section 2.1: 6 operations per weight and token trained on, 2 per token
    # evaluated, without embeddings and attention products.
    operations = weights * (6 * trained + 2 * evaluated)
    return Estimate(operations / (GPU_FLOPS if gpus else _speed()), "rough")


def _with_memory(
    estimate: Estimate, cell: Cell, peak: float, savers: MemorySavers, *, gpu: bool
) -> Estimate:
    """The estimate with the measured peak; else with what is predicted, or a lower bound."""
    if math.isfinite(peak):
        return replace(estimate, memory=peak, peak=True, process=not gpu)
    split = _predicted(cell, savers, gpu=gpu)
    # Without a prediction weights, gradients and both of Adam's moments as float32.
    memory = sum(split) if split else 16.0 * _sizes(cell)[1]
    if not gpu:  # a worker keeps the pretrained weights as well
        memory += PROCESS_BYTES + (split.weights if split else 0)
    return replace(estimate, memory=memory, predicted=split is not None, process=not gpu)


def _predicted(cell: Cell, savers: MemorySavers, *, gpu: bool) -> MemorySplit | None:
    """What a step of its largest batch holds; None where checkpoint or data are not here."""
    recipe, kind = cell.technique.recipe(cell.recipe), cell.task.kind
    try:
        length = longest_row(cell.task, recipe.max_length)
        return predicted_split(
            cell.model, kind, recipe, cell.technique, savers, length=length, gpu=gpu
        )
    except SpecError:
        return None


def max_concurrent(runs: list[Run], gpus: float, workers: int | None) -> int:
    """Number of runs that this machine can execute at the same time; a cluster may have more.

    Args:
        runs: The runs; the largest `threads` among them counts.
        gpus: GPUs per run.
        workers: An upper limit; None for none.
    """
    threads = max((run.recipe.threads for run in runs), default=1)
    capacity = (os.cpu_count() or 1) // threads
    if gpus:
        capacity = min(capacity, int(torch.cuda.device_count() / gpus))
    return max(1, min(workers or capacity, capacity, len(runs)))


def total_seconds(runs: Iterable[Run], estimates: Mapping[str, Estimate]) -> float:
    """Total seconds of these runs on one worker; estimates by cell key."""
    return sum(estimates[run.cell.key].seconds for run in runs)


def _tokens(task: Task, max_length: int) -> dict[str, float]:
    """Number of tokens in each split, from the rows or from their published number."""
    try:
        splits = task.load().splits
    except SpecError:
        if task.published is None:
            raise
        *rows, words = task.published
        limits = (task.train_rows, task.dev_rows, task.test_rows)
        per_row = min(words * WORDS_TO_TOKENS + 3, max_length)
        return {
            name: per_row * (limit or count)
            for name, count, limit in zip(SPLITS, rows, limits, strict=True)
        }
    tokens = {}
    for name, split in splits.items():
        counts = np.array([_words(text) for text in split.text])
        if split.text_pair:
            counts = counts + np.array([_words(text) for text in split.text_pair])
        tokens[name] = float(np.minimum(counts * WORDS_TO_TOKENS + 3, max_length).sum())
    return tokens


def _training_rows(task: Task) -> int:
    """Number of training rows, or their published number."""
    try:
        return len(task.load().splits["train"].ids)
    except SpecError:
        if task.published is None:
            raise
        return task.train_rows or task.published[0]


def longest_row(task: Task, max_length: int) -> int:
    """Tokens of the longest training row, roughly.

    Raises:
        SpecError: If the data are not here.
    """
    split = task.load().splits["train"]
    pairs = split.text_pair or [""] * len(split.text)
    words = max(_words(one) + len(two.split()) for one, two in zip(split.text, pairs, strict=True))
    return min(max_length, int(words * WORDS_TO_TOKENS) + 3)


def _words(text: Any) -> int:
    """Number of words of a text, words or messages; of an image, the number of patches."""
    if isinstance(text, bytes):
        return PATCHES
    if isinstance(text, tuple):
        return sum(_words(content) for _, content in text)
    return len(text.split() if isinstance(text, str) else text)


def _sizes(cell: Cell) -> tuple[int, int]:
    """Number of weights above the embeddings, which every token passes through, and of all."""
    try:
        model = meta_model(cell.model, KINDS[cell.task.kind])
    except SpecError:
        if cell.model.parameters is None:
            raise
        return cell.model.parameters, cell.model.parameters  # slightly too many for the former
    depths = depths_of(model)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    return sum(n for name, n in sizes.items() if depths.of(name) > 0), sum(sizes.values())


@cache
def _speed() -> float:
    """Operations per second of one thread on this machine, measured for 0.1 seconds."""
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
