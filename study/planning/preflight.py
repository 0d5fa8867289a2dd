"""Everything that would keep runs from running, found before the first."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from study.core.recipe import Recipe
from study.core.spec import Mistake, SpecError, digest
from study.models.families import depths_of, longest_input
from study.models.loading import meta_model, processor
from study.planning.search import Search
from study.planning.study import Configuration, Study
from study.tasks.kinds import KINDS
from study.techniques import Technique
from study.techniques.base import not_exportable, parts_of


def problems(study: Study) -> list[Mistake]:
    """Everything that would keep a study's runs from running, found before the first one starts.

    Reads the data, finds the checkpoints, and asks each technique about each model.
    """
    found: list[Mistake] = []
    for task in study._placed_tasks():
        try:
            task.load()
        except SpecError as error:
            found += error.mistakes
    shapes = {}  # of every model with every head it gets
    kinds = dict.fromkeys(task.kind for task in study.tasks)
    for (index, model), kind in product(enumerate(study.models), kinds):
        try:
            processor(model, KINDS[kind])
            shape = meta_model(model, KINDS[kind])
            shapes[model.name, kind] = shape, depths_of(shape)
        except SpecError as error:
            found += [mistake.below(f"models[{index}]") for mistake in error.mistakes]
        except (LookupError, ValueError) as error:  # transformers says ValueError
            text = str(error).splitlines()[0]
            found.append(Mistake(f"models[{index}].checkpoint", text))
    for place, entry in enumerate(study.techniques):
        found += _unfit(entry, f"techniques[{place}]", shapes, study)
    return list(dict.fromkeys(found)) or _same_keys(study)


def _unfit(
    entry: Configuration | Search, path: str, shapes: Mapping[Any, Any], study: Study
) -> list[Mistake]:
    """Why a technique, or a value that a search may try, cannot be run."""
    each: list[tuple[Technique, Recipe]] = []
    for shared in dict.fromkeys(study.recipe_of(task) for task in study.tasks):
        if isinstance(entry, Search):
            each += entry.examples(shared)
        else:
            each.append((entry.technique, entry.recipe or shared))
    found = [
        Mistake(path, f"{part.title} is defined in the study file; move it to a module beside it.")
        for part in parts_of(each[0][0])
        if part.name().startswith(("__main__:", "study_file_"))
    ]
    if study.keep != "none" and (reason := not_exportable(each[0][0])):
        found.append(Mistake(path, f"cannot be kept: {reason}."))
    for technique, recipe in each:
        try:
            length = technique.recipe(recipe).max_length
        except SpecError as error:
            found += [mistake.below(path) for mistake in error.mistakes]
            continue
        for (name, kind), (model, depths) in shapes.items():
            if objection := technique.objection(depths, kind):
                text = f"{technique.label} does not fit model {name!r}: {objection}."
                found.append(Mistake(path, text))
            longest = longest_input(model.config)
            if longest and length > longest:
                text = f"{length} is more than the {longest} positions of model {name!r}."
                found.append(Mistake(f"{path}.recipe.max_length", text))
    return found


def _same_keys(study: Study) -> list[Mistake]:
    """Cells that differ in name alone would share their runs."""
    keys = [(cell.name, cell.key) for cell in study.cells()]
    if study.searches:  # their cells are not known yet, but where they search is
        keys += [(f"task {task.name!r}", digest(task.identity())) for task in study._placed_tasks()]
        keys += [(f"model {model.name!r}", model.identity()) for model in study.models]
    seen: dict[str, str] = {}
    found = []
    for name, key in keys:
        if key in seen:
            found.append(Mistake(name, f"is the same as {seen[key]}; name it once."))
        seen[key] = name
    return found
