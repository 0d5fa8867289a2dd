"""Hyperparameter search: random, TPE and grid.

`choose` is a pure function of space, seed and scores so far. Nothing is stored between calls, so an
interrupted study repeats its choices.
"""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.samplers import TPESampler

from search_spaces.common import Draw, Space, derive_seed, draw, quiet_optuna

Sampler = Literal["random", "tpe", "grid"]

STARTUP = 10  # random configurations before the first proposal of TPE; Optuna's default
BATCH = 4  # proposals of TPE at a time; fixed, so that the number of workers changes no choice


def choose(
    space: Space, *, sampler: Sampler, trials: int, seed: int, scores: Sequence[float]
) -> list[Draw]:
    """All configurations of a search that are known so far, in the order in which they are tried.

    Random search and the grid know all of them at once. TPE begins with the first ten of random
    search, then proposes four at a time; each batch needs the scores of all before it. A proposal
    that was already tried is replaced by the next untried random draw, so that all searches try the
    same number of distinct configurations.

    Args:
        space: The search space.
        sampler: `random`, `tpe` or `grid`, which shuffles `space.grid()`.
        trials: Number of configurations in all.
        seed: Seeds every draw; the global generators are neither read nor changed.
        scores: Scores of the first configurations, in their order; higher is better, no NaN.

    Returns:
        At most `trials` distinct configurations, those with scores first. A search with more trials
        begins with the same ones.

    Raises:
        ValueError: If the space or its grid holds fewer than `trials` distinct values.

    Example:
        >>> from search_spaces import SPACES, choose
        >>> first = choose(SPACES["RDrop"], sampler="tpe", trials=20, seed=0, scores=[])
        >>> len(first)
        10
        >>> scores = [draw.recipe["lr"] for draw in first]
        >>> len(choose(SPACES["RDrop"], sampler="tpe", trials=20, seed=0, scores=scores))
        14

    Source: Bergstra & Bengio 2012 for random search; Bergstra et al. 2011 for TPE, in Optuna's
        implementation. Differs: batches; no configuration twice.
    """
    if sampler == "grid":
        points = space.grid()
        if trials > len(points):
            raise ValueError(f"trials: {trials} is more than the {len(points)} points of the grid.")
        random.Random(derive_seed(seed, "grid")).shuffle(points)
        return points[:trials]
    pool = draw(space, trials, seed=seed)
    if sampler == "random":
        return pool
    chosen = pool[:STARTUP]
    while len(chosen) <= len(scores) and len(chosen) < trials:
        for proposal in _proposals(space, chosen, scores, seed=seed)[: trials - len(chosen)]:
            untried = (value for value in (proposal, *pool) if value not in chosen)
            chosen.append(next(untried))
    return chosen


def flatten(value: Space | Draw) -> dict[str, Any]:
    """The fields of a space or draw as one mapping: `technique.rate`, `recipe.lr`."""
    parts: Mapping[str, Mapping[str, Any]] = {"technique": value.technique, "recipe": value.recipe}
    return {f"{part}.{name}": v for part, fields in parts.items() for name, v in fields.items()}


def describe(space: Space) -> dict[str, Any]:
    """The distribution of every field as plain data, in Optuna's JSON format."""
    return {
        name: json.loads(distribution_to_json(distribution))
        for name, distribution in flatten(space).items()
    }


def _proposals(
    space: Space, tried: Sequence[Draw], scores: Sequence[float], *, seed: int
) -> list[Draw]:
    """A batch of proposals by TPE, given the scores so far."""
    fields: dict[str, BaseDistribution] = flatten(space)
    # The seed depends on the batch, since no sampler state is kept between batches.
    sampler = TPESampler(n_startup_trials=STARTUP, seed=derive_seed(seed, f"tpe {len(tried)}"))
    with quiet_optuna():
        study = optuna.create_study(direction="maximize", sampler=sampler)
    for value, score in zip(tried, scores, strict=False):  # later scores belong to later batches
        study.add_trial(
            optuna.trial.create_trial(params=flatten(value), distributions=fields, value=score)
        )
    proposed = [study.ask(fields).params for _ in range(BATCH)]
    return [
        Draw(
            {name: params[f"technique.{name}"] for name in space.technique},
            {name: params[f"recipe.{name}"] for name in space.recipe},
        )
        for params in proposed
    ]
