"""`Study`: tasks x models x configurations x seeds, and the specs that it is made of."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, SerializeAsAny, Tag

from study.core.recipe import Recipe
from study.core.seeding import Seed, SeedNumber
from study.core.spec import Invalid, Mistake, Spec, did_you_mean, digest
from study.models.model import Model
from study.planning.budget import Budget
from study.planning.runs import Cell, Run, compact_ranges, round_robin
from study.planning.search import Search, Tune, tuning_mistakes
from study.tasks import Task
from study.tasks.kinds import KINDS
from study.tasks.metrics import stored_name
from study.techniques import TECHNIQUES, Technique
from study.techniques.base import short, technique_from
from study.training.savers import MemorySavers

NAME_BYTES = 250  # files and folders may have 255, MLflow's experiments on PostgreSQL 256
LABEL_LENGTH = 200  # a run's name in MLflow has 250 characters, and the seed at its end


def _as_technique(value: Any) -> Any:
    return technique_from(value, TECHNIQUES) if isinstance(value, Mapping) else value


AnyTechnique = Annotated[SerializeAsAny[Technique], BeforeValidator(_as_technique)]


class Configuration(Spec):
    """A technique with its own recipe; a technique by itself uses the study's recipe.

    Attributes:
        technique: The fine-tuning technique.
        recipe: Its recipe; None takes the study's.

    Example:
        >>> from study import Configuration, LayerwiseDecay, Recipe
        >>> Configuration(LayerwiseDecay(rate=0.9), recipe=Recipe(lr=1e-4)).recipe.lr
        0.0001
    """

    technique: AnyTechnique
    recipe: Recipe | None = None

    def __init__(self, technique: Any = None, /, **fields: Any) -> None:
        super().__init__(**({"technique": technique} if technique is not None else {}), **fields)


class Seeds(Spec):
    """Crossed seeds: every head seed with every order seed with every noise seed.

    Attributes:
        head: Seeds of the `head` stream, which initialises new parameters.
        order: Seeds of the `order` stream, which shuffles the data.
        noise: Seeds of the `noise` stream, for dropout and other noise.

    Example:
        >>> from study import Seeds
        >>> seeds = Seeds(head=range(5), order=range(5), noise=[0])
        >>> len(seeds.combinations())
        25
    """

    head: tuple[SeedNumber, ...] = Field(min_length=1)
    order: tuple[SeedNumber, ...] = Field(min_length=1)
    noise: tuple[SeedNumber, ...] = Field(min_length=1)

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """No stream repeats a seed."""
        return [
            Mistake(stream, f"{list(seeds)} repeats a seed.")
            for stream in Seed._fields
            if (seeds := fields.get(stream)) is not None and len(set(seeds)) < len(list(seeds))
        ]

    def combinations(self) -> list[Seed]:
        """All combinations, in the order of the fields."""
        return [Seed(*streams) for streams in product(self.head, self.order, self.noise)]

    def text(self) -> str:
        """The seeds as a short text, such as `head=0-4 order=0-4 noise=0`."""
        return " ".join(
            f"{stream}={compact_ranges(getattr(self, stream))}" for stream in Seed._fields
        )


def _seeds_tag(seeds: Any) -> str:
    """The branch of `AnySeeds`; without it pydantic would report mistakes of both branches."""
    return "[crossed]" if isinstance(seeds, Seeds | Invalid | Mapping) else "[listed]"


AnySeeds = Annotated[  # brackets keep the tags out of a mistake's path
    Annotated[tuple[SeedNumber, ...], Tag("[listed]")] | Annotated[Seeds, Tag("[crossed]")],
    Discriminator(_seeds_tag),
]


def _as_seeds(seeds: Any) -> Any:
    if isinstance(seeds, int):
        raise ValueError(f"{seeds} is not a list of seeds; write range({seeds}) or [{seeds}].")
    return tuple(seeds) if isinstance(seeds, range | list | set) else seeds


def _not_single(value: Any) -> Any:
    """Reject a single spec, which pydantic would accept as an iterable of its fields."""
    if isinstance(value, Spec):
        raise ValueError(f"a single {type(value).__name__} is not a list; write [...] around it.")
    return value


def _as_budget(budget: Any) -> Any:
    if isinstance(budget, int | float):
        raise ValueError(f"{budget} is not a Budget; write Budget(hours={budget}).")
    return budget


class TaskOverrides(Spec):
    """A task's own recipe and seeds, in place of the study's.

    Attributes:
        recipe: Recipe of configurations that have none; None takes the study's.
        seeds: The task's seeds; None takes the study's.

    Example:
        >>> from study import Recipe, TaskOverrides
        >>> TaskOverrides(recipe=Recipe(epochs=10), seeds=range(3)).seeds
        (0, 1, 2)
    """

    recipe: Recipe | None = None
    seeds: Annotated[AnySeeds | None, BeforeValidator(_as_seeds)] = None

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """A list of seeds is not empty and has no repeats."""
        return _list_mistakes("seeds", fields.get("seeds"))


def _as_entry(value: Any) -> Any:
    if isinstance(value, Technique):
        return Configuration(value)
    if isinstance(value, Invalid):
        raise value.error
    if isinstance(value, Configuration | Search):
        return value
    raise ValueError(f"{value!r} is not a technique, Configuration(...) or Search(...).")


class Study(Spec):
    """A comparison of techniques: all runs, and the resources to run them.

    Every technique is crossed with every task, model and seed.

    Attributes:
        name: Also the name of the MLflow experiment.
        tasks: The tasks to learn.
        models: The checkpoints to fine-tune.
        techniques: Techniques, configurations or searches.
        recipe: The recipe of all techniques that have none of their own.
        seeds: Integers, each of which sets all three streams, or `Seeds`, which crosses them.
        per_task: Recipe or seeds of single tasks, by task name.
        tune: The protocol of searches; None if there are none.
        retains: Tasks on whose test rows each model is scored before and after training, without
            training on them: what fine-tuning forgets. Of kind `generation`, as all tasks are then,
            since other kinds have no head from pretraining. Part of every run's key.
        keep: Which trained models to save in the study's folder: `none`, the `best` on dev of each
            cell, or `all`. Finished runs are not trained again for it; `study export` recreates
            their models.
        data: Base folder of the tasks' relative paths; takes precedence over `STUDY_DATA`. Without
            one, they begin beside the study file, or else in the working directory.
        folder: Folder of the study file; set where the file is read.
        gpus: GPUs per run, a fraction or a whole number; 0 runs on CPUs. For scheduling only: GPU
            memory is not limited.
        needs: Additional Ray resources per run, by name, such as `{"gpu_gb": 10}` on clusters whose
            machines declare that resource.
        gradient_checkpointing: Save only the inputs of layers for the backward pass, which computes
            the layers again: less memory, about a third more time, the same bits.
        step_in_backward: Update each weight as soon as its gradient is there, so that gradients
            are never held all at once; the same bits. It needs `clip_norm=None` in every recipe.
        budget: Limits after which no new runs begin; None for no limit.
        checkpoint_minutes: Interval at which a run saves a resumable checkpoint, from which it
            continues if its worker or machine is lost. A shorter run starts again.
        hang_minutes: Minutes without progress after which a run is stopped and tried again.

    Example:
        >>> from study import LayerwiseDecay, Recipe, Standard, Study
        >>> from study.models import MINILM
        >>> from study.tasks import TERMS
        >>> study = Study(
        ...     name="demo",
        ...     tasks=[TERMS],
        ...     models=[MINILM],
        ...     recipe=Recipe(epochs=5),
        ...     techniques=[Standard(), LayerwiseDecay(rate=0.9)],
        ...     seeds=range(3),
        ... )
        >>> [cell.name for cell in study.cells()]
        ['terms/minilm/Standard', 'terms/minilm/LayerwiseDecay(0.9)']
        >>> len(study.runs())
        6
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    tasks: Annotated[tuple[Task, ...], BeforeValidator(_not_single)]
    models: Annotated[tuple[Model, ...], BeforeValidator(_not_single)]
    techniques: Annotated[
        tuple[Annotated[Configuration | Search, PlainValidator(_as_entry)], ...],
        BeforeValidator(_not_single),
    ]
    recipe: Recipe = Recipe()
    seeds: Annotated[AnySeeds, BeforeValidator(_as_seeds)]
    per_task: dict[str, TaskOverrides] = {}
    tune: Tune | None = None
    retains: Annotated[tuple[Task, ...], BeforeValidator(_not_single)] = ()
    keep: Literal["none", "best", "all"] = "none"
    data: str | None = None
    folder: str | None = None
    gpus: float = Field(default=0.0, ge=0.0)
    needs: dict[str, Annotated[float, Field(gt=0)]] = {}
    gradient_checkpointing: bool = False
    step_in_backward: bool = False
    budget: Annotated[Budget | None, BeforeValidator(_as_budget)] = None
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    hang_minutes: float = Field(default=30.0, gt=0)

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """Lists have entries and no repeats; fields that refer to each other are consistent."""
        mistakes = _name_mistakes(fields.get("name"))
        for field in ("tasks", "models", "techniques", "seeds"):
            mistakes += _list_mistakes(field, fields.get(field))
        if fields.get("retains"):
            mistakes += _list_mistakes("retains", fields["retains"])
        mistakes += _override_mistakes(fields)
        mistakes += _measured_mistakes(fields)
        mistakes += _resource_mistakes(fields)
        techniques = fields.get("techniques")
        if isinstance(techniques, list | tuple):
            overrides = (fields.get("per_task") or {}).values()
            seeds = [own.seeds for own in overrides if isinstance(own, TaskOverrides)]
            final = set().union(*map(_numbers, [fields.get("seeds"), *seeds]))
            mistakes += tuning_mistakes(fields.get("tune"), techniques, final)
        return mistakes

    @property
    def savers(self) -> MemorySavers:
        """How runs need less memory."""
        return MemorySavers(self.gradient_checkpointing, self.step_in_backward)

    @property
    def searches(self) -> list[Search]:
        """The searches among the techniques, in the order of the file."""
        return [entry for entry in self.techniques if isinstance(entry, Search)]

    def located_tasks(self) -> list[Task]:
        """The tasks, with the folder where their relative paths begin.

        It is the study's data folder, itself beside the study file or in the working directory; or
        without one the folder of the study file.
        """
        return [self._located(task) for task in self.tasks]

    def located_retains(self) -> list[Task]:
        """`retains`, with the folder where their relative paths begin, as in `located_tasks`."""
        return [self._located(task) for task in self.retains]

    def task_model_pairs(self) -> list[tuple[Task, Model]]:
        """Every task with every model, in the order of the file."""
        return list(product(self.located_tasks(), self.models))

    def cells(self) -> list[Cell]:
        """The cells of stated configurations; `Stages` adds those of searches."""
        stated = [entry for entry in self.techniques if isinstance(entry, Configuration)]
        pairs = self.task_model_pairs()
        return [self.cell(task, model, entry) for task, model in pairs for entry in stated]

    def cell(self, task: Task, model: Model, configuration: Configuration) -> Cell:
        """The cell of a configuration, labelled with the recipe fields that differ from default.

        The default is the recipe of the task's other techniques, `recipe_of`.
        """
        shared = self.recipe_of(task)
        technique, recipe = configuration.technique, configuration.recipe or shared
        label = _on_one_line(technique.label + _difference(recipe, shared))
        retains = tuple(self.located_retains())
        return Cell(task, model, technique, recipe, label, retains)

    def recipe_of(self, task: Task) -> Recipe:
        """The recipe on a task of configurations that have none of their own."""
        own = self.per_task.get(task.name)
        return own.recipe if own and own.recipe else self.recipe

    def seeds_of(self, task: Task) -> list[Seed]:
        """All seeds of a task, in order."""
        seeds = self._stated_seeds(task)
        if isinstance(seeds, Seeds):
            return seeds.combinations()
        return [Seed(number, number, number) for number in seeds]

    def seeds_text(self, task: Task) -> str:
        """The seeds of a task as a short text, such as `0-19`."""
        seeds = self._stated_seeds(task)
        return seeds.text() if isinstance(seeds, Seeds) else compact_ranges(seeds)

    def runs(self) -> list[Run]:
        """The runs of `cells`, seed by seed, so that an interrupted study has balanced cells."""
        cells = self.cells()
        return round_robin([[Run(cell, s) for s in self.seeds_of(cell.task)] for cell in cells])

    def _located(self, task: Task) -> Task:
        if self.data is None:
            folder = task.folder or self.folder
            return task.replace(folder=folder) if folder and task.is_relative else task
        beside = Path(self.folder or "", self.data)
        return task.replace(folder=str(beside) if beside.is_dir() else self.data)

    def _stated_seeds(self, task: Task) -> AnySeeds:
        own = self.per_task.get(task.name)
        return own.seeds if own and own.seeds is not None else self.seeds


def _name_mistakes(name: Any) -> list[Mistake]:
    """Whether the study's folder can have its name."""
    if not isinstance(name, str) or len(name.encode()) <= NAME_BYTES:
        return []
    return [Mistake("name", f"has {len(name.encode())} bytes; use at most {NAME_BYTES}.")]


def _list_mistakes(field: str, entries: Any) -> list[Mistake]:
    """Whether a list is empty or repeats an entry."""
    if not isinstance(entries, list | tuple | range | set):
        return []
    entries = list(entries)
    mistakes = [] if entries else [Mistake(field, "is empty; a study needs at least one.")]
    identifiers = [_identifier(entry) for entry in entries]
    for index, identifier in enumerate(identifiers):
        if identifier is not None and (first := identifiers.index(identifier)) < index:
            text = f"repeats {field}[{first}]: {identifier}."
            mistakes.append(Mistake(f"{field}[{index}]", text))
    return mistakes


def _identifier(value: Any) -> str | None:
    """What must be unique in an entry of a study; None for an entry of a wrong type."""
    match value:
        case Task() | Model():
            return value.name
        case Search():
            return value.title
        case Technique():
            return value.label
        case Configuration():
            return value.technique.label + (f" with {value.recipe!r}" if value.recipe else "")
        case int():
            return str(value)
    return None


def _override_mistakes(fields: Mapping[str, Any]) -> list[Mistake]:
    """Whether the keys of `per_task` are tasks, and its values overrides."""
    per_task = fields.get("per_task") or {}
    names = [task.name for task in fields.get("tasks") or [] if isinstance(task, Task)]
    unknown = [
        Mistake(f"per_task[{name!r}]", f"no such task. {did_you_mean(name, names)}")
        for name in per_task
        if name not in names
    ]
    return unknown + [
        Mistake(f"per_task[{name!r}]", f"{own!r} is not a TaskOverrides(recipe=..., seeds=...).")
        for name, own in per_task.items()
        if not isinstance(own, TaskOverrides | Invalid)
    ]


def _measured_mistakes(fields: Mapping[str, Any]) -> list[Mistake]:
    """Whether tasks have rows to train on, and what is measured keeps its head of pretraining."""
    tasks, retains = _numbered(fields.get("tasks")), _numbered(fields.get("retains"))
    mistakes = [
        Mistake(f"tasks[{index}].train", "is missing; only a task in `retains` can do without.")
        for index, task in tasks
        if task.train is None
    ]
    if not retains:
        return mistakes
    for field, listed in (("tasks", tasks), ("retains", retains)):
        mistakes += [
            Mistake(
                f"{field}[{index}].kind",
                f"is {task.kind!r}, whose head is new, so that with `retains` there is nothing to "
                "measure before training; use generation.",
            )
            for index, task in listed
            if not KINDS[task.kind].pretrained_head
        ]
    trained, stored = {task.name for _, task in tasks}, dict[str, str]()
    for index, task in retains:
        path, name = f"retains[{index}].name", stored_name(task.name)
        if task.name in trained:
            text = f"is also the name of a task that is trained on: {task.name}."
            mistakes.append(Mistake(path, text))
        if stored.setdefault(name, task.name) != task.name:
            text = f"is stored as {name!r}, as another one is; rename it."
            mistakes.append(Mistake(path, text))
    return mistakes


def _numbered(listed: Any) -> list[tuple[int, Task]]:
    """The tasks in a list with their places; what is no task is a mistake of its own."""
    found = enumerate(listed) if isinstance(listed, list | tuple) else ()
    return [(index, task) for index, task in found if isinstance(task, Task)]


def _resource_mistakes(fields: Mapping[str, Any]) -> list[Mistake]:
    """Whether Ray can provide the resources, and each is set in one place."""
    gpus, needs = fields.get("gpus"), fields.get("needs")
    mistakes = []
    if isinstance(gpus, int | float) and gpus > 1 and gpus % 1:
        text = f"{gpus} is neither a fraction of a GPU nor a whole number of GPUs."
        mistakes.append(Mistake("gpus", text))
    for name, field in {"CPU": "recipe.threads", "GPU": "gpus"}.items():
        if isinstance(needs, Mapping) and name in needs:
            mistakes.append(Mistake(f"needs[{name!r}]", f"set `{field}` instead."))
    return mistakes


def _numbers(seeds: Any) -> set[int]:
    """All numbers in a study's seeds, in any stream."""
    if isinstance(seeds, Seeds):
        return {*seeds.head, *seeds.order, *seeds.noise}
    entries = seeds if isinstance(seeds, list | tuple | range | set) else ()
    return {number for number in entries if isinstance(number, int)}


def _difference(recipe: Recipe, shared: Recipe) -> str:
    changed = [
        f"{name}={short(getattr(recipe, name))}"
        for name in Recipe.model_fields
        if getattr(recipe, name) != getattr(shared, name)
    ]
    return f"[{', '.join(changed)}]" if changed else ""


def _on_one_line(label: str) -> str:
    """A label that tables and stores take; a long one ends in a digest of the whole."""
    line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in label)
    if len(line) <= LABEL_LENGTH:
        return line
    return f"{line[: LABEL_LENGTH - 12]}... {digest(label)[:8]}"
