"""Interrupted runs are bit-identical to uninterrupted ones, whatever the technique."""

import random

import pytest

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.tasks.metrics import METRICS
from study.techniques import TECHNIQUES, Technique
from study.training.fit import Setting
from tests.conftest import PAIRS, RECIPE
from tests.examples import EXAMPLES as E
from tests.interrupting import bits, count_heartbeats, resumed, uninterrupted

STEPS = Recipe(lr=1e-2, steps=13, batch_size=8, schedule="cosine")  # ends within an epoch
LAST, BEST = RECIPE, RECIPE.replace(epochs=3, checkpoint="best_dev", lr=0.03)
COMBINED = [
    E["LoRA"] + E["EMA"] + E["RDrop"],
    E["LoRA"] + E["RecAdam"] + E["ProbeThenTune"],
    E["Adapters"] + E["SWA"] + E["PriorDecay"] + E["HyPe"],
    E["Mixout"] + E["RecAdam"] + E["GradualUnfreezing"] + E["EMA"],
    E["ProbeThenTune"] + E["SMART"] + E["L2SP"] + E["SWA"],
    E["Restarts"] + E["BiasedAdam"] + E["ProbeThenTune"] + E["EMA"],
    E["ChildTuningD"] + E["FreezeLower"] + E["Restarts"] + E["FreeLB"],
]
CASES = [(E[name], LAST) for name in sorted(TECHNIQUES)] + [(sum_, BEST) for sum_ in COMBINED]
CASES += [(E["GradualUnfreezing"], STEPS), (E["SWA"] + E["LISA"], STEPS)]


@pytest.mark.parametrize(
    ("technique", "recipe"), CASES, ids=lambda value: getattr(value, "title", "")
)
def test_an_interrupted_run_has_the_same_bits(technique, recipe, data, model, tmp_path, caplog):
    """Interrupted twice at random: in an epoch, at its end, in an evaluation, in a later start."""
    setting = Setting(recipe, technique, Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
    beats = count_heartbeats(setting, data, model, tmp_path)
    drawn = random.Random(technique.title)
    stops = [drawn.randrange(beats // 3, 2 * beats // 3), drawn.randrange(1, beats // 4)]
    outcome, trained, steps = resumed(setting, data, model, tmp_path, stops=stops)
    assert bits(outcome, trained) == bits(*uninterrupted(setting, data, model))
    assert steps < outcome.facts["steps"]  # else it started from scratch
    assert not caplog.records


class CountsPasses(Technique):
    """Registers a hook that counts passes, in `memo` or where they are not saved."""

    kept: bool

    def prepare(self, state):  # type: ignore[no-untyped-def]
        past = {"passes": 0}
        if self.kept:
            state.memo["CountsPasses"] = past

        def grow(module, _, output):  # type: ignore[no-untyped-def]
            past["passes"] += module.training
            return output * (1 + 0.1 * past["passes"])

        state.model.classifier.register_forward_hook(grow)


@pytest.mark.parametrize("kept", [True, False])
def test_state_of_a_hook_survives_in_memo_alone(kept, data, model, tmp_path):
    """So this contract detects a technique that keeps state elsewhere."""
    setting = Setting(LAST, CountsPasses(kept=kept), Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
    outcome, trained, _ = resumed(setting, data, model, tmp_path, stops=[4])
    assert (bits(outcome, trained) == bits(*uninterrupted(setting, data, model))) == kept
