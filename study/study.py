"""A study: tasks x models x configurations x seeds, and the key of every run in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product, zip_longest
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, SerializeAsAny, Tag

from study import metrics
from study.budget import Budget
from study.catalogue import MODELS
from study.fitting import Setting
from study.kinds import KINDS, Kind
from study.models import Model, depths_of, hollow, longest_input, processor
from study.search import Search, Tune, tuning_mistakes
from study.seeding import Seed
from study.spec import Invalid, Mistake, Recipe, Spec, SpecError, did_you_mean, digest
from study.tasks import Task
from study.techniques import TECHNIQUES, Technique
from study.techniques.base import not_exportable, parts_of, short, technique_from


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


@dataclass(frozen=True)
class Cell:
    """Task x model x configuration; what statistics are computed on.

    Attributes:
        task: The data and its metric.
        model: The checkpoint.
        technique: What is done.
        recipe: The configuration's recipe, before the technique's `recipe` hook.
        label: The configuration as people read it, such as `LayerwiseDecay(0.7)`.
    """

    task: Task
    model: Model
    technique: Technique
    recipe: Recipe
    label: str

    @property
    def name(self) -> str:
        """As people read it: `terms/minilm/LayerwiseDecay(0.7)`."""
        return f"{self.task.name}/{self.model.name}/{self.label}"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything but the seed that decides a result."""
        return {
            "task": self.task.identity(),
            "model": self.model.identity(),
            "recipe": self.recipe.canonical(),
            "technique": self.technique.canonical(),
        }

    @cached_property
    def key(self) -> str:
        """12 hex digits that name the cell."""
        return digest(self.identity)


@dataclass(frozen=True)
class Run:
    """A cell at one seed: the unit of work, of MLflow, and of resumption."""

    cell: Cell
    seed: Seed

    @property
    def name(self) -> str:
        """As people read it: `terms/minilm/LayerwiseDecay(0.7)/s3`."""
        return f"{self.cell.name}/{self.seed.label}"

    @cached_property
    def key(self) -> str:
        """12 hex digits of everything that decides the result."""
        return digest({**self.cell.identity, "seed": list(self.seed)})

    @property
    def data_key(self) -> str:
        """Runs with the same one share tokenised data."""
        return f"{self.cell.task.name}/{self.cell.model.name}/{self.recipe.max_length}"

    @property
    def recipe(self) -> Recipe:
        """The recipe as it trains, after the technique's `recipe` hook."""
        return self.cell.technique.recipe(self.cell.recipe)

    def setting(self, kind: Kind) -> Setting:
        """The run as the training core needs it; the data says which classes there are."""
        metric = metrics.metric_named(self.cell.task.metric)
        return Setting(self.cell.recipe, self.cell.technique, self.seed, metric, kind)

    def spec(self) -> dict[str, Any]:
        """Plain data from which `run_from` makes the same run."""
        return {
            "task": self.cell.task.canonical(),
            "model": self.cell.model.canonical(),
            "technique": self.cell.technique.canonical(),
            "recipe": self.cell.recipe.canonical(),
            "label": self.cell.label,
            "seed": list(self.seed),
        }


def run_from(spec: Mapping[str, Any]) -> Run:
    """The run that `Run.spec` wrote; task and technique of a user's own module are imported."""
    cell = Cell(
        Task(**spec["task"]),
        Model(**spec["model"]),
        technique_from(spec["technique"], TECHNIQUES),
        Recipe(**spec["recipe"]),
        spec["label"],
    )
    return Run(cell, Seed(*spec["seed"]))


def own_code(spec: Mapping[str, Any]) -> list[str]:
    """Names in a run's spec whose code would be imported; empty for what the project brings."""

    def names(technique: Mapping[str, Any]) -> list[str]:
        inside = technique["technique"]
        if isinstance(inside, list):
            return [name for part in inside for name in names(part)]
        return [str(inside)]

    checkpoint = str(spec["model"]["checkpoint"])
    packages = {model.checkpoint for model in MODELS.values()}
    found = [*names(spec["technique"]), str(spec["task"].get("metric", ""))]
    return [name for name in found if ":" in name] + (
        [checkpoint] if checkpoint.startswith("package:") and checkpoint not in packages else []
    )


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


class Own(Spec):
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
    per_task: dict[str, Own] = {}
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
            Mistake(f"per_task[{name!r}]", f"{own!r} is not an Own(recipe=..., seeds=...).")
            for name, own in given_own.items()
            if not isinstance(own, Own | Invalid)
        ]
        mistakes += _machine_mistakes(fields)
        techniques = fields.get("techniques")
        if isinstance(techniques, list | tuple):
            seeds = [own.seeds for own in given_own.values() if isinstance(own, Own)]
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


def in_turn(runs: Iterable[Sequence[Run]]) -> list[Run]:
    """The first run of each cell, then the second of each that has one, and so on."""
    rounds = zip_longest(*runs)
    return [run for one in rounds for run in one if run is not None]


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


def ranges(numbers: tuple[int, ...]) -> str:
    """Whole numbers as a short text, such as `0-4,7`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in parts)


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
            shape = hollow(model, KINDS[kind])
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
