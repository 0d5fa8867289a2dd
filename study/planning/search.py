"""Hyperparameter search: `Search` is what is searched, `Tune` is the protocol."""

from collections.abc import Iterator, Mapping, Sequence, Sized
from itertools import product
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import Field, PlainValidator, field_validator

from study.core.recipe import Recipe
from study.core.seeding import Seed, SeedNumber
from study.core.spec import Invalid, Mistake, Spec, SpecError, did_you_mean
from study.techniques.base import Combined, Technique

FIXED = {  # recipe fields that cannot be searched, and why
    "max_length": "the data are tokenised once for all configurations",
    "threads": "it sets the resources of a run, not how it trains",
}


@runtime_checkable
class SearchSpace(Protocol):
    """The interface of `search_spaces.Space` that a search needs: a distribution per field."""

    technique: Mapping[str, Any]
    recipe: Mapping[str, Any]

    def size(self) -> float:
        """Number of distinct values."""

    def grid(self) -> Sized:
        """The points of its grid."""


def _as_searched(value: Any) -> Any:
    if isinstance(value, Invalid):
        raise value.error
    if isinstance(value, Technique) or (isinstance(value, type) and issubclass(value, Technique)):
        return value
    raise ValueError(f"{value!r} is neither a technique nor a class of techniques.")


class Search(Spec):
    """A technique whose configuration is tuned on dev, per task and model, before the comparison.

    Attributes:
        technique: The class, such as `LayerwiseDecay`; or a technique, or a sum of several, whose
            other fields stay as they are.
        space: Search space over fields of the technique and of the recipe, such as
            `SPACES["LayerwiseDecay"]`. Of a sum only the recipe can be searched.
        recipe: Recipe for the fields that are not searched; None takes the study's.

    Example:
        >>> from search_spaces import SPACES
        >>> from study import LayerwiseDecay, Search
        >>> Search(LayerwiseDecay, SPACES["LayerwiseDecay"]).title
        'Search(LayerwiseDecay)'

        The learning rate alone:

        >>> from optuna.distributions import CategoricalDistribution
        >>> from search_spaces import Space
        >>> from study import EMA
        >>> rates = Space(technique={}, recipe={"lr": CategoricalDistribution((1e-4, 2e-4))})
        >>> Search(LayerwiseDecay(rate=0.9) + EMA(), rates).title
        'Search(LayerwiseDecay(0.9) + EMA)'
    """

    technique: Annotated[type[Technique] | Technique, PlainValidator(_as_searched)]
    space: Any
    recipe: Recipe | None = None

    def __init__(self, technique: Any = None, space: Any = None, /, **fields: Any) -> None:
        given = {"technique": technique, "space": space}
        super().__init__(**{k: v for k, v in given.items() if v is not None}, **fields)

    @property
    def title(self) -> str:
        """Display name, such as `Search(LayerwiseDecay)`."""
        return f"Search({self._name})"

    @property
    def _name(self) -> str:
        one = self.technique
        return one.label if isinstance(one, Technique) else one.__name__

    def configured(self, values: Mapping[str, Any]) -> Technique:
        """The technique with these values of its searched fields."""
        one = self.technique
        return one.replace(**values) if isinstance(one, Technique) else one(**values)

    def model_post_init(self, context: Any, /) -> None:
        """Reject a space with fields or values that the technique or the recipe does not accept."""
        if not isinstance(self.space, SearchSpace):
            text = f"{self.space!r} is not a search space; use one of SPACES, or Space(...)."
            raise SpecError(self.title, [Mistake("space", text)])
        own, fields = self.technique, self.space.technique
        if isinstance(own, Combined):
            text = "cannot be searched: it is a sum of techniques."
            mistakes = [Mistake(f"space.technique.{name}", text) for name in fields]
        else:
            mistakes = _range_mistakes("technique", own, fields)
        mistakes += _range_mistakes("recipe", Recipe, self.space.recipe)
        if isinstance(own, type):
            mistakes += [
                Mistake(f"space.technique.{name}", f"is missing: {self._name} needs it.")
                for name, field in own.model_fields.items()
                if field.is_required() and name not in fields
            ]
        if mistakes:
            raise SpecError(self.title, mistakes)

    def examples(self, shared: Recipe) -> Iterator[tuple[Technique, Recipe]]:
        """Configurations that together cover all choices and the ends of all ranges.

        All values of technique fields are combined with all values of recipe fields, since a
        technique may reject a recipe. Within a technique or recipe, one field varies at a time.

        Args:
            shared: The study's recipe.
        """
        techniques = [self.configured(values) for values in _one_at_a_time(self.space.technique)]
        base = self.recipe or shared
        recipes = [base.replace(**values) for values in _one_at_a_time(self.space.recipe)]
        yield from product(techniques, recipes)


class Tune(Spec):
    """Two-stage protocol: choose each search's configuration on dev, then run it on fresh seeds.

    Every search tries the same number of configurations, each on all tuning seeds; there is no
    pruning and no early stopping. The highest mean dev score wins, and the earlier one in a tie. A
    diverged run counts with the constant predictor's score, a collapsed one with its own.

    Attributes:
        trials: Number of configurations per task, model and search.
        seeds: Seeds of each trial: a number of seeds, counted from 0, or a list. They must not be
            among the study's seeds.
        sampler: `random`; `tpe`, whose first ten trials are random and which then learns from the
            dev scores, four trials at a time; or `grid`, in random order, where a continuous field
            has its ends and its middle.
        seed: Seed of the sampler. Searches that share a recipe field draw the same values for it.

    Example:
        >>> from study import Tune
        >>> tune = Tune(trials=12, seeds=2, sampler="tpe")
        >>> tune.seeds
        (0, 1)

    Source: Dodge et al. 2019 for the expected best of a number of trials, whose curve is valid for
        random draws: hence the default. The equal budget and the fresh seeds are our choices.
    """

    trials: int = Field(gt=0)
    seeds: tuple[SeedNumber, ...] = Field(min_length=1)
    sampler: Literal["random", "tpe", "grid"] = "random"
    seed: int = 0

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, seeds: Any) -> Any:
        if isinstance(seeds, int):
            return tuple(range(seeds))
        return tuple(seeds) if isinstance(seeds, range | list | set) else seeds

    def run_seeds(self) -> list[Seed]:
        """The seeds of each trial, in order."""
        return [Seed(number, number, number) for number in self.seeds]


def extreme_values(distribution: Any) -> tuple[Any, ...]:
    """The choices of a distribution, or the ends of its range."""
    choices = getattr(distribution, "choices", None)
    return (distribution.low, distribution.high) if choices is None else tuple(choices)


def _range_mistakes(part: str, spec: type[Spec] | Spec, ranges: Mapping[str, Any]) -> list[Mistake]:
    """Whether the fields exist, may be searched, and accept the extreme values of their ranges."""
    mistakes = []
    for name, distribution in ranges.items():
        path = f"space.{part}.{name}"
        cls = spec if isinstance(spec, type) else type(spec)
        if name not in cls.model_fields:
            text = f"{cls.__name__} has no such field. {did_you_mean(name, cls.model_fields)}"
            mistakes.append(Mistake(path, text))
        elif part == "recipe" and name in FIXED:
            mistakes.append(Mistake(path, f"cannot be searched: {FIXED[name]}."))
        else:
            mistakes += [
                Mistake(path, mistake.text)
                for value in extreme_values(distribution)
                if isinstance(example := _with(spec, name, value), Invalid)
                for mistake in example.error.mistakes
                if mistake.path == name
            ]
    return mistakes


def _with(spec: type[Spec] | Spec, name: str, value: Any) -> Spec | Invalid:
    return spec(**{name: value}) if isinstance(spec, type) else spec.replace(**{name: value})


def _one_at_a_time(ranges: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All fields at their first value; then each other value of each field, the rest unchanged."""
    values = {name: extreme_values(distribution) for name, distribution in ranges.items()}
    first = {name: own[0] for name, own in values.items()}
    varied = [{**first, name: value} for name, own in values.items() for value in own[1:]]
    return [first, *varied]


def tuning_mistakes(tune: Any, techniques: Sequence[Any], seeds: set[int]) -> list[Mistake]:
    """Inconsistencies between a study's searches, its `Tune` and its seeds.

    Args:
        tune: The study's `Tune`, or None.
        techniques: The entries of the study's `techniques`.
        seeds: All numbers in the study's seeds.
    """
    searches = [(i, s) for i, s in enumerate(techniques) if isinstance(s, Search)]
    if tune is None:
        text = "is missing: techniques[{}] is a search; give tune=Tune(trials=12, seeds=2)."
        return [Mistake("tune", text.format(searches[0][0]))] if searches else []
    if not isinstance(tune, Tune):
        return []  # its own mistakes are reported already
    mistakes = []
    if not any(isinstance(t, Search | Invalid) for t in techniques):
        text = "has nothing to search: no technique is a Search(technique, space); add one."
        mistakes.append(Mistake("tune", text))
    if shared := sorted(set(tune.seeds) & seeds):
        text = f"{shared} are also among the study's seeds; the two must not overlap."
        mistakes.append(Mistake("tune.seeds", text))
    for index, search in searches:
        size = len(search.space.grid()) if tune.sampler == "grid" else search.space.size()
        if tune.trials > size:
            what = "points of the grid" if tune.sampler == "grid" else "configurations"
            text = f"{tune.trials} is more than the {size} {what} of techniques[{index}]."
            mistakes.append(Mistake("tune.trials", text))
    if len(set(tune.seeds)) < len(tune.seeds):
        mistakes.append(Mistake("tune.seeds", f"{list(tune.seeds)} repeats a seed."))
    return mistakes
