"""What a search space is, how configurations are drawn from it, and ranges that spaces share."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import inf, prod, sqrt
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)


@dataclass(frozen=True)
class Space:
    """The values worth trying.

    Attributes:
        technique: Distribution per field of the technique.
        recipe: Distribution per field of the recipe; other fields stay as the study has them.
    """

    technique: Mapping[str, BaseDistribution]
    recipe: Mapping[str, BaseDistribution]

    def size(self) -> float:
        """How many distinct values it holds; infinite with a continuous field."""
        return prod(map(_count, [*self.technique.values(), *self.recipe.values()]))

    def grid(self) -> "list[Draw]":
        """Every combination; a continuous field at its ends and its middle (on its own scale)."""
        parts = [
            [
                dict(zip(fields, values, strict=True))
                for values in product(*map(_points, fields.values()))
            ]
            for fields in (self.technique, self.recipe)
        ]
        return [Draw(dict(one), dict(other)) for one, other in product(*parts)]


@dataclass(frozen=True)
class Draw:
    """One value of a space, as keyword arguments.

    Attributes:
        technique: Value per field of the technique.
        recipe: Value per field of the recipe.
    """

    technique: dict[str, Any]
    recipe: dict[str, Any]


# Source: Turc et al. 2019 give 3e-5, 5e-5, 1e-4 and 3e-4 for BERTs smaller than base. Differs: the
# whole interval.
LR_SMALL = FloatDistribution(3e-5, 3e-4, log=True)

# Source: Gu et al. 2021 (PubMedBERT and BLURB): lr 1e-5, 3e-5 or 5e-5. Differs: the whole interval.
LR = FloatDistribution(1e-5, 5e-5, log=True)

# For losses that disturb the input. Source: Aghajanyan et al. 2021 and Zhu et al. 2020 run 1e-5.
# Differs: up to 3e-5, chosen here.
LOW_LR = FloatDistribution(1e-5, 3e-5, log=True)

# Source: 20 in Mosbach et al. 2021, 3 in the short runs of Zhang et al. 2021. Differs: 10 as well.
EPOCHS = CategoricalDistribution((3, 10, 20))


def small(space: Space) -> Space:
    """The space for models smaller than base: higher learning rates, all else as it is.

    Args:
        space: Of a technique that trains all weights.
    """
    return Space(technique=space.technique, recipe={**space.recipe, "lr": LR_SMALL})


def draw(space: Space, n: int, *, seed: int) -> list[Draw]:
    """Draw distinct values at random; the first ones stay the same when more are asked for.

    Every field has a stream of its own. Two spaces that share a recipe field therefore get the
    same values of it from the same seed, or the same quantiles where their ranges differ, so
    that techniques are compared on paired recipes.

    Args:
        space: Where to draw from.
        n: How many.
        seed: Seeds all streams; the global generators are neither read nor moved.

    Raises:
        ValueError: If the space holds fewer than `n` distinct values.

    Source: random search with equal numbers of configurations, Bergstra & Bengio 2012.
    """
    if n > space.size():
        raise ValueError(f"n: {n} is more than the {space.size()} distinct values of the space.")
    streams = {
        (part, name): (_stream(seed, f"{part}.{name}"), {name: distribution})
        for part in ("technique", "recipe")
        for name, distribution in getattr(space, part).items()
    }
    draws: list[Draw] = []
    while len(draws) < n:
        value = Draw({}, {})
        for (part, name), (stream, field) in streams.items():
            getattr(value, part)[name] = stream.ask(field).params[name]
        if value not in draws:
            draws.append(value)
    return draws


def number(seed: int, purpose: str) -> int:
    """A 32-bit seed that depends on the seed and on what it is for."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:4], "big")


@contextmanager
def quiet() -> Iterator[None]:
    """Without the log line with which Optuna greets a new study."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _stream(seed: int, name: str) -> optuna.Study:
    """An in-memory Optuna study that samples at random."""
    sampler = optuna.samplers.RandomSampler(seed=number(seed, name))
    with quiet():
        return optuna.create_study(sampler=sampler)


def _points(distribution: BaseDistribution) -> tuple[Any, ...]:
    """The values of one field on a grid."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution):
        return tuple(range(low, high + 1, distribution.step))
    if distribution.step is not None:  # as Optuna's samplers round to it
        steps = range(int(_count(distribution)))
        return tuple(min(low + i * distribution.step, high) for i in steps)
    if distribution.single():
        return (low,)
    return (low, sqrt(low * high) if distribution.log else (low + high) / 2, high)


def _count(distribution: BaseDistribution) -> float:
    """Distinct values of one field."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return len(range(distribution.low, distribution.high + 1, distribution.step))
    if distribution.step is not None:  # Optuna has moved `high` onto a step
        steps: float = (distribution.high - distribution.low) / distribution.step
        return round(steps) + 1
    return 1 if distribution.single() else inf
