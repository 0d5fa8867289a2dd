"""The contract of every technique in `TECHNIQUES`, alone and in pairs."""

from itertools import combinations

import numpy as np
import pytest
import torch

from study.core.seeding import Seed
from study.core.spec import Invalid
from study.models.families import depths_of
from study.tasks.metrics import METRICS
from study.techniques import (
    EMA,
    L2SP,
    LNSR,
    R3F,
    SMART,
    SWA,
    TECHNIQUES,
    FreeLB,
    RDrop,
    Standard,
    SupervisedContrastive,
    Technique,
)
from study.techniques.base import technique_from
from study.techniques.state import TrainState, plain_groups
from study.training.fit import Setting, begin, predict
from study.training.train import train
from tests.conftest import CPU, RECIPE
from tests.conftest import PAIRS as KIND
from tests.examples import EXAMPLES
from tests.heads import batch_of, state_of


def result(outcome):
    """Curves and outputs: an average of weights changes the outputs, not the losses.

    Without the curves of what was trained, which differ even where nothing else does.
    """
    curves = {n: each for n, each in outcome.curves.items() if not n.startswith("trained/")}
    return curves, outcome.logits["test"].tolist()


@pytest.fixture
def prepared_state(tiny_state):
    def prepare(technique: Technique):
        technique.weights(tiny_state)
        technique.prepare(tiny_state)
        return tiny_state

    return prepare


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_each_trainable_parameter_is_grouped_once(name, prepared_state):
    state = prepared_state(EXAMPLES[name])
    groups = EXAMPLES[name].groups(plain_groups(state), state)
    assert sorted(n for g in groups for n in g.names) == sorted(state.trainable)


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_the_same_run_has_the_same_bits(name, tiny_run):
    first = tiny_run(EXAMPLES[name])
    tiny_run(Standard(), Seed(7, 7, 7))  # an earlier run must not matter
    again = tiny_run(EXAMPLES[name])
    assert np.array_equal(first.logits["test"], again.logits["test"])
    assert first.curves == again.curves


@pytest.mark.parametrize("name", sorted(set(TECHNIQUES) - {"Standard"}))
def test_it_differs_from_the_baseline(name, tiny_run):
    assert result(tiny_run(EXAMPLES[name])) != result(tiny_run(Standard()))


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_it_changes_only_trainable_parameters(name, data, loaded):
    technique = EXAMPLES[name]
    setting = Setting(RECIPE, technique, Seed(0, 0, 0), METRICS["accuracy"], KIND)
    outcome, trained = train(setting, data, loaded, CPU)
    fresh = loaded.fresh(Seed(0, 0, 0), None)
    state = TrainState(fresh, RECIPE, Seed(0, 0, 0), depths_of(fresh), CPU, KIND, lambda: iter(()))
    technique.weights(state)
    technique.prepare(state)
    for parameter_name, start in fresh.named_parameters():
        moved = not torch.equal(start, trained.get_parameter(parameter_name))
        assert moved <= (parameter_name in state.trainable), parameter_name
    sizes = {n: p.numel() for n, p in fresh.named_parameters()}
    share = sum(sizes[n] for n in state.trainable) / sum(sizes.values())
    assert outcome.facts["trained_fraction"] == pytest.approx(share)


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_its_canonical_form_gives_it_back(name):
    technique = EXAMPLES[name]
    assert technique_from(technique.canonical(), TECHNIQUES) == technique


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_it_names_its_source(name):
    assert "Source:" in (TECHNIQUES[name].__doc__ or "")


PAIRS = list(combinations(sorted(TECHNIQUES), 2))
# Of the model's two layers one is left, which has every turn.
AS_FREEZING_ALONE = [("BAdam", "FreezeLower"), ("FreezeLower", "LISA")]


@pytest.fixture(scope="session")
def single_results() -> dict[str, object]:
    """The result of each technique by itself, computed once."""
    return {}


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_every_pair_is_deterministic_and_differs_from_its_parts(one, two, tiny_run, single_results):
    left, right = EXAMPLES[one] + EXAMPLES[two], EXAMPLES[two] + EXAMPLES[one]
    if isinstance(left, Invalid):  # a refused pair gives the same reason in both orders
        assert str(left.error) == str(right.error)
        return
    assert left.canonical() == right.canonical()
    if "Standard" in (one, two):
        assert left in (EXAMPLES[one], EXAMPLES[two])  # also by key
        return
    both = result(tiny_run(left))
    assert result(tiny_run(right)) == both  # and a second run repeats it
    for part in (one, two):
        if part not in single_results:
            single_results[part] = result(tiny_run(EXAMPLES[part]))
        alone = part == "FreezeLower" and (one, two) in AS_FREEZING_ALONE
        assert (both == single_results[part]) == alone, part


@pytest.mark.parametrize("technique", [EMA(), EMA(beta=0.9), SWA(start=0.5)])
def test_best_dev_keeps_the_best_average(technique, data, loaded):
    """Neither the last average nor the weights that were averaged."""
    recipe = RECIPE.replace(epochs=6, checkpoint="best_dev", lr=0.03)
    setting = Setting(recipe, technique, Seed(0, 0, 0), METRICS["accuracy"], KIND)
    fit = begin(setting, data, loaded, CPU)
    averages = []
    for _ in fit.epochs():
        weights = technique.evaluated(dict(fit.state.model.named_parameters()), fit.state)
        averages.append({name: p.detach().clone() for name, p in weights.items()})
    best = int(np.argmax(fit.scores))
    assert best < len(averages) - 1  # else the last would do as well
    fit.final()
    for name, parameter in fit.state.model.named_parameters():
        assert torch.equal(parameter, averages[best][name]), name
    assert np.array_equal(predict(fit.state, data["dev"]), fit.selected.logits)


REPLACING = [RDrop(), FreeLB(), SupervisedContrastive(), RDrop() + SupervisedContrastive()]
ADDING = [
    L2SP(),
    R3F(weight=1000.0, epsilon=0.1, masks="shared"),
    SMART(weight=1000.0, step_size=0.1, sigma=0.01, epsilon=0.1, masks="shared"),
    LNSR(sigma=0.1),
]


def loss_of(technique: Technique) -> float:
    """The loss of one batch, for a model that has moved away from its start."""
    state, batch = state_of("bert"), batch_of("bert")
    technique.prepare(state)
    assert state.start
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(0.01)
    state.reseed()
    technique.before_step(state)
    outputs = state.forward(batch)
    return technique.loss(outputs.loss, outputs, batch, state).item()


@pytest.mark.parametrize("other", REPLACING + ADDING, ids=lambda technique: technique.title)
@pytest.mark.parametrize("adding", ADDING, ids=lambda technique: technique.title)
def test_a_penalty_has_the_same_weight_alone_and_in_a_combination(adding, other):
    """Once a mixture of two losses scaled down the penalties added before it."""
    if adding == other:
        return
    penalty = loss_of(adding) - loss_of(Standard())
    assert penalty > 1e-3
    assert loss_of(adding + other) - loss_of(other) == pytest.approx(penalty, rel=1e-3)


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_a_technique_added_to_itself_is_refused(name):
    assert isinstance(EXAMPLES[name] + EXAMPLES[name], Invalid)
