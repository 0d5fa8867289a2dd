"""Cells and runs, their keys, and their serialised form."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.core.spec import digest
from study.models.catalogue import MODELS
from study.models.loading import padding_corrected
from study.models.model import Model
from study.tasks import Task, metrics
from study.tasks.kinds import KINDS, Kind
from study.techniques import TECHNIQUES, Technique
from study.techniques.base import technique_from
from study.training.fit import Setting

CORRECTION = "correction"  # in the identity of the cells alone whose results it changed


@dataclass(frozen=True)
class Cell:
    """Task x model x configuration: the unit that statistics are computed on.

    Attributes:
        task: The data and its metric.
        model: The checkpoint.
        technique: The fine-tuning technique.
        recipe: The configuration's recipe, before the technique's `recipe` hook.
        label: Display name of the configuration, such as `LayerwiseDecay(0.7)`.
        retains: What the model is scored on before and after training, without training on it.
    """

    task: Task
    model: Model
    technique: Technique
    recipe: Recipe
    label: str
    retains: tuple[Task, ...] = ()

    @property
    def name(self) -> str:
        """Display name, such as `terms/minilm/LayerwiseDecay(0.7)`."""
        return f"{self.task.name}/{self.model.name}/{self.label}"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything except the seed that affects a result."""
        corrected = padding_corrected(self.model, KINDS[self.task.kind])
        measured = [task.identity() for task in self.retains]
        return {
            "task": self.task.identity(),
            "model": self.model.identity(),
            "recipe": self.recipe.canonical(),
            "technique": self.technique.canonical(),
            **({"retains": sorted(measured, key=digest)} if measured else {}),
            **({CORRECTION: "padding"} if corrected else {}),
        }

    @cached_property
    def key(self) -> str:
        """12 hex digits that identify the cell."""
        return digest(self.identity)

    @cached_property
    def former_key(self) -> str | None:
        """Its key before a correction that changes its results; None if there was none."""
        former = {name: value for name, value in self.identity.items() if name != CORRECTION}
        return digest(former) if CORRECTION in self.identity else None


@dataclass(frozen=True)
class Run:
    """A cell at one seed: the unit of execution, of tracking in MLflow, and of resumption."""

    cell: Cell
    seed: Seed

    @property
    def name(self) -> str:
        """Display name, such as `terms/minilm/LayerwiseDecay(0.7)/s3`."""
        return f"{self.cell.name}/{self.seed.label}"

    @cached_property
    def key(self) -> str:
        """12 hex digits of the hash of everything that affects the result."""
        return digest({**self.cell.identity, "seed": list(self.seed)})

    @property
    def data_key(self) -> str:
        """Identifies the encoded data; runs with the same value share it."""
        return self.key_of(self.cell.task)

    @property
    def data_keys(self) -> dict[str, Task]:
        """What it reads encoded: its task, and those that it is only scored on, by their keys."""
        return {self.key_of(task): task for task in (self.cell.task, *self.cell.retains)}

    def key_of(self, task: Task) -> str:
        """The `data_key` of runs that train this one's model on a task."""
        return f"{task.name}/{self.cell.model.name}/{self.recipe.max_length}"

    @property
    def recipe(self) -> Recipe:
        """The effective recipe, after the technique's `recipe` hook."""
        return self.cell.technique.recipe(self.cell.recipe)

    def setting(self, kind: Kind) -> Setting:
        """The settings for training.

        Args:
            kind: The task's kind, with the class names found in the data.
        """
        metric = metrics.metric_named(self.cell.task.metric)
        return Setting(self.cell.recipe, self.cell.technique, self.seed, metric, kind)

    def spec(self) -> dict[str, Any]:
        """Plain data from which `run_from` restores the run."""
        retains = self.cell.retains
        return {
            "task": self.cell.task.canonical(),
            "model": self.cell.model.canonical(),
            "technique": self.cell.technique.canonical(),
            "recipe": self.cell.recipe.canonical(),
            "label": self.cell.label,
            "seed": list(self.seed),
            **({"retains": [task.canonical() for task in retains]} if retains else {}),
        }


def run_from(spec: Mapping[str, Any]) -> Run:
    """Restore a run from `Run.spec`; imports custom metrics and techniques that it names."""
    cell = Cell(
        Task(**spec["task"]),
        Model(**spec["model"]),
        technique_from(spec["technique"], TECHNIQUES),
        Recipe(**spec["recipe"]),
        spec["label"],
        tuple(Task(**task) for task in spec.get("retains", ())),
    )
    return Run(cell, Seed(*spec["seed"]))


def technique_parts(technique: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of a technique in a run's spec, each with its name and the fields that are set."""
    name_or_parts = technique["technique"]
    if isinstance(name_or_parts, list):
        return [part for each in name_or_parts for part in technique_parts(each)]
    return [{**technique, "technique": str(name_or_parts)}]


def as_written(spec: Mapping[str, Any]) -> str:
    """The recipe and the technique of a run as a study file writes them, ready to paste.

    Args:
        spec: As from `Run.spec`; may come from an untrusted store, so nothing is imported here.

    Returns:
        Two lines, preceded by a comment for each technique of the user's own, which says where it
        is from.
    """
    fields = Recipe(**spec["recipe"]).canonical()  # in the order of the class
    recipe = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    own, calls = [], []
    for part in technique_parts(spec["technique"]):
        module, _, name = part.pop("technique").rpartition(":")
        own += [f"# {name} is your own: from {module} import {name}\n"] if module else []
        calls.append(f"{name}({', '.join(f'{field}={value!r}' for field, value in part.items())})")
    return f"{''.join(own)}recipe=Recipe({recipe}),\ntechniques=[{' + '.join(calls)}],"


def own_code(spec: Mapping[str, Any]) -> list[str]:
    """Names in a run's spec for which `run_from` would import code from outside this project.

    Args:
        spec: As from `Run.spec`; may come from an untrusted store, so nothing is imported here.
    """
    checkpoint = str(spec["model"]["checkpoint"])
    packages = {model.checkpoint for model in MODELS.values()}
    techniques = [part["technique"] for part in technique_parts(spec["technique"])]
    tasks = [spec["task"], *spec.get("retains", ())]
    named = [*techniques, *(str(task.get("metric", "")) for task in tasks)]
    return [name for name in named if ":" in name] + (
        [checkpoint] if checkpoint.startswith("package:") and checkpoint not in packages else []
    )


def outdated(cells: Iterable[Cell], known: Collection[str]) -> list[Cell]:
    """The cells of which a store has only runs that were made before a correction.

    Args:
        cells: As the study asks for them.
        known: Keys of the cells of which the store has runs.
    """
    return [cell for cell in cells if cell.former_key in known and cell.key not in known]


def outdated_text(cells: Sequence[Cell]) -> str:
    """What a user must know of `outdated` cells."""
    names = [cell.name for cell in cells]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    were, them = ("cell was", "it") if len(names) == 1 else ("cells were", "them")
    return (
        f"{len(names)} {were} made before a correction to the padding of decoders: {shown}. Where "
        "the checkpoint's configuration and its tokenizer disagree on the padding token, outputs "
        f"were read at padding. Do not use these scores; `study run` runs {them} again under new "
        "keys, and the earlier runs stay in MLflow."
    )


def round_robin(runs: Iterable[Sequence[Run]]) -> list[Run]:
    """The first run of each cell, then the second of each cell that has one, and so on."""
    rounds = zip_longest(*runs)
    return [run for one_round in rounds for run in one_round if run is not None]


def compact_ranges(numbers: tuple[int, ...]) -> str:
    """Integers as a short text, such as `0-4,7`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in parts)
