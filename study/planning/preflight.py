"""Checks of data, checkpoints and techniques before the first run of a study starts."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from study.core.recipe import Recipe
from study.core.spec import Mistake, SpecError, digest
from study.models.families import Depths, depths_of, longest_input
from study.models.loading import check_weights, configuration, meta_model, processor
from study.models.weights import check_files
from study.planning.search import Search
from study.planning.study import Configuration, Study
from study.tasks import Task, TaskData
from study.tasks.collapse import hopeless
from study.tasks.kinds import KINDS
from study.tasks.kinds.encoded import Encoded
from study.tasks.metrics import metric_named
from study.techniques import Technique
from study.techniques.base import not_exportable, parts_of
from study.training.prepare import cache_file, prepare_once
from study.training.row_checks import CHECKPOINT
from study.training.savers import MemorySavers, misfit

Check = Callable[[Task, TaskData], list[Mistake]]


class _Architecture(NamedTuple):
    """A model of the study without weights, with the head of one kind of task."""

    name: str
    kind: str
    config: Any
    depths: Depths


def problems(study: Study, encoded: Path | None = None) -> list[Mistake]:
    """Everything that would make runs of a study fail.

    Reads the data, locates the checkpoints (which may download them), encodes every task for every
    model, and checks every technique, and the extreme values of every search, against every model.

    Args:
        study: The study.
        encoded: The cache of encoded data, which the runs read later; None keeps nothing.
    """
    readable, mistakes = _readable(study.located_tasks(), _label_mistakes)
    measured, unreadable = _readable(study.located_retains(), _score_mistakes)
    mistakes += unreadable
    architectures, checkpoint_mistakes = _architectures(study)
    mistakes += checkpoint_mistakes
    shared = list(dict.fromkeys(study.recipe_of(task) for task in study.tasks))
    for index, entry in enumerate(study.techniques):
        path = f"techniques[{index}]"
        configurations = _configurations(entry, shared)
        mistakes += _technique_mistakes(configurations[0][0], path, keep=study.keep)
        for technique, recipe in configurations:
            mistakes += _fit_mistakes(technique, recipe, path, architectures, study.savers)
    # A study that is refused anyway leaves no folder.
    cache = None if mistakes else encoded
    mistakes += _encoding_mistakes(study, [*readable, *measured], architectures, cache)
    return list(dict.fromkeys(mistakes)) or _duplicate_mistakes(study)


def _readable(tasks: Sequence[Task], check: Check) -> tuple[list[Task], list[Mistake]]:
    """The tasks whose data can be read, and what is wrong with the others or found by the check."""
    readable, mistakes = [], []
    for task in tasks:
        try:
            data = task.load()
        except SpecError as error:
            mistakes += error.mistakes
        else:
            readable.append(task)
            mistakes += check(task, data)
    return readable, mistakes


def _score_mistakes(task: Task, data: TaskData) -> list[Mistake]:
    """Whether the metric of a task that is only measured scores right answers."""
    gold = data.kind.references(data.splits["test"])
    try:
        score = metric_named(task.metric)(gold, data.kind.perfect(gold))
    except Exception as error:  # a user's metric can raise anything
        why = f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        if np.isfinite(score):
            return []
        why = f"it is {score}"
    text = f"{task.metric!r} does not score right answers: {why}"
    return [Mistake(f"task {task.name!r}, metric", text)]


def _label_mistakes(task: Task, data: TaskData) -> list[Mistake]:
    """Splits on whose labels every run would fail, or the metric."""
    metric, kind = metric_named(task.metric), data.kind
    try:
        if ":" in task.metric:  # every run has it score constant answers
            for rows in (data.splits["dev"], data.splits["test"]):
                each = np.arange(len(rows.ids) + 1)
                encoded = Encoded(rows.ids, kind.references(rows), each, each)
                for answers in kind.constants(encoded):
                    metric(encoded.gold, answers)
        reasons = hopeless(metric, kind, data.splits)
    except Exception as error:  # a user's metric can raise anything
        if ":" not in task.metric:
            raise
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        text = f"{task.metric!r} fails on constant answers or on the right ones: {why}"
        return [Mistake(f"task {task.name!r}, metric", text)]
    return [
        Mistake(
            f"task {task.name!r}, "
            f"{getattr(task, split) or f'the {split} part of {task.train}'}, {task.label}",
            why,
        )
        for split, why in reasons.items()
    ]


def _encoding_mistakes(
    study: Study,
    tasks: Sequence[Task],
    architectures: Sequence[_Architecture],
    encoded: Path | None,
) -> list[Mistake]:
    """Whether the rows of every task can be encoded for every model, and read by it."""
    known = {(architecture.name, architecture.kind) for architecture in architectures}
    mistakes = []
    for task, (index, model) in product(tasks, enumerate(study.models)):
        if (model.name, task.kind) not in known:
            continue
        data = task.load()
        for length in max_lengths(study, task):
            if encoded and cache_file(data, model, length, encoded).is_file():
                continue
            try:
                prepare_once(data, model, length, encoded)
            except SpecError as error:
                mistakes += [
                    mistake.below(f"models[{index}]") if mistake.path == CHECKPOINT else mistake
                    for mistake in error.mistakes
                ]
    return mistakes


def max_lengths(study: Study, task: Task) -> list[int]:
    """The maximum lengths that configurations encode a task with, or measure it with."""
    trained = [task] if task.name in [own.name for own in study.tasks] else study.tasks
    recipes = list(dict.fromkeys(map(study.recipe_of, trained)))
    lengths = []
    for entry in study.techniques:
        for technique, recipe in _configurations(entry, recipes):
            with suppress(SpecError):  # reported with the technique
                lengths.append(technique.recipe(recipe).max_length)
    return list(dict.fromkeys(lengths))


def _architectures(study: Study) -> tuple[list[_Architecture], list[Mistake]]:
    """Every model with every head that it gets, and what is wrong with checkpoints."""
    architectures, mistakes = [], []
    kinds = dict.fromkeys(task.kind for task in study.tasks)
    for index, model in enumerate(study.models):
        try:
            check_files(model)
        except SpecError as error:
            mistakes += [mistake.below(f"models[{index}]") for mistake in error.mistakes]
            continue
        for kind in kinds:
            try:
                configuration(model)  # first: the processor reads it too
                processor(model, KINDS[kind])
                meta = meta_model(model, KINDS[kind])
                check_weights(model, KINDS[kind])
                architectures.append(_Architecture(model.name, kind, meta.config, depths_of(meta)))
            except SpecError as error:
                mistakes += [mistake.below(f"models[{index}]") for mistake in error.mistakes]
            except (LookupError, ValueError) as error:  # transformers raises ValueError
                text = str(error).splitlines()[0]
                mistakes.append(Mistake(f"models[{index}].checkpoint", text))
    return architectures, mistakes


def _configurations(
    entry: Configuration | Search, shared: Sequence[Recipe]
) -> list[tuple[Technique, Recipe]]:
    """The configurations of an entry; of a search, those with the extreme values of its space."""
    configurations: list[tuple[Technique, Recipe]] = []
    for recipe in shared:
        if isinstance(entry, Search):
            configurations += entry.examples(recipe)
        else:
            configurations.append((entry.technique, entry.recipe or recipe))
    return configurations


def _technique_mistakes(technique: Technique, path: str, *, keep: str) -> list[Mistake]:
    """Whether workers can import a technique, and whether its models can be kept."""
    mistakes = [
        Mistake(
            path,
            f"{part.title} is defined in the study file, which workers cannot import; move it to a "
            "module in the same folder.",
        )
        for part in parts_of(technique)
        if part.name().startswith(("__main__:", "study_file_"))
    ]
    if keep != "none" and (reason := not_exportable(technique)):
        text = f"its model cannot be kept: {reason}; set keep='none' or remove the technique."
        mistakes.append(Mistake(path, text))
    return mistakes


def _fit_mistakes(
    technique: Technique,
    recipe: Recipe,
    path: str,
    architectures: Sequence[_Architecture],
    savers: MemorySavers,
) -> list[Mistake]:
    """Whether a technique accepts its recipe, savers, every model and every kind of task."""
    try:
        recipe = technique.recipe(recipe)
    except SpecError as error:
        return [mistake.below(path) for mistake in error.mistakes]
    reason, length = misfit(savers, technique, recipe), recipe.max_length
    mistakes = [Mistake(path, f"{reason}.")] if reason else []
    for name, kind, config, depths in architectures:
        if objection := technique.objection(depths, kind):
            text = f"{technique.label} does not fit model {name!r}: {objection}."
            mistakes.append(Mistake(path, text))
        longest = longest_input(config)
        if longest and length > longest:
            text = f"{length} is more than the {longest} positions of model {name!r}."
            mistakes.append(Mistake(f"{path}.recipe.max_length", text))
    return mistakes


def _duplicate_mistakes(study: Study) -> list[Mistake]:
    """Cells that differ only in name: they would have the same keys, and so share their runs."""
    keys = [(cell.name, cell.key) for cell in study.cells()]
    if study.searches:  # their cells are not known yet, but their tasks and models are
        tasks = study.located_tasks()
        keys += [(f"task {task.name!r}", digest(task.identity())) for task in tasks]
        keys += [(f"model {model.name!r}", model.identity()) for model in study.models]
    names: dict[str, str] = {}
    mistakes = []
    for name, key in keys:
        if key in names:
            mistakes.append(Mistake(name, f"is the same as {names[key]}; remove one of them."))
        names[key] = name
    return mistakes
