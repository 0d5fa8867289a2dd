"""Gradient checkpointing and the step in the backward pass save memory; what they refuse.

That they move no bit is tested over techniques and families in `test_families.py`.
"""

from dataclasses import replace

import pytest
import torch

from study import ComponentClip, Recipe, Standard, Study
from study.core.seeding import Seed
from study.models.loading import Loaded
from study.planning.preflight import problems
from study.tasks.metrics import METRICS
from study.techniques import RDrop
from study.techniques.base import Technique
from study.training.fit import Setting
from study.training.memory import complete_state_bytes
from study.training.savers import MemorySavers
from study.training.train import train
from tests.conftest import CPU, PAIRS, RECIPE
from tests.contracts.test_families import BOTH, CHECKPOINTING, bench  # noqa: F401  (a fixture)
from tests.families import CONFIGS
from tests.interrupting import (
    CountingCheckpoint,
    Heartbeats,
    Interrupted,
    bits,
    count_heartbeats,
    resumed,
    uninterrupted,
)


@pytest.mark.parametrize("family", CONFIGS)
def test_each_saves_memory(family, bench):  # noqa: F811
    here = bench(family)
    setting = here.setting("Standard")

    def facts(**savers: bool) -> dict[str, float]:
        saving = replace(setting, savers=MemorySavers(**savers))
        return train(saving, here.data, here.loaded, CPU)[0].facts

    plain, recomputed = facts(), facts(gradient_checkpointing=True)
    assert recomputed["activations_bytes"] < plain["activations_bytes"]
    assert recomputed["gradients_bytes"] == plain["gradients_bytes"]
    in_backward = facts(step_in_backward=True)
    assert in_backward["gradients_bytes"] < plain["gradients_bytes"] / 2
    assert in_backward["activations_bytes"] == plain["activations_bytes"]
    assert in_backward["optimizer_bytes"] == plain["optimizer_bytes"]


def test_a_run_can_be_resumed_in_another_way(data, model, tmp_path):
    """They are no part of its key, so a study file may change them while runs are unfinished."""
    recipe = RECIPE.replace(clip_norm=None)
    setting = Setting(recipe, RDrop(alpha=1.0), Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
    beats = count_heartbeats(setting, data, model, tmp_path / "count")
    folder = tmp_path / "interrupted"
    stops = CountingCheckpoint(folder, 0.0, "key", heartbeat=Heartbeats(beats // 2))
    with pytest.raises(Interrupted):
        train(replace(setting, savers=BOTH), data, Loaded(model, PAIRS), CPU, stops)
    outcome, trained, steps = resumed(setting, data, model, folder, stops=[])
    assert 0 < steps < outcome.facts["steps"]  # else it started from scratch
    assert bits(outcome, trained) == bits(*uninterrupted(setting, data, model))


def test_their_text_gives_them_back():
    """`study export` reads it from a store, so that a run that needed them is trained with them."""
    for savers in (MemorySavers(), CHECKPOINTING, BOTH):
        assert MemorySavers.from_text(savers.text()) == savers
    assert MemorySavers.from_text("rm -rf, step_in_backward") == MemorySavers(False, True)


def test_counting_all_states_holds_one_gradient_at_a_time():
    """On a device that is nearly full, gradients of all weights at once would not fit."""
    weights = [torch.nn.Parameter(torch.ones(8)) for _ in range(3)]
    optimizer, seen = torch.optim.AdamW(weights), []
    own = optimizer.step
    optimizer.step = lambda: (seen.append(sum(w.grad is not None for w in weights)), own())
    assert complete_state_bytes(optimizer) == 3 * (2 * 8 * 4 + 4)
    assert seen == [1, 1, 1]
    assert all(w.grad is None for w in weights)


class ReadsGradients(Technique):
    """A user's technique that needs the gradients of all weights."""

    def after_backward(self, state):  # type: ignore[no-untyped-def]
        pass


@pytest.mark.parametrize(
    "technique", [ComponentClip(), ReadsGradients(), RDrop() + ReadsGradients()]
)
def test_what_needs_all_gradients_is_refused_before_the_first_run(technique, task, model):
    recipe = Recipe(clip_norm=None, max_length=32)
    study = Study(
        name="refused",
        tasks=[task],
        models=[model],
        techniques=[technique],
        recipe=recipe,
        seeds=[0],
        step_in_backward=True,
    )
    (mistake,) = [m for m in problems(study) if "gradients" in m.text]
    assert mistake.path == "techniques[0]"
    assert not [m for m in problems(study.replace(step_in_backward=False)) if "gradi" in m.text]


def test_clipping_is_refused_before_the_first_run(task, model):
    options = {"tasks": [task], "models": [model], "seeds": [0], "recipe": Recipe(max_length=32)}
    study = Study(name="refused", techniques=[Standard()], step_in_backward=True, **options)
    (mistake,) = problems(study)
    assert "clip_norm=None" in mistake.text
    checkpointing = study.replace(step_in_backward=False, gradient_checkpointing=True)
    assert problems(checkpointing) == []
    assert [run.key for run in checkpointing.runs()] == [run.key for run in study.runs()]
