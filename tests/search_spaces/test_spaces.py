import random
import subprocess
import sys

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import SPACES, Draw, Space, draw, freeze_lower

RECIPE_FIELDS = {"lr", "epochs", "batch_size", "warmup", "weight_decay", "dropout"}
SIX = Space(
    technique={"layers": IntDistribution(1, 3)},
    recipe={"epochs": CategoricalDistribution((3, 10))},
)


# --- contract: every space -------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SPACES))
def test_draws_lie_in_the_space_and_name_its_fields(name):
    space = SPACES[name]
    for value in draw(space, 20, seed=0):
        for drawn, fields in ((value.technique, space.technique), (value.recipe, space.recipe)):
            assert list(drawn) == list(fields)
            for field, distribution in fields.items():
                assert distribution._contains(distribution.to_internal_repr(drawn[field]))


@pytest.mark.parametrize("name", sorted(SPACES))
def test_draws_depend_on_the_seed_alone(name):
    assert draw(SPACES[name], 8, seed=0) == draw(SPACES[name], 8, seed=0)
    assert draw(SPACES[name], 8, seed=0) != draw(SPACES[name], 8, seed=1)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_more_draws_begin_with_the_same(name):
    assert draw(SPACES[name], 16, seed=0)[:8] == draw(SPACES[name], 8, seed=0)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_values_are_plain_and_recipe_fields_known(name):
    assert set(SPACES[name].recipe) <= RECIPE_FIELDS
    (value,) = draw(SPACES[name], 1, seed=0)
    values = [*value.technique.values(), *value.recipe.values()]
    assert {type(v) for v in values} <= {int, float, str, type(None)}


# --- draw ------------------------------------------------------------------------------------


def test_a_finite_space_is_exhausted_without_duplicates():
    values = [(d.technique["layers"], d.recipe["epochs"]) for d in draw(SIX, 6, seed=0)]
    assert sorted(values) == [(1, 3), (1, 10), (2, 3), (2, 10), (3, 3), (3, 10)]


def test_more_than_a_finite_space_holds_is_refused():
    with pytest.raises(ValueError, match="n: 7 is more than the 6 distinct values of the space"):
        draw(SIX, 7, seed=0)


def test_a_range_in_steps_is_exhausted_and_its_grid_holds_the_same():
    """It once counted as infinite, and drawing more than it holds never ended."""
    steps = Space({"rate": FloatDistribution(0.1, 1.0, step=0.3)}, {})
    with pytest.raises(ValueError, match="n: 5 is more than the 4 distinct values"):
        draw(steps, 5, seed=0)
    drawn = sorted(value.technique["rate"] for value in draw(steps, 4, seed=0))
    assert drawn == [point.technique["rate"] for point in steps.grid()]
    assert drawn == pytest.approx([0.1, 0.4, 0.7, 1.0])


def test_a_space_without_fields_has_one_value():
    assert draw(Space({}, {}), 1, seed=0) == [Draw({}, {})]


@pytest.mark.parametrize(
    ("field", "size"),
    [
        (IntDistribution(1, 5, step=2), 3),  # 1, 3, 5
        (FloatDistribution(0.1, 0.1), 1),
        (FloatDistribution(0.0, 1.0), float("inf")),
        (FloatDistribution(0.1, 0.9, step=0.2), 5),  # 0.1, 0.3, 0.5, 0.7, 0.9
        (FloatDistribution(0.0, 0.8, step=0.4), 3),  # 0.0, 0.4, 0.8
        (FloatDistribution(0.2, 0.2, step=0.4), 1),
    ],
)
def test_size(field, size):
    assert Space({"x": field}, {}).size() == size


def test_the_same_recipe_field_is_paired_between_spaces():
    standard = [d.recipe for d in draw(SPACES["Standard"], 8, seed=0)]
    reinit = [d.recipe for d in draw(SPACES["ReinitTop"], 8, seed=0)]
    assert [{"lr": r["lr"], "epochs": r["epochs"]} for r in standard] == reinit


def test_fields_are_drawn_independently():
    field = FloatDistribution(0.0, 1.0)
    values = draw(Space({"a": field}, {"a": field, "b": field}), 200, seed=0)
    table = [[v.technique["a"], v.recipe["a"], v.recipe["b"]] for v in values]
    # 0.25 is 3.5 standard errors of a correlation at n = 200
    assert np.abs(np.corrcoef(table, rowvar=False) - np.eye(3)).max() < 0.25


def global_state():
    return random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def test_the_global_generators_are_neither_read_nor_changed():
    drawn = []
    for seed in (0, 1):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        before = global_state()
        drawn.append(draw(SPACES["Standard"], 4, seed=0))
        assert global_state() == before
    assert drawn[0] == drawn[1]


def test_drawing_logs_nothing_and_restores_the_logging_of_optuna(capfd):
    before = optuna.logging.get_verbosity()
    draw(SPACES["Standard"], 4, seed=0)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


# --- single spaces ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_layers", "choices"),
    [(12, (0, 3, 6, 9)), (24, (0, 6, 12, 18)), (6, (0, 1, 3, 4))],
)
def test_quarters_of_the_encoder(model_layers, choices):
    space = freeze_lower.quarters(model_layers)
    assert space.technique == {"layers": CategoricalDistribution(choices)}


# --- architecture ----------------------------------------------------------------------------


def test_search_spaces_need_neither_study_nor_torch():
    code = "import search_spaces, sys; print(*({'torch', 'study', 'ray'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
