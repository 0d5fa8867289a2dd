"""Child-tuning: masks worked by hand, and weights that must stay bit-identical."""

import pytest
import torch

from study.core.seeding import Seed
from study.tasks.kinds.encoded import evaluation_batches
from study.tasks.metrics import METRICS
from study.techniques import BiasedAdam, ChildTuningD, ChildTuningF, PriorDecay, Standard, Technique
from study.training.fit import Setting
from study.training.train import train
from tests.conftest import CPU, PAIRS, RECIPE

LAYER = "bert.encoder.layer.0.intermediate.dense.weight"


def trained(technique: Technique, data, loaded, seed: Seed = Seed(0, 0, 0)):
    recipe = RECIPE.replace(weight_decay=0.5)
    return train(Setting(recipe, technique, seed, METRICS["accuracy"], PAIRS), data, loaded, CPU)[1]


def layers(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach() for n, p in model.named_parameters() if ".encoder.layer." in n}


# --- task-free --------------------------------------------------------------------------------


def masked(state, p: float, step: int = 0) -> dict[str, torch.Tensor]:
    """Gradients of 1, after the hook."""
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.step = step
    ChildTuningF(p=p).after_backward(state)
    return {n: p.grad.clone() for n, p in state.model.named_parameters()}


def test_gradients_are_dropped_or_divided_by_p(tiny_state):
    gradients = masked(tiny_state, 0.25)
    for name, gradient in gradients.items():
        head = tiny_state.depths.of(name) == tiny_state.depths.head
        assert set(gradient.unique().tolist()) <= ({1.0} if head else {0.0, 4.0}), name
    below = torch.cat(
        [g.flatten() for n, g in gradients.items() if "pooler" not in n and "classifier" not in n]
    )
    # The mean over n weights is 1 with a standard error of sqrt((1 - p) / (p n)); five of those.
    assert below.mean().item() == pytest.approx(1.0, abs=5 * (3 / below.numel()) ** 0.5)


def test_each_step_has_its_own_mask_from_the_noise_stream(tiny_state):
    first, second = (masked(tiny_state, 0.5, step)[LAYER] for step in (0, 1))
    assert not torch.equal(first, second)
    torch.manual_seed(9)
    tiny_state.seed = Seed(7, 7, 0)  # neither the global generator nor another stream matters
    assert torch.equal(masked(tiny_state, 0.5, 0)[LAYER], first)
    tiny_state.seed = Seed(0, 0, 1)
    assert not torch.equal(masked(tiny_state, 0.5, 0)[LAYER], first)


@pytest.mark.parametrize("technique", [ChildTuningF(p=1.0), ChildTuningD(p=1.0)])
def test_keeping_everything_changes_nothing(technique, tiny_run):
    assert tiny_run(technique).curves == tiny_run(Standard()).curves


# --- task-driven ------------------------------------------------------------------------------


def test_the_mask_holds_the_largest_squares_over_all_layers(tiny_state, data):
    """Against a full sort; the head and the embeddings have no mask."""
    tiny_state.batches = lambda: (batch for _, batch in evaluation_batches(data["train"], 8))
    ChildTuningD(p=0.2).prepare(tiny_state)
    masks = {n: mask for n, (mask, _) in tiny_state.fixed["ChildTuningD"].items()}
    squares = {n: torch.zeros_like(p) for n, p in layers(tiny_state.model).items()}
    assert set(masks) == set(squares)
    for batch in tiny_state.batches():
        tiny_state.model.zero_grad()
        tiny_state.model.eval()(**batch).loss.backward()
        for name, square in squares.items():
            square += tiny_state.model.get_parameter(name).grad ** 2
    ranked = torch.cat([s.flatten() for s in squares.values()]).sort(descending=True).values
    smallest = ranked[round(0.2 * len(ranked)) - 1]
    assert smallest > 0
    for name, square in squares.items():
        assert torch.equal(masks[name], square >= smallest), name


def test_prepare_leaves_no_gradients(tiny_state, data):
    tiny_state.batches = lambda: (batch for _, batch in evaluation_batches(data["train"], 8))
    ChildTuningD(p=0.2).prepare(tiny_state)
    assert all(p.grad is None for p in tiny_state.model.parameters())


@pytest.mark.parametrize(
    "technique",
    [ChildTuningD(p=0.2), ChildTuningD(p=0.2) + BiasedAdam(), ChildTuningD(p=0.2) + PriorDecay()],
)
def test_untrained_weights_stay_bit_identical(technique, data, loaded):
    """In published code weight decay shrinks them."""
    start = layers(loaded.fresh(Seed(0, 0, 0), None))
    moved = {n: p != start[n] for n, p in layers(trained(technique, data, loaded)).items()}
    share = sum(m.sum().item() for m in moved.values()) / sum(m.numel() for m in moved.values())
    assert share == pytest.approx(0.2, abs=0.001)


def test_the_head_trains_fully(data, loaded):
    model = trained(ChildTuningD(p=0.2), data, loaded)
    start = loaded.fresh(Seed(0, 0, 0), None)
    for name in ("classifier.weight", "bert.pooler.dense.weight"):
        assert (model.get_parameter(name) != start.get_parameter(name)).all(), name


def test_the_mask_does_not_depend_on_the_noise(data, loaded):
    start = layers(loaded.fresh(Seed(0, 0, 0), None))
    moved = [
        {n: p != start[n] for n, p in layers(model).items()}
        for model in (
            trained(ChildTuningD(p=0.2), data, loaded, Seed(0, order, noise))
            for order, noise in ((0, 0), (1, 1))
        )
    ]
    assert all(torch.equal(moved[0][name], moved[1][name]) for name in start)
