"""What is searched, and how: `Search` stands among techniques, `Tune` states the protocol."""

from collections.abc import Iterator, Mapping, Sequence, Sized
from itertools import product
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field, field_validator

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.core.spec import Invalid, Mistake, Spec, SpecError, did_you_mean
from study.techniques.base import Technique

FIXED = {  # recipe fields that a search leaves alone, and why
    "max_length": "the data are tokenised once for all configurations",
    "threads": "it says what a run takes of the machine",
}


@runtime_checkable
class Space(Protocol):
    """What a search reads of `search_spaces.Space`: a distribution per field."""

    technique: Mapping[str, Any]
    recipe: Mapping[str, Any]

    def size(self) -> float:
        """How many distinct values it holds."""

    def grid(self) -> Sized:
        """The points of its grid."""


class Search(Spec):
    """A technique whose configuration is chosen on dev, per task and model, before it is compared.

    Attributes:
        technique: The class, such as `LayerwiseDecay`.
        space: Values worth trying for its fields and the recipe's, such as
            `SPACES["LayerwiseDecay"]`.
        recipe: Where recipes start from; None takes the study's.
    """

    technique: type[Technique]
    space: Any
    recipe: Recipe | None = None

    def __init__(self, technique: Any = None, space: Any = None, /, **fields: Any) -> None:
        given = {"technique": technique, "space": space}
        super().__init__(**{k: v for k, v in given.items() if v is not None}, **fields)

    @property
    def title(self) -> str:
        """As people read it: `Search(LayerwiseDecay)`."""
        return f"Search({self.technique.__name__})"

    def model_post_init(self, context: Any, /) -> None:
        """Refuse a space with a value that neither the technique nor the recipe takes."""
        if not isinstance(self.space, Space):
            text = f"{self.space!r} is not a search space."
            raise SpecError(self.title, [Mistake("space", text)])
        found = []
        for part, kind in (("technique", self.technique), ("recipe", Recipe)):
            ranges: Mapping[str, Any] = getattr(self.space, part)
            for name, distribution in ranges.items():
                path = f"space.{part}.{name}"
                if name not in kind.model_fields:
                    text = f"{kind.__name__} has no such field. "
                    found.append(Mistake(path, text + did_you_mean(name, kind.model_fields)))
                elif part == "recipe" and name in FIXED:
                    found.append(Mistake(path, f"cannot be searched: {FIXED[name]}."))
                else:
                    found += [
                        Mistake(path, mistake.text)
                        for value in ends(distribution)
                        if isinstance(made := kind(**{name: value}), Invalid)
                        for mistake in made.error.mistakes
                        if mistake.path == name
                    ]
        found += [
            Mistake(f"space.technique.{name}", f"is missing: {self.technique.__name__} needs it.")
            for name, field in self.technique.model_fields.items()
            if field.is_required() and name not in self.space.technique
        ]
        if found:
            raise SpecError(self.title, found)

    def examples(self, shared: Recipe) -> Iterator[tuple[Technique, Recipe]]:
        """Configurations that together hold every choice and the ends of every range.

        Every end of a technique's field meets every end of a recipe's, since a technique may
        refuse a recipe; two fields of the same part move one at a time.

        Args:
            shared: The study's recipe.
        """
        techniques = [self.technique(**values) for values in _one_by_one(self.space.technique)]
        start = self.recipe or shared
        recipes = [start.replace(**values) for values in _one_by_one(self.space.recipe)]
        yield from product(techniques, recipes)


class Tune(Spec):
    """Two stages: choose each search's configuration on dev, then run the choice on fresh seeds.

    Every search tries the same number of configurations, each on all of the tuning seeds: no seed
    is pruned and no configuration stopped early. The highest mean dev score wins, the earlier one
    of equals; a diverged run counts at the constant answer's score, a collapsed one at its own.

    Attributes:
        trials: Configurations per task, model and search.
        seeds: Their seeds: how many, counted from 0, or which. None of the study's own.
        sampler: `random`; `tpe`, which is random for its first ten trials and then learns from the
            dev scores, four trials at a time; or `grid`, where a continuous field has its ends and
            its middle, in a shuffled order.
        seed: Seeds the choices. Searches that share a recipe field draw the same values of it.

    Source: Dodge et al. 2019 for the expected best of a number of trials, whose curve is valid for
        random draws: hence the default. The equal budget and the fresh seeds are chosen here.
    """

    trials: int = Field(gt=0)
    seeds: tuple[int, ...] = Field(min_length=1)
    sampler: Literal["random", "tpe", "grid"] = "random"
    seed: int = 0

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, seeds: Any) -> Any:
        if isinstance(seeds, int):
            return tuple(range(seeds))
        return tuple(seeds) if isinstance(seeds, range | list | set) else seeds

    def each_seed(self) -> list[Seed]:
        """All tuning seeds, in order."""
        return [Seed(number, number, number) for number in self.seeds]


def ends(distribution: Any) -> tuple[Any, ...]:
    """The choices of a distribution, or the ends of its range."""
    choices = getattr(distribution, "choices", None)
    return (distribution.low, distribution.high) if choices is None else tuple(choices)


def _one_by_one(ranges: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All fields at their first end; then each other end of each field, the rest staying there."""
    first = {name: ends(each)[0] for name, each in ranges.items()}
    moved = [{**first, name: end} for name, each in ranges.items() for end in ends(each)[1:]]
    return [first, *moved]


def tuning_mistakes(tune: Any, techniques: Sequence[Any], seeds: set[int]) -> list[Mistake]:
    """What is wrong between a study's searches, its protocol and its seeds.

    Args:
        tune: The study's `Tune`, or None.
        techniques: What stands among the study's techniques.
        seeds: Every number among the study's seeds.
    """
    searches = [(i, s) for i, s in enumerate(techniques) if isinstance(s, Search)]
    if tune is None:
        text = "is missing: techniques[{}] is a search; give tune=Tune(trials=12, seeds=2)."
        return [Mistake("tune", text.format(searches[0][0]))] if searches else []
    if not isinstance(tune, Tune):
        return []  # its own mistakes are said already
    found = []
    if not any(isinstance(t, Search | Invalid) for t in techniques):
        text = "has nothing to search: no technique is a Search(technique, space)."
        found.append(Mistake("tune", text))
    if shared := sorted(set(tune.seeds) & seeds):
        text = f"{shared} are among the study's seeds too; the choice needs fresh ones."
        found.append(Mistake("tune.seeds", text))
    for index, search in searches:
        holds = len(search.space.grid()) if tune.sampler == "grid" else search.space.size()
        if tune.trials > holds:
            what = "points of the grid" if tune.sampler == "grid" else "configurations"
            text = f"{tune.trials} is more than the {holds} {what} of techniques[{index}]."
            found.append(Mistake("tune.trials", text))
    if len(set(tune.seeds)) < len(tune.seeds):
        found.append(Mistake("tune.seeds", f"{list(tune.seeds)} has a seed twice."))
    return found
