"""The strong baseline: the usual recipe with its schedule stretched over more epochs."""

import pytest

from study.core.recipe import Recipe
from study.core.spec import Invalid
from study.techniques import BiasedAdam, StrongBaseline
from tests.conftest import RATES, RateRecorder


def test_the_published_recipe():
    given = Recipe(lr=3e-5, epochs=3, warmup=0.0, schedule="constant", weight_decay=0.1)
    assert StrongBaseline().recipe(given) == Recipe(lr=3e-5, epochs=20, weight_decay=0.1)


def test_at_equal_epochs_it_is_standard(tiny_run):
    assert tiny_run(StrongBaseline(epochs=2)).curves == tiny_run(epochs=2).curves


def test_the_schedule_covers_all_epochs(tiny_run):
    """A fault of other code: more epochs with the schedule of a short run."""
    RATES.clear()
    tiny_run(StrongBaseline(epochs=5) + RateRecorder(), lr=1.0)  # 4 steps per epoch
    fall = [(20 - step) / 18 for step in range(2, 20)]
    assert pytest.approx([0.5, 1.0, *fall]) == RATES


def test_it_cannot_be_combined_with_biased_adam():
    assert isinstance(StrongBaseline() + BiasedAdam(), Invalid)
