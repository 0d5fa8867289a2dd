"""Checks of data, checkpoints and techniques before the first run of a study starts."""

import sys
from collections.abc import Mapping, Sequence
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
from study.training.prepare import cache_file, prepare_once, truncation_of
from study.training.row_checks import CHECKPOINT
from study.training.truncation import Truncation

# Of labels that a new head can be trained on as they are: those of STS-B, 0 to 5, have a root mean
# square of 3.1 and a standard deviation of 1.5. In eight epochs of MiniLM on BIOSSES the loss came
# down to the variance of the labels when scaled to 0 to 10 (6.6), and not at 0 to 20 (13).
UNIT_SCALE, MINIMUM_SD = 10.0, 0.1


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
    readable, mistakes = _readable_tasks(study)
    architectures, checkpoint_mistakes = _architectures(study)
    mistakes += checkpoint_mistakes
    shared = list(dict.fromkeys(study.recipe_of(task) for task in study.tasks))
    for index, entry in enumerate(study.techniques):
        path = f"techniques[{index}]"
        configurations = _configurations(entry, shared)
        mistakes += _technique_mistakes(configurations[0][0], path, keep=study.keep)
        for technique, recipe in configurations:
            mistakes += _fit_mistakes(technique, recipe, path, architectures)
    # A study that is refused anyway leaves no folder.
    cache = None if mistakes else encoded
    mistakes += _encoding_mistakes(study, readable, architectures, cache)
    return list(dict.fromkeys(mistakes)) or _duplicate_mistakes(study)


def notes(study: Study, encoded: Path | None = None) -> list[str]:
    """What a user should know of a study that can run; call it after `problems`, which reads all.

    Args:
        study: The study.
        encoded: As for `problems`.
    """
    return _data_notes(study) + _cut_texts(study, encoded)


def _cut_texts(study: Study, encoded: Path | None) -> list[str]:
    """What the maximum length cuts, by task and length; a range over models."""
    found: dict[tuple[str, int], dict[str, Truncation]] = {}
    for task, model in product(study.located_tasks(), study.models):
        longest = longest_input(configuration(model)) or sys.maxsize
        for length in _lengths(study, task):
            cut = truncation_of(task.load(), model, length, encoded)
            if cut and cut.rows:
                cut = cut._replace(proposed=min(cut.proposed, longest))
                found.setdefault((task.name, length), {})[model.name] = cut
    return [_cut_text(task, length, cuts) for (task, length), cuts in found.items()]


def _cut_text(task: str, length: int, cuts: Mapping[str, Truncation]) -> str:
    rows, tokens = (_range([cut[i] for cut in cuts.values()]) for i in (0, 1))
    text = (
        f"task {task!r} at max_length={length}: {rows} of the rows are cut and lose {tokens} of "
        f"all tokens ({', '.join(cuts)})"
    )
    proposed = max(cut.proposed for cut in cuts.values())
    return f"{text}; max_length={proposed} would cut fewer." if proposed > length else f"{text}."


def _range(shares: Sequence[float]) -> str:
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    return low if low == high else f"{low} to {high}"


def _data_notes(study: Study) -> list[str]:
    """Labels far from unit scale, and classes that a split lacks."""
    found = []
    for task in study.located_tasks():
        data, told = task.load(), []
        if task.kind == "regression" and not task.standardise:
            told += _scale_notes(data)
        if task.labels is None:
            told += _class_notes(data)
        found += [f"task {task.name!r}: {note}" for note in told]
    return found


def _scale_notes(data: TaskData) -> list[str]:
    """Whether labels are far from unit scale.

    A new head answers about 0, and the steps of fine-tuning are too small to reach labels of more
    than `UNIT_SCALE` (root mean square), or to tell those apart that vary less than `MINIMUM_SD`
    (standard deviation).
    """
    gold = data.splits["train"].gold
    size, sd = float(np.sqrt(np.mean(gold**2))), float(np.std(gold))
    if size <= UNIT_SCALE and sd >= MINIMUM_SD:
        return []
    return [
        f"its labels are far from unit scale ({gold.min():g} to {gold.max():g}, mean "
        f"{gold.mean():.3g}, sd {sd:.3g}), and runs may train to a constant; write "
        "Task(..., standardise=True)."
    ]


def _class_notes(data: TaskData) -> list[str]:
    """Classes of dev and test that no run can learn."""
    labels = np.array(data.kind.labels)
    used = {split: _classes(rows.gold, labels) for split, rows in data.splits.items()}
    return [
        f"no row of train has these labels of {split}, so no run can learn them: "
        f"{', '.join(map(repr, new))}."
        for split in ("dev", "test")
        if (new := sorted(used[split] - used["train"]))
    ]


def _classes(gold: Any, labels: Any) -> set[str]:
    """The classes that occur among gold answers; none for values and spans."""
    if not len(labels):
        return set()
    if not isinstance(gold, np.ndarray):
        return {tag for tags in gold for tag in tags}
    return set(labels[gold.any(axis=0) if gold.ndim == 2 else np.unique(gold)].tolist())


def _readable_tasks(study: Study) -> tuple[list[Task], list[Mistake]]:
    """The tasks whose data can be read, and what is wrong with the others."""
    readable, mistakes = [], []
    for task in study.located_tasks():
        try:
            data = task.load()
        except SpecError as error:
            mistakes += error.mistakes
        else:
            readable.append(task)
            mistakes += _label_mistakes(task, data)
    return readable, mistakes


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
        for length in _lengths(study, task):
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


def _lengths(study: Study, task: Task) -> list[int]:
    """The maximum lengths that configurations encode a task with."""
    lengths = []
    for entry in study.techniques:
        for technique, recipe in _configurations(entry, [study.recipe_of(task)]):
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
