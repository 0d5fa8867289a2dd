"""Which configurations a search tries next: a pure function of its space, seed and scores so far.

Nothing is remembered between calls, so a study that was interrupted replays its choices.
"""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.samplers import TPESampler

from search_spaces.common import Draw, Space, draw, number, quiet

Sampler = Literal["random", "tpe", "grid"]

STARTUP = 10  # random configurations before TPE has anything to learn from; Optuna's own default
BATCH = 4  # asked of TPE at a time, however many workers there are: choices depend on it


def choose(
    space: Space, *, sampler: Sampler, trials: int, seed: int, scores: Sequence[float]
) -> list[Draw]:
    """Every configuration to try that is known so far, in the order in which they are tried.

    Random search and the grid know all of them at once. TPE begins with the first ten of random
    search; then it gives four at a time, each batch only when everything before it has a score.
    A proposal that was tried before is replaced by the next random draw that was not, so that all
    searches try the same number of distinct configurations.

    Args:
        space: Where to choose from.
        sampler: `random` draws; `tpe` learns from the scores; `grid` shuffles `space.grid()`.
        trials: How many configurations in all.
        seed: Seeds every draw; the global generators are neither read nor moved.
        scores: Of the first configurations, in their order; higher is better, no NaN.

    Returns:
        At most `trials` distinct configurations, those with scores first; more trials begin with
        the same.

    Raises:
        ValueError: If the space or its grid holds fewer than `trials` distinct values.

    Source: Bergstra & Bengio 2012 for random search; Bergstra et al. 2011 for TPE, as Optuna has
        it. Differs: batches; no proposal twice.
    """
    if sampler == "grid":
        points = space.grid()
        if trials > len(points):
            raise ValueError(f"trials: {trials} is more than the {len(points)} points of the grid.")
        random.Random(number(seed, "grid")).shuffle(points)
        return points[:trials]
    pool = draw(space, trials, seed=seed)
    if sampler == "random":
        return pool
    chosen = pool[:STARTUP]
    while len(chosen) <= len(scores) and len(chosen) < trials:
        for proposal in _proposals(space, chosen, scores, seed=seed)[: trials - len(chosen)]:
            fresh = (value for value in (proposal, *pool) if value not in chosen)
            chosen.append(next(fresh))
    return chosen


def flat(value: Space | Draw) -> dict[str, Any]:
    """The fields of a space or draw as one mapping: `technique.rate`, `recipe.lr`."""
    parts: Mapping[str, Mapping[str, Any]] = {"technique": value.technique, "recipe": value.recipe}
    return {f"{part}.{name}": v for part, fields in parts.items() for name, v in fields.items()}


def described(space: Space) -> dict[str, Any]:
    """The distribution of every field as plain data, as Optuna writes it."""
    return {name: json.loads(distribution_to_json(each)) for name, each in flat(space).items()}


def _proposals(
    space: Space, tried: Sequence[Draw], scores: Sequence[float], *, seed: int
) -> list[Draw]:
    """A batch from TPE, which knows these scores and, within the batch, what it just proposed."""
    fields: dict[str, BaseDistribution] = flat(space)
    sampler = TPESampler(n_startup_trials=STARTUP, seed=number(seed, f"tpe {len(tried)}"))
    with quiet():
        study = optuna.create_study(direction="maximize", sampler=sampler)
    for value, score in zip(tried, scores, strict=False):  # later scores belong to later batches
        study.add_trial(
            optuna.trial.create_trial(params=flat(value), distributions=fields, value=score)
        )
    asked = [study.ask(fields).params for _ in range(BATCH)]
    return [
        Draw(
            {name: params[f"technique.{name}"] for name in space.technique},
            {name: params[f"recipe.{name}"] for name in space.recipe},
        )
        for params in asked
    ]
