"""Options to train a study's models in less memory, side by side: bytes, time, exactness."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.models.families import Depths, depths_of
from study.models.loading import Loaded, meta_model
from study.models.model import Model
from study.planning.estimate import longest_row
from study.planning.memory import predicted_split
from study.planning.runs import as_written
from study.planning.study import Study
from study.tasks import Task, metrics
from study.tasks.kinds import KINDS
from study.tasks.kinds.encoded import Encoded, collate
from study.techniques import (
    LISA,
    Adafactor,
    Adam8bit,
    BAdam,
    BitFit,
    CompressedActivations,
    FreezeLower,
    GaLore,
    InterLayerScheduling,
    LoRA,
    Standard,
    Technique,
)
from study.training.fit import Setting, begin
from study.training.memory import (
    MemorySplit,
    out_of_memory,
    peak_memory,
    reset_peak_memory,
)
from study.training.prepare import prepare_once
from study.training.savers import MemorySavers, misfit
from study.training.step import one_step, start_phase, with_all_states

EXACT, ROUNDED = "exact", "exact, states rounded"
SOME, APPROXIMATE = "of some weights", "approximate"
EXACTNESS = (EXACT, ROUNDED)  # in this order; the others are less exact, and not comparable
ADAFACTOR_LR = 1e-3  # its rates are relative to the weights
SLIMFIT_RATES = (0.95, 0.9, 0.85, 0.8, 0.75)  # as published


@dataclass(frozen=True)
class Saving:
    """An option to train in less memory.

    Attributes:
        name: For display.
        technique: What to train with.
        recipe: The study's, with what the option needs.
        savers: How to run it.
        gradients: Whether gradients are those of full fine-tuning.
        rate: The freeze rate that distinguishes this from other options of the same kind; else 0.
    """

    name: str
    technique: Technique
    recipe: Recipe
    savers: MemorySavers = MemorySavers()
    gradients: str = EXACT
    rate: float = 0.0

    def paste(self) -> str:
        """The lines of a study file."""
        spec = {"recipe": self.recipe.canonical(), "technique": self.technique.canonical()}
        fields = [f"{name}=True," for name, used in self.savers._asdict().items() if used]
        return "\n".join([as_written(spec), *fields])


@dataclass
class Measurement:
    """What an option needs.

    Attributes:
        saving: The option.
        predicted: From shapes; None where unknown.
        measured: In real steps; None where none was run.
        seconds: Median of real steps; NaN where none was run.
        peak: Bytes that a GPU held at most; 0 elsewhere.
        failure: Why no step could be run; empty if one was, or none was asked for.
        on_front: Whether nothing else beats it, see `mark_front`.
    """

    saving: Saving
    predicted: MemorySplit | None
    measured: MemorySplit | None = None
    seconds: float = math.nan
    peak: int = 0
    failure: str = ""
    on_front: bool = False

    @property
    def total(self) -> float:
        """The most of what was predicted and measured, in bytes; NaN if neither is known.

        A prediction is of the largest draw of what is trained, and no step need have had it.
        """
        known = [sum(split) for split in (self.predicted, self.measured) if split]
        return float(max([*known, self.peak])) if known else math.nan


def largest_task(study: Study, model: Model) -> Task:
    """The task whose largest pass has the most tokens: rows of a batch times the longest row."""

    def tokens(task: Task) -> int:
        recipe = study.recipe_of(task)
        rows = recipe.micro_batch_size or recipe.batch_size
        return rows * longest_row(task, recipe.max_length)

    return max(study.located_tasks(), key=tokens)


def savings(task: Task, model: Model, recipe: Recipe) -> list[Saving]:
    """All options that fit a model and a task; the first one saves nothing.

    Args:
        task: Its kind counts.
        model: The checkpoint.
        recipe: The study's.
    """
    depths = depths_of(meta_model(model, KINDS[task.kind]))
    return [one for one in _savings(recipe, depths) if _fits(one, depths, task.kind)]


def _savings(recipe: Recipe, depths: Depths) -> Iterator[Saving]:
    recipe = recipe.replace(micro_batch_size=None)
    plain, free = Standard(), recipe.replace(clip_norm=None)
    checkpointing, both = MemorySavers(True), MemorySavers(True, True)
    yield Saving("full fine-tuning", plain, recipe)
    yield Saving("gradient checkpointing", plain, recipe, checkpointing)
    yield Saving("step in backward", plain, free, MemorySavers(False, True))
    yield Saving("checkpointing + step in backward", plain, free, both)
    for part in sorted({recipe.batch_size // 4, 1} - {0, recipe.batch_size}, reverse=True):
        parts = recipe.replace(micro_batch_size=part)
        yield Saving(f"micro-batches of {part}", plain, parts)
        yield Saving(f"micro-batches of {part} + checkpointing", plain, parts, checkpointing)
    yield Saving("8-bit Adam", Adam8bit(), recipe, gradients=ROUNDED)
    name = "8-bit Adam + checkpointing + step in backward"
    yield Saving(name, Adam8bit(), free, both, ROUNDED)
    relative = max(recipe.lr, ADAFACTOR_LR)
    yield Saving("Adafactor", Adafactor(), recipe.replace(lr=relative), gradients=ROUNDED)
    name = "Adafactor + checkpointing + step in backward"
    yield Saving(name, Adafactor(), free.replace(lr=relative), both, ROUNDED)
    yield Saving("GaLore", GaLore(), recipe, gradients=APPROXIMATE)
    name = "GaLore + checkpointing + step in backward"
    yield Saving(name, GaLore(), free, both, APPROXIMATE)
    for technique in (
        LoRA(),
        BitFit(),
        *([FreezeLower(layers=depths.layers // 2)] if depths.layers > 1 else []),
        LISA(),
        BAdam(),
        InterLayerScheduling(freeze_rate=0.9),
    ):
        yield Saving(technique.label, technique, recipe, gradients=SOME)
    compressed = CompressedActivations()
    yield Saving(compressed.label, compressed, recipe, gradients=APPROXIMATE)
    for rate in SLIMFIT_RATES:
        slimfit = InterLayerScheduling(freeze_rate=rate) + compressed
        name = f"SlimFit at {rate}"
        yield Saving(name, slimfit, recipe, gradients=APPROXIMATE, rate=rate)
    slimfit = InterLayerScheduling(freeze_rate=SLIMFIT_RATES[0]) + compressed
    name = f"SlimFit at {SLIMFIT_RATES[0]} + 8-bit Adam + step in backward"
    backward = MemorySavers(False, True)
    yield Saving(name, slimfit + Adam8bit(), free, backward, APPROXIMATE)


def _fits(saving: Saving, depths: Depths, kind: str) -> bool:
    recipe = saving.technique.recipe(saving.recipe)
    return not (
        saving.technique.objection(depths, kind) or misfit(saving.savers, saving.technique, recipe)
    )


def compared(
    study: Study,
    task: Task,
    model: Model,
    options: Sequence[Saving],
    *,
    steps: int,
    encoded: Path | None,
    tell: Callable[[str], None],
) -> list[Measurement]:
    """Predict, and run some steps of, options for a task and a model.

    Args:
        study: Its recipe and its `gpus` count.
        task: Its largest batch is trained on.
        model: The checkpoint.
        options: As `savings` lists them.
        steps: Steps that are timed, after one that is not; 0 runs none.
        encoded: The cache of encoded data; None keeps nothing.
        tell: Called with the name of each option before it is run.
    """
    recipe, gpu = study.recipe_of(task), study.gpus > 0
    prepared = prepare_once(task.load(), model, recipe.max_length, encoded)
    length = int(prepared.splits["train"].lengths.max())
    found = []
    for saving in options:
        own = saving.technique.recipe(saving.recipe)
        split = predicted_split(
            model, task.kind, own, saving.technique, saving.savers, length=length, gpu=gpu
        )
        found.append(Measurement(saving, split))
    if steps and (not gpu or torch.cuda.is_available()):
        loaded = Loaded(model, prepared.kind)
        device = torch.device("cuda" if gpu else "cpu")
        metric = metrics.metric_named(task.metric)
        for one in found:
            tell(one.saving.name)
            saving = one.saving
            setting = Setting(
                saving.recipe,
                saving.technique,
                Seed(0, 0, 0),
                metric,
                prepared.kind,
                saving.savers,
            )
            _measure(one, setting, prepared.splits, loaded, device, steps)
    mark_front(found)
    return found


def _measure(
    one: Measurement,
    setting: Setting,
    data: dict[str, Encoded],
    loaded: Loaded,
    device: torch.device,
    steps: int,
) -> None:
    """Run steps on the batch with the most tokens."""
    splits: list[MemorySplit] = []
    seconds = []
    try:
        reset_peak_memory(device)
        fit = begin(setting, data, loaded, device)
        state, technique = fit.state, setting.technique
        state.phase = len(fit.phases) - 1
        phase = fit.phases[state.phase]
        optimizer, _ = start_phase(technique, state, phase)
        state.model.train()
        rows = np.argsort(-data["train"].lengths, kind="stable")[: phase.recipe.batch_size]
        batch = {name: t.to(device) for name, t in collate(data["train"], rows).items()}
        for step in range(steps + 1):
            started = time.perf_counter()
            one_step(
                technique,
                state,
                phase,
                optimizer,
                batch,
                None if step else splits.append,
                in_backward=setting.savers.step_in_backward,
            )
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        one.seconds = statistics.median(seconds[1:])
        one.peak = peak_memory(device) if device.type == "cuda" else 0
        one.measured = splits[0]  # also where the rest of the states no longer fits
        one.measured = with_all_states(splits[0], technique, optimizer)
    except Exception as error:
        if not out_of_memory(error):
            raise
        one.failure = "out of memory"
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


def mark_front(found: Sequence[Measurement]) -> None:
    """Mark what nothing else beats: no other needs less memory and less time, as exactly.

    Without times, memory and exactness alone count.
    """
    able = [one for one in found if not one.failure and not math.isnan(one.total)]
    timed = not any(math.isnan(one.seconds) for one in able)

    def costs(one: Measurement) -> tuple[float, float, int]:
        kind = one.saving.gradients
        rank = EXACTNESS.index(kind) if kind in EXACTNESS else len(EXACTNESS)
        return one.total, one.seconds if timed else 0.0, rank

    for one in able:
        own = costs(one)
        others = [costs(other) for other in able]
        one.on_front = not any(
            other != own and all(a <= b for a, b in zip(other, own, strict=True))
            for other in others
        )
