"""The strong baseline is the usual recipe over more epochs, all of them at rates that matter."""

import pytest

from study.core.recipe import Recipe
from study.core.spec import Invalid
from study.techniques import BiasedAdam, StrongBaseline
from tests.conftest import RATES, Watching


def test_the_published_recipe():
    given = Recipe(lr=3e-5, epochs=3, warmup=0.0, schedule="constant", weight_decay=0.1)
    assert StrongBaseline().recipe(given) == Recipe(lr=3e-5, epochs=20, weight_decay=0.1)


def test_at_equal_epochs_it_is_standard(tiny_run):
    assert tiny_run(StrongBaseline(epochs=2)).curves == tiny_run(epochs=2).curves


def test_the_schedule_stretches_instead_of_leaving_a_tail_at_rate_0(tiny_run):
    """Seen elsewhere: more epochs under the schedule of a short run."""
    RATES.clear()
    tiny_run(StrongBaseline(epochs=5) + Watching(), lr=1.0)  # 4 steps per epoch
    fall = [(20 - step) / 18 for step in range(2, 20)]
    assert pytest.approx([0.5, 1.0, *fall]) == RATES


def test_it_cannot_leave_out_what_it_stands_for():
    assert isinstance(StrongBaseline() + BiasedAdam(), Invalid)
