"""A run that was interrupted has the bits of one that was not, whatever the technique."""

import random

import pytest

from study.fitting import Setting
from study.metrics import METRICS
from study.seeding import Seed
from study.techniques import TECHNIQUES
from tests.conftest import PAIRS, RECIPE
from tests.examples import EXAMPLES as E
from tests.interrupting import beats_of, bits, resumed, whole

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


@pytest.mark.parametrize(
    ("technique", "recipe"), CASES, ids=lambda value: getattr(value, "title", "")
)
def test_an_interrupted_run_has_the_same_bits(technique, recipe, data, model, tmp_path, caplog):
    """Cut short twice, at random: in an epoch, at its end, while dev is read, in a later start."""
    setting = Setting(recipe, technique, Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
    beats = beats_of(setting, data, model, tmp_path)
    drawn = random.Random(technique.title)
    stops = [drawn.randrange(beats // 3, 2 * beats // 3), drawn.randrange(1, beats // 4)]
    outcome, trained, steps = resumed(setting, data, model, tmp_path, stops=stops)
    assert bits(outcome, trained) == bits(*whole(setting, data, model))
    assert steps < outcome.facts["steps"]  # else it had started anew
    assert not caplog.records
