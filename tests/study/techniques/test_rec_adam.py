"""RecAdam against its closed form, and against torch's AdamW where both must agree."""

from math import exp, sqrt

import pytest
import torch

from study.core.spec import SpecError
from study.techniques import RecAdam, Standard
from study.techniques.rec_adam import RecallingAdamW, annealed
from study.techniques.state import plain_groups

BETAS, EPS, LR, DECAY, GAMMA = (0.9, 0.999), 1e-6, 0.1, 0.05, 3.0
GRADIENTS = [1.0, -0.5, 2.0, 0.25]
SHARES = [0.1, 0.4, 0.7, 0.9]


def moved(anchor: float | None, shares: list[float]) -> list[float]:
    """The values of a weight that starts at 2.0, after each step."""
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    group = {"params": [weight], "lr": LR, "weight_decay": DECAY}
    remaining = iter(shares)
    optimizer = RecallingAdamW(
        [group],
        anchors={} if anchor is None else {weight: torch.full_like(weight, anchor)},
        betas=BETAS,
        eps=EPS,
        gamma=GAMMA,
        share=lambda: next(remaining),
    )
    path = []
    for gradient in GRADIENTS:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        path.append(weight.item())
    return path


def by_hand(anchor: float) -> list[float]:
    weight, m, v, path = 2.0, 0.0, 0.0, []
    for t, (g, lam) in enumerate(zip(GRADIENTS, SHARES, strict=True), start=1):
        m, v = BETAS[0] * m + (1 - BETAS[0]) * g, BETAS[1] * v + (1 - BETAS[1]) * g * g
        adam = m / (1 - BETAS[0] ** t) / (sqrt(v / (1 - BETAS[1] ** t)) + EPS)
        weight = weight * (1 - LR * DECAY) - LR * lam * adam
        weight -= LR * (1 - lam) * GAMMA * (weight - anchor)
        path.append(weight)
    return path


def adamw() -> list[float]:
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    path = []
    for gradient in GRADIENTS:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        path.append(weight.item())
    return path


def test_closed_form():
    assert moved(1.5, SHARES) == pytest.approx(by_hand(1.5), rel=1e-12)


def test_the_head_has_plain_adamw():
    assert moved(None, SHARES) == pytest.approx(adamw(), rel=1e-12)


def test_with_share_1_it_is_adamw():
    assert moved(1.5, [1.0] * 4) == pytest.approx(adamw(), rel=1e-12)


def test_annealing_by_hand():
    assert annealed(30, k=0.2, t0=25) == pytest.approx(1 / (1 + exp(-1.0)))
    assert annealed(25, k=0.2, t0=25) == 0.5


def test_annealing_far_from_its_middle():
    """exp(k t0) overflows from k t0 = 710 on."""
    assert annealed(1, k=1.0, t0=1000) == 0.0
    assert annealed(5000, k=1.0, t0=1000) == 1.0


def test_parameters_below_the_head_are_anchored_and_t0_is_a_share_of_the_run(tiny_state):
    tiny_state.recipe = tiny_state.recipe.replace(lr=1e-2)
    tiny_state.steps = 40
    optimizer = RecAdam(k=0.5, t0=0.25, gamma=10.0).optimizer(plain_groups(tiny_state), tiny_state)
    anchored = optimizer._anchors
    free = {name for name, p in tiny_state.model.named_parameters() if p not in anchored}
    assert {n.rpartition(".")[0] for n in free} == {"bert.pooler.dense", "classifier"}
    assert optimizer._share() == annealed(1, k=0.5, t0=10.0)
    tiny_state.step = 9
    assert optimizer._share() == 0.5


def test_the_start_is_stored_even_where_a_first_phase_trains_the_head_alone(tiny_state):
    head = [g for g in plain_groups(tiny_state) if g.depth == tiny_state.depths.head]
    RecAdam().optimizer(head, tiny_state)
    tiny_state.step = 1
    assert tiny_state.start


def test_a_pull_that_overshoots_is_refused(tiny_state):
    """With lr * gamma of 2 or more the distance grows."""
    with pytest.raises(SpecError, match=r"gamma: 5000 times the learning rate 0.0004 is not below"):
        RecAdam().recipe(tiny_state.recipe.replace(lr=4e-4))
    assert RecAdam().recipe(tiny_state.recipe.replace(lr=3e-4)).lr == 3e-4
    with pytest.raises(SpecError, match="gamma"):  # where a phase has a rate of its own
        RecAdam().optimizer(plain_groups(tiny_state), tiny_state)


def test_a_strong_pull_keeps_the_start(data, loaded):
    """With t0 at the end, the body stays near its start and the head is trained."""
    from study.core.seeding import Seed
    from study.tasks.metrics import METRICS
    from study.training.fit import Setting
    from study.training.train import train
    from tests.conftest import CPU, PAIRS, RECIPE

    start = loaded.fresh(Seed(0, 0, 0), None)
    distances = {}
    for technique in (Standard(), RecAdam(k=1.0, t0=1.0, gamma=90.0)):
        setting = Setting(RECIPE, technique, Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
        model = train(setting, data, loaded, CPU)[1]
        for name in ("bert.encoder.layer.1.output.dense.weight", "classifier.weight"):
            distance = (model.get_parameter(name) - start.get_parameter(name)).norm().item()
            distances.setdefault(name, []).append(distance)
    plain, recalled = distances["bert.encoder.layer.1.output.dense.weight"]
    assert recalled < plain / 5
    plain, recalled = distances["classifier.weight"]
    assert recalled > plain / 2
