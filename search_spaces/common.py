"""Search spaces, random draws from them, and ranges that several spaces share."""

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
    """The search space of a technique and its recipe.

    Attributes:
        technique: Distribution per field of the technique.
        recipe: Distribution per field of the recipe; other fields are those of the study.

    Example:
        >>> from optuna.distributions import CategoricalDistribution, IntDistribution
        >>> from search_spaces import Space
        >>> epochs = CategoricalDistribution((3, 10))
        >>> space = Space(technique={"layers": IntDistribution(1, 3)}, recipe={"epochs": epochs})
        >>> space.size()
        6
        >>> space.grid()[0]
        Draw(technique={'layers': 1}, recipe={'epochs': 3})
    """

    technique: Mapping[str, BaseDistribution]
    recipe: Mapping[str, BaseDistribution]

    def size(self) -> float:
        """Number of distinct values; infinite with a continuous field."""
        return prod(map(_count, [*self.technique.values(), *self.recipe.values()]))

    def grid(self) -> "list[Draw]":
        """Every combination; a continuous field at its ends and its middle, on its own scale."""
        parts = [
            [
                dict(zip(fields, values, strict=True))
                for values in product(*map(_points, fields.values()))
            ]
            for fields in (self.technique, self.recipe)
        ]
        return [Draw(dict(technique), dict(recipe)) for technique, recipe in product(*parts)]


@dataclass(frozen=True)
class Draw:
    """One configuration of a space, as keyword arguments.

    Attributes:
        technique: Value per field of the technique.
        recipe: Value per field of the recipe.

    Example:
        >>> from search_spaces import Draw
        >>> from study import LayerwiseDecay
        >>> LayerwiseDecay(**Draw(technique={"rate": 0.9}, recipe={}).technique).label
        'LayerwiseDecay(0.9)'
    """

    technique: dict[str, Any]
    recipe: dict[str, Any]


# Source: Turc et al. 2019 give 3e-5, 5e-5, 1e-4 and 3e-4 for BERTs smaller than base. Differs: the
# whole interval.
LR_SMALL = FloatDistribution(3e-5, 3e-4, log=True)

# Source: Gu et al. 2021 (PubMedBERT and BLURB): lr 1e-5, 3e-5 or 5e-5. Differs: the whole interval.
LR = FloatDistribution(1e-5, 5e-5, log=True)

# For losses with perturbed inputs. Source: Aghajanyan et al. 2021 and Zhu et al. 2020 run 1e-5.
# Differs: up to 3e-5, chosen here.
LOW_LR = FloatDistribution(1e-5, 3e-5, log=True)

# Source: 20 in Mosbach et al. 2021, 3 in the short runs of Zhang et al. 2021. Differs: 10 as well.
EPOCHS = CategoricalDistribution((3, 10, 20))


def small(space: Space) -> Space:
    """The space for models smaller than base: the same with higher learning rates.

    Args:
        space: The space of a technique that trains all weights.

    Example:
        >>> from search_spaces import SPACES, small
        >>> small(SPACES["Standard"]).recipe["lr"].high
        0.0003
    """
    return Space(technique=space.technique, recipe={**space.recipe, "lr": LR_SMALL})


def draw(space: Space, n: int, *, seed: int) -> list[Draw]:
    """Draw distinct configurations at random; a larger `n` begins with the same ones.

    Every field has its own random stream. Two spaces that share a recipe field therefore get the
    same values of it from the same seed, or the same quantiles where their ranges differ, so that
    techniques are compared on paired recipes.

    Args:
        space: The search space.
        n: Number of configurations.
        seed: Seeds all streams; the global generators are neither read nor changed.

    Raises:
        ValueError: If the space holds fewer than `n` distinct values.

    Example:
        >>> from search_spaces import SPACES, draw
        >>> first = draw(SPACES["LayerwiseDecay"], 2, seed=0)
        >>> draw(SPACES["LayerwiseDecay"], 5, seed=0)[:2] == first
        True

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


def derive_seed(seed: int, purpose: str) -> int:
    """A 32-bit seed for one purpose, derived by hashing."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:4], "big")


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Suppress the log line that Optuna prints for every new study."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _stream(seed: int, name: str) -> optuna.Study:
    """An in-memory Optuna study with random sampling."""
    sampler = optuna.samplers.RandomSampler(seed=derive_seed(seed, name))
    with quiet_optuna():
        return optuna.create_study(sampler=sampler)


def _points(distribution: BaseDistribution) -> tuple[Any, ...]:
    """The values of one field on a grid."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution):
        return tuple(range(low, high + 1, distribution.step))
    if distribution.step is not None:  # the values to which Optuna's samplers round
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
