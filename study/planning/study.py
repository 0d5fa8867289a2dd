"""A study: tasks x models x configurations x seeds, and the key of every run in it."""

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, SerializeAsAny, Tag

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.core.spec import Invalid, Mistake, Spec, did_you_mean
from study.models.model import Model
from study.planning.budget import Budget
from study.planning.runs import Cell, Run, in_turn, ranges
from study.planning.search import Search, Tune, tuning_mistakes
from study.tasks import Task
from study.techniques import TECHNIQUES, Technique
from study.techniques.base import short, technique_from


def _as_technique(value: Any) -> Any:
    return technique_from(value, TECHNIQUES) if isinstance(value, Mapping) else value


AnyTechnique = Annotated[SerializeAsAny[Technique], BeforeValidator(_as_technique)]


class Configuration(Spec):
    """A technique with a recipe of its own; a bare technique takes the study's recipe.

    Attributes:
        technique: What is done.
        recipe: How; None takes the study's.
    """

    technique: AnyTechnique
    recipe: Recipe | None = None

    def __init__(self, technique: Any = None, /, **fields: Any) -> None:
        super().__init__(**({"technique": technique} if technique is not None else {}), **fields)


class Seeds(Spec):
    """Crossed seeds: every head seed with every order seed with every noise seed.

    Attributes:
        head: Seeds of the `head` stream.
        order: Seeds of the `order` stream.
        noise: Seeds of the `noise` stream.
    """

    head: tuple[int, ...] = Field(min_length=1)
    order: tuple[int, ...] = Field(min_length=1)
    noise: tuple[int, ...] = Field(min_length=1)

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """No seed stands twice in a stream."""
        return [
            Mistake(stream, f"{list(given)} has a seed twice.")
            for stream in Seed._fields
            if (given := fields.get(stream)) is not None and len(set(given)) < len(list(given))
        ]

    def each(self) -> list[Seed]:
        """All combinations."""
        return [Seed(*streams) for streams in product(self.head, self.order, self.noise)]

    def text(self) -> str:
        """A short text that says which seeds these are, such as `head=0-4 order=0-4 noise=0`."""
        return " ".join(f"{stream}={ranges(getattr(self, stream))}" for stream in Seed._fields)


def _side(seeds: Any) -> str:
    """Which of the two that seeds can be, so that a mistake is not told of the other, too."""
    return "[crossed]" if isinstance(seeds, Seeds | Invalid | Mapping) else "[listed]"


AnySeeds = Annotated[  # a mistake's path leaves out what has a bracket
    Annotated[tuple[int, ...], Tag("[listed]")] | Annotated[Seeds, Tag("[crossed]")],
    Discriminator(_side),
]


def _listed(seeds: Any) -> Any:
    if isinstance(seeds, int):
        raise ValueError(f"{seeds} is no list of seeds; write range({seeds}) or [{seeds}].")
    return tuple(seeds) if isinstance(seeds, range | list | set) else seeds


def _several(given: Any) -> Any:
    """A technique alone would count as none: it is a sequence of its fields."""
    if isinstance(given, Spec):
        raise ValueError(f"one {type(given).__name__} is no list; write [...] around it.")
    return given


def _as_budget(budget: Any) -> Any:
    if isinstance(budget, int | float):
        raise ValueError(f"{budget} is no budget; write Budget(hours={budget}).")
    return budget


class TaskOverrides(Spec):
    """What one task does otherwise than the study.

    Attributes:
        recipe: Its recipe, where a configuration has none of its own; None takes the study's.
        seeds: Its seeds; None takes the study's.
    """

    recipe: Recipe | None = None
    seeds: Annotated[AnySeeds | None, BeforeValidator(_listed)] = None

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """Seeds, where there are any, stand once."""
        return _repeats("seeds", fields.get("seeds"))


def _as_entry(value: Any) -> Any:
    if isinstance(value, Technique):
        return Configuration(value)
    if isinstance(value, Invalid):
        raise value.error
    if isinstance(value, Configuration | Search):
        return value
    raise ValueError(f"{value!r} is not a technique, Configuration(...) or Search(...).")


class Study(Spec):
    """A question: which runs there are, and what it takes to run them.

    Attributes:
        name: Names the MLflow experiment.
        tasks: What is learnt.
        models: What is fine-tuned.
        techniques: Techniques, configurations or searches; all are crossed with all tasks, models,
            seeds.
        recipe: What bare techniques share.
        seeds: Whole numbers, each setting all three streams, or `Seeds` that cross them.
        per_task: By a task's name, a recipe or seeds of its own.
        tune: How searches choose; None where there are none.
        keep: Whether trained models stay on disk, in the study's folder: of no run, of the run with
            the best dev score in each cell, or of all. Runs that are already done are not trained
            again for it; `study export` makes their models.
        data: A folder where the tasks' relative paths start, before `STUDY_DATA`.
        gpus: Share of a GPU per run, or a whole number; 0 runs on CPUs. Book-keeping only: nothing
            limits memory.
        needs: What else of a machine each run takes, by the name of Ray's resource: on mixed
            clusters such as `{"gpu_gb": 10}`, where machines declare how much they have.
        budget: When to end, whatever is missing then; None has no limit.
        checkpoint_minutes: How often a run saves its place, from which it goes on after its worker
            or machine was lost; a shorter run starts anew.
        hang_minutes: Without progress, after which a run is done again elsewhere.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    tasks: Annotated[tuple[Task, ...], BeforeValidator(_several)]
    models: Annotated[tuple[Model, ...], BeforeValidator(_several)]
    techniques: Annotated[
        tuple[Annotated[Configuration | Search, PlainValidator(_as_entry)], ...],
        BeforeValidator(_several),
    ]
    recipe: Recipe = Recipe()
    seeds: Annotated[AnySeeds, BeforeValidator(_listed)]
    per_task: dict[str, TaskOverrides] = {}
    tune: Tune | None = None
    keep: Literal["none", "best", "all"] = "none"
    data: str | None = None
    gpus: float = Field(default=0.0, ge=0.0)
    needs: dict[str, Annotated[float, Field(gt=0)]] = {}
    budget: Annotated[Budget | None, BeforeValidator(_as_budget)] = None
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    hang_minutes: float = Field(default=30.0, gt=0)

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """Nothing stands twice, and there are seeds."""
        mistakes = []
        for field in ("tasks", "models", "techniques", "seeds"):
            mistakes += _repeats(field, fields.get(field))
        given_own = fields.get("per_task") or {}
        names = [task.name for task in fields.get("tasks") or [] if isinstance(task, Task)]
        mistakes += [
            Mistake(f"per_task[{name!r}]", f"no such task. {did_you_mean(name, names)}")
            for name in given_own
            if name not in names
        ]
        mistakes += [
            Mistake(
                f"per_task[{name!r}]", f"{own!r} is not a TaskOverrides(recipe=..., seeds=...)."
            )
            for name, own in given_own.items()
            if not isinstance(own, TaskOverrides | Invalid)
        ]
        mistakes += _machine_mistakes(fields)
        techniques = fields.get("techniques")
        if isinstance(techniques, list | tuple):
            seeds = [own.seeds for own in given_own.values() if isinstance(own, TaskOverrides)]
            final = set().union(*map(_numbers, [fields.get("seeds"), *seeds]))
            mistakes += tuning_mistakes(fields.get("tune"), techniques, final)
        return mistakes

    @property
    def searches(self) -> list[Search]:
        """The searches among the techniques, in the order of the file."""
        return [entry for entry in self.techniques if isinstance(entry, Search)]

    def places(self) -> list[tuple[Task, Model]]:
        """Every task with every model, in the order of the file."""
        return list(product(self._placed_tasks(), self.models))

    def cells(self) -> list[Cell]:
        """The cells that the file states outright, in its order; `Stages` adds what is searched."""
        stated = [entry for entry in self.techniques if isinstance(entry, Configuration)]
        return [self.cell(*place, each) for place in self.places() for each in stated]

    def cell(self, task: Task, model: Model, configuration: Configuration) -> Cell:
        """A configuration at a place, labelled with the recipe fields that differ from ours."""
        shared = self.recipe_of(task)
        technique, recipe = configuration.technique, configuration.recipe or shared
        return Cell(task, model, technique, recipe, technique.label + _difference(recipe, shared))

    def recipe_of(self, task: Task) -> Recipe:
        """What bare techniques share on a task."""
        own = self.per_task.get(task.name)
        return own.recipe if own and own.recipe else self.recipe

    def each_seed(self, task: Task) -> list[Seed]:
        """All seeds of a task, in order."""
        seeds = self._seeds_of(task)
        if isinstance(seeds, Seeds):
            return seeds.each()
        return [Seed(number, number, number) for number in seeds]

    def seeds_text(self, task: Task) -> str:
        """A short text that says which seeds these are, such as `0-19`."""
        seeds = self._seeds_of(task)
        return seeds.text() if isinstance(seeds, Seeds) else ranges(seeds)

    def runs(self) -> list[Run]:
        """Their runs, seed by seed, so that a study cut short has compared like with like."""
        cells = self.cells()
        return in_turn([[Run(cell, s) for s in self.each_seed(cell.task)] for cell in cells])

    def _seeds_of(self, task: Task) -> AnySeeds:
        own = self.per_task.get(task.name)
        return own.seeds if own and own.seeds is not None else self.seeds

    def _placed_tasks(self) -> list[Task]:
        return [task.replace(folder=self.data) if self.data else task for task in self.tasks]


def _repeats(field: str, given: Any) -> list[Mistake]:
    """What is wrong with a list of which each element counts once."""
    if not isinstance(given, list | tuple | range | set):
        return []
    given = list(given)
    mistakes = [] if given else [Mistake(field, "is empty; a study needs at least one.")]
    values = [_told_apart(value) for value in given]
    for index, value in enumerate(values):
        if value is not None and (first := values.index(value)) < index:
            mistakes.append(Mistake(f"{field}[{index}]", f"repeats {field}[{first}]: {value}."))
    return mistakes


def _told_apart(value: Any) -> str | None:
    """What makes an element of a study its own; None where it is wrong anyway."""
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


def _machine_mistakes(fields: Mapping[str, Any]) -> list[Mistake]:
    gpus, needs = fields.get("gpus"), fields.get("needs")
    mistakes = []
    if isinstance(gpus, int | float) and gpus > 1 and gpus % 1:
        text = f"{gpus} is neither a share of a GPU nor a whole number of them."
        mistakes.append(Mistake("gpus", text))
    for name, field in {"CPU": "recipe.threads", "GPU": "gpus"}.items():
        if isinstance(needs, Mapping) and name in needs:
            mistakes.append(Mistake(f"needs[{name!r}]", f"{field} says that."))
    return mistakes


def _numbers(seeds: Any) -> set[int]:
    """Every number that stands among a study's seeds, in any stream."""
    if isinstance(seeds, Seeds):
        return {*seeds.head, *seeds.order, *seeds.noise}
    given = seeds if isinstance(seeds, list | tuple | range | set) else ()
    return {number for number in given if isinstance(number, int)}


def _difference(recipe: Recipe, shared: Recipe) -> str:
    changed = [
        f"{name}={short(getattr(recipe, name))}"
        for name in Recipe.model_fields
        if getattr(recipe, name) != getattr(shared, name)
    ]
    return f"[{', '.join(changed)}]" if changed else ""
