"""Every technique on decoders that generate: deterministic, resumed bit for bit, or refused.

The output layer is tied to the embeddings in two of them, of two families, and has weights of its
own in the third.
"""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.models.families import depths_of, lies_under
from study.models.loading import Loaded
from study.tasks.kinds import Generation
from study.tasks.metrics import METRICS
from study.techniques.state import TrainState
from study.training.fit import Setting
from study.training.prepare import prepare
from study.training.savers import MemorySavers, misfit
from study.training.train import train
from tests.conftest import CPU
from tests.examples import EXAMPLES
from tests.generating import answering_task, decoder
from tests.interrupting import bits, count_heartbeats, resumed, uninterrupted

KIND, SEED = Generation(()), Seed(0, 0, 0)
RECIPE = Recipe(lr=1e-2, epochs=2, batch_size=8, dropout=0.1, clip_norm=None)
BOTH = MemorySavers(gradient_checkpointing=True, step_in_backward=True)
CHECKPOINTING = MemorySavers(gradient_checkpointing=True)
REFUSED = {  # by both decoders
    *("BitFit", "CompressedActivations"),  # no biases, no LayerNorm
    *("ProbeThenTune", "Restarts"),  # no new head
    "ReinitTop",  # a head that cannot read new layers
    "SupervisedContrastive",  # no class per example
}
INJECTED = {"LoRA", "PEFT"}
CASES = [
    pytest.param(name, which, id=f"{name}-{which}")
    for name in EXAMPLES
    for which in ("tied", "untied", "qwen2")
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generating")
    rows = answering_task(folder / "rows").load()
    found = {}
    for which, family in (("tied", "llama"), ("untied", "llama"), ("qwen2", "qwen2")):
        model = decoder(folder / which, tied=which != "untied", family=family)
        loaded = Loaded(model, KIND)
        found[which] = model, loaded, prepare(rows, loaded.processor, 32).splits
    return found


@pytest.fixture(scope="module")
def plain(bench):
    """The test outputs of the baseline, by decoder."""
    return {
        which: train(setting_of("Standard"), data, loaded, CPU)[0].logits["test"]
        for which, (_, loaded, data) in bench.items()
    }


def setting_of(name: str) -> Setting:
    return Setting(RECIPE, EXAMPLES[name], SEED, METRICS["perplexity"], KIND)


@pytest.mark.parametrize(("name", "which"), CASES)
def test_a_technique_is_deterministic_or_refused(name, which, bench, plain):
    _, loaded, data = bench[which]
    setting, fresh = setting_of(name), loaded.fresh(SEED, None)
    objection = setting.technique.objection(depths_of(fresh), KIND.name)
    refused = REFUSED - ({"BitFit"} if which == "qwen2" else set())  # it has some biases
    assert (objection is not None) == (name in refused)
    if objection is not None:
        return
    outcome, trained = train(setting, data, loaded, CPU)
    assert outcome.outcome == "completed"
    assert np.isfinite(outcome.curves["train/loss"]).all()
    recipe = setting.technique.recipe(setting.recipe)
    savers = CHECKPOINTING if misfit(BOTH, setting.technique, recipe) else BOTH
    again = train(replace(setting, savers=savers), data, loaded, CPU)
    assert bits(*again) == bits(outcome, trained)
    if name != "Standard":
        assert not np.array_equal(plain[which], outcome.logits["test"])

    end = {n.replace(".base_layer.", "."): p for n, p in trained.named_parameters()}
    moved = {n for n, start in fresh.named_parameters() if not torch.equal(start, end[n])}
    if name in INJECTED:
        assert not moved, "the base is frozen"
        assert len(end) > len(list(fresh.named_parameters()))
    elif name == "Adapters":
        assert moved
        assert all("norm" in n for n in moved), "of the base it trains the norms alone"
    else:
        assert moved, "nothing was trained"
    if name == "BAdam":
        assert not any(lies_under(n, ["model.embed_tokens", "lm_head"]) for n in moved)


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - REFUSED))
def test_an_interrupted_run_has_the_same_bits(name, bench, tmp_path, caplog):
    model, _, data = bench["tied"]
    setting = setting_of(name)
    beats = count_heartbeats(setting, data, model, tmp_path)
    stop = random.Random(name).randrange(beats // 3, 2 * beats // 3)
    outcome, trained, steps = resumed(setting, data, model, tmp_path, stops=[stop])
    assert bits(outcome, trained) == bits(*uninterrupted(setting, data, model))
    assert steps < outcome.facts["steps"]  # else it started from scratch
    assert not caplog.records


def test_lisa_trains_both_ends_in_every_step(bench):
    """The output layer too where it has weights of its own, as in the authors' code."""
    _, loaded, _ = bench["untied"]
    fresh = loaded.fresh(SEED, None)
    state = TrainState(fresh, RECIPE, SEED, depths_of(fresh), CPU, KIND, lambda: iter(()))
    names = set(EXAMPLES["LISA"].active(state.trainable, state))
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= names
    assert len({state.depths.of(n) for n in names if n.startswith("model.layers")}) == 1
