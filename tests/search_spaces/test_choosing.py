import random

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import SPACES, Draw, Space, choose, draw

DECAY = SPACES["LayerwiseDecay"]
SIX = Space({"layers": IntDistribution(1, 3)}, {"epochs": CategoricalDistribution((3, 10))})


def smooth_score(value: Draw) -> float:
    return value.technique["rate"] - abs(value.recipe["lr"] - 1e-4) * 1e4


def full_search(trials, score, seed=0, space=DECAY):
    """A TPE search, batch by batch, and the number of configurations known after each call."""
    scores, sizes = [], []
    while len(scores) < trials:
        values = choose(space, sampler="tpe", trials=trials, seed=seed, scores=scores)
        scores = [score(value) for value in values]
        sizes.append(len(values))
    return values, sizes


def test_tpe_draws_ten_then_proposes_batches_of_four():
    values, sizes = full_search(20, smooth_score)
    assert sizes == [10, 14, 18, 20]
    assert (
        values[:10]
        == draw(DECAY, 10, seed=0)
        == choose(DECAY, sampler="random", trials=10, seed=0, scores=[])
    )
    other, _ = full_search(20, lambda value: -smooth_score(value))
    assert values[:10] == other[:10]
    assert values[10:] != other[10:]


def test_a_batch_waits_for_every_score_before_it():
    scores = [smooth_score(value) for value in draw(DECAY, 10, seed=0)]
    for known in (0, 1, 9):
        chosen = choose(DECAY, sampler="tpe", trials=20, seed=0, scores=scores[:known])
        assert chosen == draw(DECAY, 10, seed=0)


def test_choices_are_repeatable_and_more_trials_begin_with_the_same():
    values, _ = full_search(20, smooth_score)
    random.seed(1)
    assert full_search(20, smooth_score)[0] == values
    assert full_search(17, smooth_score)[0] == values[:17]
    assert full_search(20, smooth_score, seed=1)[0] != values


def test_tpe_tries_nothing_twice_and_exhausts_a_finite_space():
    twelve = Space(
        {"layers": IntDistribution(1, 4)}, {"epochs": CategoricalDistribution((3, 5, 9))}
    )
    values, _ = full_search(12, lambda value: value.technique["layers"], space=twelve)
    assert sorted((v.technique["layers"], v.recipe["epochs"]) for v in values) == [
        (layers, epochs) for layers in (1, 2, 3, 4) for epochs in (3, 5, 9)
    ]


def test_scores_may_be_minus_infinity():
    values, _ = full_search(20, lambda value: float("-inf"))
    assert len(values) == 20


def test_the_grid_by_hand():
    space = Space(
        {"a": FloatDistribution(1.0, 100.0, log=True), "b": FloatDistribution(0.0, 1.0)},
        {"c": IntDistribution(1, 5, step=2), "d": CategoricalDistribution(("x", "y"))},
    )
    assert len(space.grid()) == 3 * 3 * 3 * 2
    assert {v.technique["a"] for v in space.grid()} == {1.0, 10.0, 100.0}
    assert {v.technique["b"] for v in space.grid()} == {0.0, 0.5, 1.0}
    assert {v.recipe["c"] for v in space.grid()} == {1, 3, 5}


def test_the_grid_is_shuffled_and_complete():
    whole = choose(SIX, sampler="grid", trials=6, seed=0, scores=[])
    assert whole != SIX.grid()
    assert len(whole) == len([v for v in SIX.grid() if v in whole]) == 6
    assert choose(SIX, sampler="grid", trials=4, seed=0, scores=[]) == whole[:4]
    with pytest.raises(ValueError, match="trials: 7 is more than the 6 points of the grid"):
        choose(SIX, sampler="grid", trials=7, seed=0, scores=[])
