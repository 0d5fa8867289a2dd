"""`slimfit`: the lowest published rate within a budget, which the key holds in its place."""

import pytest

from study import (
    CompressedActivations,
    InterLayerScheduling,
    Recipe,
    Standard,
    Study,
    slimfit,
)
from study.core.sizes import size_of
from study.core.spec import SpecError
from study.planning.memory import predicted_split
from study.testing import tiny_model, tiny_task
from tests.families import family_model

RECIPE = Recipe(batch_size=8, max_length=32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("slimfit") / "model")


def at(rate):
    return InterLayerScheduling(freeze_rate=rate) + CompressedActivations()


def needed(model, rate):
    split = predicted_split(model, "classification", RECIPE, at(rate), length=32, gpu=True)
    assert split is not None
    return sum(split)


def test_the_lowest_rate_that_fits_is_taken(model):
    totals = {rate: needed(model, rate) for rate in (0.75, 0.8, 0.85, 0.9, 0.95)}
    assert len(set(totals.values())) > 1
    for budget in totals.values():
        lowest = min(rate for rate, total in totals.items() if total <= budget)
        found = slimfit(f"{budget / 1e6:.6f}MB", model=model, recipe=RECIPE)
        assert found == at(lowest)


def test_the_key_holds_the_rate_and_not_the_budget(model, tmp_path):
    task = tiny_task(tmp_path)

    def key(technique):
        return (
            Study(
                name="s",
                tasks=[task],
                models=[model],
                techniques=[technique],
                recipe=RECIPE,
                seeds=[0],
            )
            .runs()[0]
            .key
        )

    assert key(slimfit("8GB", model=model, recipe=RECIPE)) == key(at(0.75))
    assert key(slimfit("16GB", model=model, recipe=RECIPE)) == key(at(0.75))


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ("1MB", "is not enough for model 'tiny': at a freeze rate of 0.95 a step of 8 rows of 32"),
        ("8", "'8' is not a size such as 8GB or 500MB"),
        ("-8GB", "is not a size"),
    ],
)
def test_a_budget_that_nothing_meets_is_a_mistake_among_the_others(budget, text, model, tmp_path):
    small = "0.01MB" if budget == "1MB" else budget
    study = Study(
        name="s",
        tasks=[tiny_task(tmp_path)],
        models=[model],
        techniques=[Standard(), slimfit(small, model=model, recipe=RECIPE)],
        seeds=[],
    )
    with pytest.raises(SpecError) as caught:
        study.runs()
    assert text in str(caught.value)
    assert "seeds is empty" in str(caught.value)


def test_what_cannot_be_predicted_is_said(tmp_path):
    deberta = family_model("deberta-v2", tmp_path)
    with pytest.raises(SpecError, match="cannot be predicted with this recipe"):
        slimfit("8GB", model=deberta, recipe=RECIPE).label  # noqa: B018


@pytest.mark.parametrize(
    ("text", "size"), [("8GB", 8e9), ("500MB", 5e8), ("2GiB", 2**31), ("1.5MiB", 1.5 * 2**20)]
)
def test_sizes(text, size):
    assert size_of(text) == size
