"""Restarts: which start continues, and that it continues as if it were the only one."""

from dataclasses import replace

import numpy as np
import pytest

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.core.spec import SpecError
from study.models.loading import Loaded
from study.tasks.kinds import Regression
from study.tasks.metrics import METRICS
from study.techniques import Restarts, Standard
from study.techniques.base import Technique
from study.techniques.state import Starts
from study.training.fit import Setting
from study.training.train import Outcome, train
from tests.conftest import CPU, PAIRS, RECIPE


def heads(technique: Restarts, seed: Seed) -> list[Seed]:
    return list(technique.starts(seed).seeds)


def test_the_first_start_is_the_run_itself_and_only_heads_differ():
    seed = Seed(3, 4, 5)
    first, *others = heads(Restarts(heads=4), seed)
    assert first == seed
    assert len({other.head for other in others} | {3}) == 4
    assert {(other.order, other.noise) for other in others} == {(4, 5)}
    assert heads(Restarts(heads=2), seed) == [first, others[0]]  # more starts keep the first ones


def test_the_best_start_continues_as_if_it_were_the_only_one(data, model):
    """Trains every start by itself; Restarts must equal the one that leads after an epoch."""
    loaded = Loaded(model, Regression(()))  # no two starts tie in squared error
    values = {
        name: replace(
            split,
            gold=split.gold.astype(float),
            arrays={"labels": split.gold.astype(np.float32)},
        )
        for name, split in data.items()
    }

    def run(technique: Technique, seed: Seed) -> Outcome:
        setting = Setting(RECIPE, technique, seed, METRICS["mse"], Regression(()))
        return train(setting, values, loaded, CPU)[0]

    chosen = set()
    for head in range(4):
        seed = Seed(head, 0, 0)
        alone = [run(Standard(), start) for start in heads(Restarts(heads=3), seed)]
        best = int(np.argmin([outcome.curves["dev/mse"][0] for outcome in alone]))
        outcome = run(Restarts(heads=3), seed)
        assert outcome.curves == alone[best].curves
        assert np.array_equal(outcome.logits["test"], alone[best].logits["test"])
        chosen.add(best)
    assert len(chosen) > 1  # else the test could not tell the first from the best


def test_the_cost_of_all_starts_is_counted(tiny_run):
    plain = tiny_run(Standard(), epochs=3).facts["steps"]
    outcome = tiny_run(Restarts(heads=3, epochs=1), epochs=3)
    assert outcome.facts["steps"] == plain + 2 * plain / 3


def test_a_comparison_after_the_end_is_refused():
    with pytest.raises(SpecError, match="leaves nothing to train of the recipe's 3 epochs"):
        Restarts(epochs=3).recipe(Recipe(epochs=3))


class FirstDiverges(Technique):
    """Makes the first start diverge."""

    def starts(self, seed):
        return Starts((seed, seed._replace(head=99)), 1)

    def loss(self, loss, outputs, batch, state):
        return loss * float("nan") if state.seed.head == 0 else loss


def test_a_diverged_start_is_not_the_best(data, loaded):
    setting = Setting(RECIPE, FirstDiverges(), Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
    assert train(setting, data, loaded, CPU)[0].outcome == "completed"
