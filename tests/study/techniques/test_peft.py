"""PEFT: each method worked by hand, at the pretrained model at first, merged and resumed."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from search_spaces import SPACES
from study.core.recipe import Recipe
from study.core.seeding import Seed, derive
from study.core.spec import Invalid
from study.models.families import in_norm
from study.tasks.metrics import METRICS
from study.techniques import L2SP, PEFT, LoRA, RecAdam
from study.techniques.peft import METHODS
from study.techniques.state import plain_groups
from study.training.fit import Setting
from study.training.savers import MemorySavers
from tests.conftest import PAIRS, RECIPE
from tests.contracts.test_sweep import stepped
from tests.families import ALL, batch_of, logits_of, state_of
from tests.interrupting import bits, count_heartbeats, resumed, uninterrupted

QUERY = "bert.encoder.layer.0.attention.self.query"
FEED_FORWARD = "bert.encoder.layer.0.output.dense"
SMALL = {  # for modules of width 16
    name: PEFT(method=name, size=size)
    for name, size in {
        **{"dora": 4, "loha": 4, "lokr": 4, "oft": 4, "hra": 4, "miss": 4},
        **{"fourierft": 50, "road": 8, "ia3": None, "ln_tuning": None},
    }.items()
}
DRAWING = ["dora", "hra", "loha", "lokr"]


def move(state):
    """Change what is trained below the head, as training does."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in state.trainable:
            parameter = state.model.get_parameter(name)
            if state.depths.of(name) < state.depths.head:
                parameter.add_(torch.randn(parameter.shape, generator=rng))


def new(state, module=QUERY):
    """What a method added to a module: values by the middle part of their names."""
    named = state.model.get_submodule(module).named_parameters()
    return {n.partition(".")[0]: p.detach() for n, p in named if not n.startswith("base_layer")}


def dora(w: Tensor, p: dict[str, Tensor]) -> Tensor:
    direction = w + 2.0 * p["lora_B"] @ p["lora_A"]
    return p["lora_magnitude_vector"][:, None] * direction / direction.norm(dim=1, keepdim=True)


def loha(w: Tensor, p: dict[str, Tensor]) -> Tensor:
    return w + (p["hada_w1_a"] @ p["hada_w1_b"]) * (p["hada_w2_a"] @ p["hada_w2_b"])


def lokr(w: Tensor, p: dict[str, Tensor]) -> Tensor:
    return w + torch.kron(p["lokr_w1"], p["lokr_w2"])


def oft(w: Tensor, p: dict[str, Tensor]) -> Tensor:
    """W times the transpose of the rotation of inputs, four blocks of four."""
    rotation = torch.zeros(16, 16)
    for block, values in enumerate(p["oft_R"]):
        q = torch.zeros(4, 4)
        q[*torch.triu_indices(4, 4, 1)] = values
        q = q - q.T
        here = slice(4 * block, 4 * block + 4)
        rotation[here, here] = (torch.eye(4) - q) @ torch.linalg.inv(torch.eye(4) + q)
    assert torch.allclose(rotation @ rotation.T, torch.eye(16), atol=1e-5)
    return w @ rotation.T


def hra(w: Tensor, p: dict[str, Tensor]) -> Tensor:
    for u in p["hra_u"].T:
        w = w @ (torch.eye(16) - 2 * torch.outer(u, u) / u.square().sum())
    return w


def miss(w: Tensor, p: dict[str, Tensor]) -> Tensor:
    return w + p["miss_block"].T.repeat(1, 4)  # inputs four apart share a column


def fourierft(w: Tensor, p: dict[str, Tensor]) -> Tensor:
    rng = torch.Generator().manual_seed(derive(Seed(0, 0, 0), "head", "PEFT"))
    spectrum = torch.zeros(256)
    spectrum[torch.randperm(256, generator=rng)[:50]] = p["fourierft_spectrum"]
    return w + 150.0 * torch.fft.ifft2(spectrum.reshape(16, 16)).real


@pytest.mark.parametrize("by_hand", [dora, loha, lokr, oft, hra, miss, fourierft])
def test_the_matrix_by_hand(by_hand, tiny_state):
    w = tiny_state.model.get_parameter(f"{QUERY}.weight").detach().clone()
    bias = tiny_state.model.get_parameter(f"{QUERY}.bias").detach().clone()
    SMALL[by_hand.__name__].prepare(tiny_state)
    move(tiny_state)
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    matrix = by_hand(w, new(tiny_state))
    assert not torch.allclose(matrix, w, atol=1e-2)
    output = tiny_state.model.get_submodule(QUERY)(x)
    assert torch.allclose(output, x @ matrix.T + bias, atol=1e-4)


def test_road_by_hand(tiny_state):
    """Output i of a group of eight is paired with output i + 4."""
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    plain = tiny_state.model.get_submodule(QUERY)(x).reshape(3, 2, 2, 4)
    SMALL["road"].prepare(tiny_state)
    move(tiny_state)
    p = new(tiny_state)
    angle, factor = (p[name].reshape(2, 4) for name in ("road_theta", "road_alpha"))
    one, two = plain[:, :, 0], plain[:, :, 1]
    turned = [one * angle.cos() - two * angle.sin(), one * angle.sin() + two * angle.cos()]
    by_hand = (factor[:, None] * torch.stack(turned, dim=2)).reshape(3, 16)
    assert torch.allclose(tiny_state.model.get_submodule(QUERY)(x), by_hand, atol=1e-5)


def test_ia3_by_hand(tiny_state):
    """It scales outputs of queries and values, and inputs of the second feed-forward map."""
    rng = torch.Generator().manual_seed(2)
    x, hidden = torch.randn(3, 16, generator=rng), torch.randn(3, 32, generator=rng)
    plain = tiny_state.model.get_submodule(QUERY)(x)
    second = tiny_state.model.get_submodule(FEED_FORWARD)
    SMALL["ia3"].prepare(tiny_state)
    move(tiny_state)
    outputs = plain * new(tiny_state)["ia3_l"].flatten()
    assert torch.allclose(tiny_state.model.get_submodule(QUERY)(x), outputs, atol=1e-6)
    inputs = second(hidden * new(tiny_state, FEED_FORWARD)["ia3_l"].flatten())
    assert torch.allclose(tiny_state.model.get_submodule(FEED_FORWARD)(hidden), inputs, atol=1e-6)


def test_ln_tuning_trains_the_norms_of_layers_in_place():
    state = state_of("bert")
    names = [name for name, _ in state.model.named_parameters()]
    SMALL["ln_tuning"].prepare(state)
    assert [name for name, _ in state.model.named_parameters()] == names
    for name in names:
        norm = ".layer." in name and in_norm(state.model, name)
        head = state.depths.of(name) == state.depths.head
        assert state.model.get_parameter(name).requires_grad == (norm or head), name


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("method", SMALL)
def test_it_starts_at_the_pretrained_model_learns_and_merges_back(method, kind):
    state = state_of(kind)
    classes = {name: type(module) for name, module in state.model.named_modules()}
    named = [name for name, _ in state.model.named_parameters()]
    head = {name for name in named if state.depths.of(name) == state.depths.head}
    plain = logits_of(state, kind)
    SMALL[method].prepare(state)
    assert torch.allclose(logits_of(state, kind), plain, atol=1e-6)

    assert head < set(state.trainable)
    rest = set(state.trainable) - head
    assert all(0 < state.depths.of(name) < state.depths.head for name in rest)
    assert rest.isdisjoint(named) or method == "ln_tuning"
    state.forward(batch_of(kind)).loss.backward()
    learning = [n for n in rest if state.model.get_parameter(n).grad.abs().max() > 0]
    assert learning

    move(state)
    moved = logits_of(state, kind)
    change = (moved - plain).abs().max()  # small where the random model hardly uses attention
    assert change > 1e-6
    SMALL[method].merge(state.model)
    assert (logits_of(state, kind) - moved).abs().max() < 0.01 * change
    assert [name for name, _ in state.model.named_parameters()] == named
    assert {name: type(module) for name, module in state.model.named_modules()} == classes


@pytest.mark.parametrize("method", SMALL)
def test_all_maps_of_the_layers_on_request(method):
    if method in ("ia3", "ln_tuning"):
        assert isinstance(SMALL[method].replace(targets="linear"), Invalid)
        return
    state = state_of("llama")
    SMALL[method].replace(targets="linear").prepare(state)
    layer = "model.layers.0."
    targets = {n.partition(".base_layer")[0] for n, _ in state.model.named_parameters()}
    changed = {n for n in targets if n.startswith(layer) and n.endswith("_proj")}
    assert len(changed) == 7


@pytest.mark.parametrize("method", SMALL)
def test_values_come_from_the_head_stream_alone(method):
    def start(seed):
        state = state_of("bert", seed)
        SMALL[method].prepare(state)
        return {name: state.model.get_parameter(name).detach() for name in state.trainable}

    torch.manual_seed(1)
    first = start(Seed(0, 0, 0))
    torch.manual_seed(2)
    again, other = start(Seed(0, 7, 7)), start(Seed(1, 0, 0))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first) == (method in DRAWING)


def test_fourier_coefficients_are_placed_by_the_head_stream():
    def places(seed):
        state = state_of("bert", seed)
        SMALL["fourierft"].prepare(state)
        return state.model.get_submodule(QUERY).indices["default"]

    assert torch.equal(places(Seed(0, 0, 0)), places(Seed(0, 7, 7)))
    assert not torch.equal(places(Seed(0, 0, 0)), places(Seed(1, 0, 0)))


@pytest.mark.parametrize("method", DRAWING)
def test_every_new_matrix_has_draws_of_its_own(method):
    """So no value depends on the order in which modules are changed, or on their number."""
    values = []
    for targets in ("query_value", "linear"):
        state = state_of("bert")
        SMALL[method].replace(targets=targets).prepare(state)
        values.append(new(state))
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])
    other = new(state, QUERY.replace("query", "value"))
    assert any(not torch.equal(values[0][name], other[name]) for name in other)


@pytest.mark.parametrize("method", ["dora", "road", "ia3"])
def test_factors_do_not_decay(method):
    """Towards zero they would leave the pretrained model."""
    state = state_of("bert")
    state.recipe = Recipe(weight_decay=0.1)
    SMALL[method].prepare(state)
    groups = SMALL[method].groups(plain_groups(state), state)
    assert sorted(n for g in groups for n in g.names) == sorted(state.trainable)
    part = {"dora": "magnitude", "road": "alpha", "ia3": "ia3_l"}[method]
    for group in groups:
        if any(part in name for name in group.names):
            assert all(part in name for name in group.names)
            assert group.weight_decay == 0.0
    assert any(group.weight_decay == 0.1 for group in groups)


@pytest.mark.parametrize("method", SMALL)
def test_an_interrupted_run_has_the_same_bits(method, data, model, tmp_path):
    setting = Setting(RECIPE, SMALL[method], Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
    beats = count_heartbeats(setting, data, model, tmp_path)
    outcome, trained, steps = resumed(setting, data, model, tmp_path, stops=[beats // 2])
    assert bits(outcome, trained) == bits(*uninterrupted(setting, data, model))
    assert 0 < steps < outcome.facts["steps"]  # else it started from scratch


@pytest.mark.parametrize("method", SMALL)
def test_gradient_checkpointing_moves_no_bit(method, data, model):
    setting = Setting(RECIPE, SMALL[method], Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
    saving = replace(setting, savers=MemorySavers(gradient_checkpointing=True))
    assert bits(*uninterrupted(saving, data, model)) == bits(*uninterrupted(setting, data, model))


@pytest.mark.parametrize("method", SMALL)
def test_a_step_in_bfloat16(method):
    before, after = stepped(SMALL[method], "bert", "classification", "bfloat16")
    assert all(weight.isfinite().all() for weight in after.values())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(".layer." in name for name in moved)


def test_the_table_never_changes():
    """A key says the method, and not what the table says of it."""
    assert {name: (m.config, m.arguments(m.size)) for name, m in METHODS.items()} == {
        "dora": ("LoraConfig", {"r": 16, "lora_alpha": 32, "use_dora": True}),
        "loha": ("LoHaConfig", {"r": 8, "alpha": 8}),
        "lokr": ("LoKrConfig", {"r": 8, "alpha": 8}),
        "oft": ("OFTConfig", {"oft_block_size": 32, "use_cayley_neumann": False}),
        "hra": ("HRAConfig", {"r": 8}),
        "miss": ("MissConfig", {"r": 64}),
        "fourierft": (
            "FourierFTConfig",
            {"n_frequency": 1000, "scaling": 150.0, "init_weights": True},
        ),
        "road": ("RoadConfig", {"variant": "road_1", "group_size": 64}),
        "ia3": ("IA3Config", {}),
    }


def test_table_field_search_space_and_tests_have_the_same_methods():
    methods = get_args(PEFT.model_fields["method"].annotation)
    assert methods == (*METHODS, "ln_tuning") == tuple(SMALL)
    assert SPACES["PEFT"].technique["method"].choices == methods


def test_what_does_not_fit_is_refused():
    for wrong, text in [
        (PEFT(method="ia3", size=4), "ia3 has none"),
        (PEFT(method="ln_tuning", targets="linear"), "ln_tuning has none"),
        (PEFT(method="hra", size=3), "3 is odd"),
        (PEFT(method="road", size=3), "3 is odd"),
        (PEFT(method="dora") + LoRA(), "each freezes what the other trains"),
        (PEFT(method="dora") + L2SP(), "towards zero"),
    ]:
        assert isinstance(wrong, Invalid)
        assert text in str(wrong.error)
    assert not isinstance(PEFT(method="ia3", size=None, targets="query_value"), Invalid)
    assert not isinstance(PEFT(method="dora") + RecAdam(), Invalid)
    depths = state_of("bert").depths
    assert PEFT(method="oft").objection(depths, "span") == "size 32 does not divide its width of 16"
    assert PEFT(method="oft", size=8).objection(depths, "span") is None
    assert (
        PEFT(method="road").objection(depths, "span") == "size 64 does not divide its width of 16"
    )
    assert PEFT(method="miss").objection(depths, "span") == "size 64 is larger than its width of 16"
    assert "fewer than 1,000" in PEFT(method="fourierft").objection(depths, "span")
    for method in ("hra", "ia3", "ln_tuning", "dora", "loha", "lokr"):
        assert PEFT(method=method).objection(depths, "span") is None
    with pytest.raises(ValueError, match="32 does not divide 16, the width of bert"):
        PEFT(method="oft").prepare(state_of("bert"))
