"""Checks of data, checkpoints and techniques before the first run of a study starts."""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

from study.core.recipe import Recipe
from study.core.spec import Mistake, SpecError, digest
from study.models.families import Depths, depths_of, longest_input
from study.models.loading import meta_model, processor
from study.planning.search import Search
from study.planning.study import Configuration, Study
from study.tasks.collapse import hopeless
from study.tasks.kinds import KINDS
from study.tasks.metrics import metric_named
from study.tasks.task import Task, TaskData
from study.techniques import Technique
from study.techniques.base import not_exportable, parts_of


class _Architecture(NamedTuple):
    """A model of the study without weights, with the head of one kind of task."""

    name: str
    kind: str
    config: Any
    depths: Depths


def problems(study: Study) -> list[Mistake]:
    """Everything that would make runs of a study fail.

    Reads the data, locates the checkpoints (which may download them), and checks every technique,
    and the extreme values of every search, against every model.
    """
    mistakes = _data_mistakes(study)
    architectures, checkpoint_mistakes = _architectures(study)
    mistakes += checkpoint_mistakes
    for index, entry in enumerate(study.techniques):
        path = f"techniques[{index}]"
        configurations = _configurations(study, entry)
        mistakes += _technique_mistakes(configurations[0][0], path, keep=study.keep)
        for technique, recipe in configurations:
            mistakes += _fit_mistakes(technique, recipe, path, architectures)
    return list(dict.fromkeys(mistakes)) or _duplicate_mistakes(study)


def _data_mistakes(study: Study) -> list[Mistake]:
    mistakes = []
    for task in study.located_tasks():
        try:
            data = task.load()
        except SpecError as error:
            mistakes += error.mistakes
            continue
        mistakes += _hopeless_splits(task, data)
    return mistakes


def _hopeless_splits(task: Task, data: TaskData) -> list[Mistake]:
    """Splits on whose labels every run would fail."""
    try:
        reasons = hopeless(metric_named(task.metric), data.kind, data.splits)
    except Exception as error:  # a user's metric can raise anything
        if ":" not in task.metric:
            raise
        text = f"{task.metric!r} raises {type(error).__name__} for the task's labels: {error}"
        return [Mistake(f"task {task.name!r}, metric", text)]
    return [
        Mistake(
            f"task {task.name!r}, "
            f"{getattr(task, split) or f'the {split} part of {task.train}'}, {task.label}",
            why,
        )
        for split, why in reasons.items()
    ]


def _architectures(study: Study) -> tuple[list[_Architecture], list[Mistake]]:
    """Every model with every head that it gets, and what is wrong with checkpoints."""
    architectures, mistakes = [], []
    kinds = dict.fromkeys(task.kind for task in study.tasks)
    for (index, model), kind in product(enumerate(study.models), kinds):
        try:
            processor(model, KINDS[kind])
            meta = meta_model(model, KINDS[kind])
            architectures.append(_Architecture(model.name, kind, meta.config, depths_of(meta)))
        except SpecError as error:
            mistakes += [mistake.below(f"models[{index}]") for mistake in error.mistakes]
        except (LookupError, ValueError) as error:  # transformers raises ValueError
            text = str(error).splitlines()[0]
            mistakes.append(Mistake(f"models[{index}].checkpoint", text))
    return architectures, mistakes


def _configurations(study: Study, entry: Configuration | Search) -> list[tuple[Technique, Recipe]]:
    """The configurations of an entry; of a search, those with the extreme values of its space."""
    configurations: list[tuple[Technique, Recipe]] = []
    for shared in dict.fromkeys(study.recipe_of(task) for task in study.tasks):
        if isinstance(entry, Search):
            configurations += entry.examples(shared)
        else:
            configurations.append((entry.technique, entry.recipe or shared))
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
    technique: Technique, recipe: Recipe, path: str, architectures: Sequence[_Architecture]
) -> list[Mistake]:
    """Whether a technique accepts its recipe, every model and every kind of task."""
    try:
        length = technique.recipe(recipe).max_length
    except SpecError as error:
        return [mistake.below(path) for mistake in error.mistakes]
    mistakes = []
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
