"""Training: determinism, the effect of each random stream, schedules, selection, divergence."""

import numpy as np
import pytest
import torch

from study.core.recipe import Recipe
from study.core.seeding import Seed, derive
from study.tasks.metrics import METRICS, Metric
from study.techniques import TECHNIQUES, BiasedAdam, Standard
from study.techniques.base import Technique
from study.training.fit import Setting, schedule
from study.training.train import train
from tests.conftest import CPU, PAIRS, RECIPE


def test_the_same_run_has_the_same_bits(tiny_run):
    first, again = tiny_run(), tiny_run()
    assert np.array_equal(first.logits["test"], again.logits["test"])
    assert first.curves == again.curves


def test_global_generators_do_not_matter(tiny_run):
    first = tiny_run()
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    tiny_run(seed=Seed(5, 5, 5))
    assert np.array_equal(tiny_run().logits["test"], first.logits["test"])


@pytest.mark.parametrize("stream", ["head", "order", "noise"])
def test_each_stream_changes_the_result(tiny_run, stream):
    moved = Seed(0, 0, 0)._replace(**{stream: 1})
    assert not np.array_equal(tiny_run(seed=moved).logits["dev"], tiny_run().logits["dev"])


def test_noise_is_dropout_alone(tiny_run):
    without_dropout = [
        tiny_run(seed=Seed(0, 0, noise), dropout=0.0).logits["dev"] for noise in (0, 1)
    ]
    assert np.array_equal(*without_dropout)


def test_neighbouring_seeds_and_purposes_never_collide():
    seeds = [Seed(a, b, 0) for a in range(20) for b in range(20)]
    numbers = {derive(s, stream, p) for s in seeds for stream in ("head", "order") for p in (0, 1)}
    assert len(numbers) == 80


def test_the_schedule_by_hand():
    recipe = Recipe(warmup=0.2)
    assert [schedule(recipe, step, 10) for step in range(10)] == pytest.approx(
        [0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    )
    flat = Recipe(warmup=0.0, schedule="constant")
    assert [schedule(flat, step, 4) for step in range(4)] == [1.0] * 4
    held = Recipe(warmup=0.2, hold=0.5)
    assert [schedule(held, step, 10) for step in range(10)] == pytest.approx(
        [0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 5 / 8, 5 / 8, 5 / 8, 5 / 8]
    )


def test_half_a_cosine_by_hand():
    wave = Recipe(warmup=0.2, schedule="cosine")
    assert [schedule(wave, step, 10) for step in range(10)] == pytest.approx(
        [0.5, 1.0, *((1 + np.cos(np.pi * part / 8)) / 2 for part in range(8))]
    )


def test_steps_are_counted_in_place_of_epochs(data, loaded):
    """As many steps as in two epochs are two epochs; fewer end within one."""

    def run(**length):
        recipe = Recipe(lr=1e-2, batch_size=8, schedule="constant", warmup=0.0, **length)
        setting = Setting(recipe, Standard(), Seed(0, 0, 0), METRICS["accuracy"], PAIRS)
        return train(setting, data, loaded, CPU)[0]

    whole, each = run(epochs=2), -(-data["train"].rows // 8)
    same = run(steps=2 * each)
    assert (same.curves, same.facts["steps"]) == (whole.curves, 2 * each)
    assert np.array_equal(same.logits["test"], whole.logits["test"])
    part = run(steps=each + 1)
    assert part.facts["steps"] == each + 1
    assert part.curves["train/loss"][0] == whole.curves["train/loss"][0]
    assert len(part.curves["dev/accuracy"]) == 2
    losses = [run(steps=each + n).curves["train/loss"][1] for n in (1, 2, each)]
    assert len(set(losses)) == 3
    assert losses[-1] == whole.curves["train/loss"][1]
    assert run(steps=1).facts["steps"] == 1


def test_a_loss_that_is_not_finite_diverges(tiny_run):
    outcome = tiny_run(lr=1e30, clip_norm=None)
    assert outcome.outcome == "diverged"
    assert np.isnan(outcome.dev)
    assert np.isnan(outcome.test)
    assert outcome.logits == {}


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_an_error_that_is_not_finite_diverges(data, loaded, split, value):
    """It was recorded as the floor, and that as 0: a completed run with the best possible error."""

    def error(gold, predicted):
        return value if gold is data[split].gold else 0.25

    metric = Metric("error", error, higher_is_better=False, bounded=False)
    outcome, _ = train(Setting(RECIPE, Standard(), Seed(0, 0, 0), metric, PAIRS), data, loaded, CPU)
    assert outcome.outcome == "diverged"
    assert np.isnan([outcome.dev, outcome.test, getattr(outcome, f"{split}_floor")]).all()
    assert outcome.logits == {}


def test_a_run_that_learns_nothing_is_collapsed(tiny_run):
    outcome = tiny_run(lr=1e-12)
    assert outcome.outcome == "completed"
    assert "at_floor" in outcome.collapsed
    assert "no_fit" in outcome.collapsed


def test_the_tiny_task_can_be_learnt(tiny_run):
    """Otherwise every test on it would compare noise."""
    outcome = tiny_run(lr=3e-3, epochs=40, dropout=0.0)
    assert outcome.curves["train/loss"][-1] < 0.2


def test_best_dev_keeps_the_epoch_that_was_best(tiny_run):
    last = tiny_run(epochs=6, lr=3e-2)
    best = tiny_run(epochs=6, lr=3e-2, checkpoint="best_dev")
    assert best.curves == last.curves
    assert best.dev == max(last.curves["dev/accuracy"])
    assert last.dev == last.curves["dev/accuracy"][-1]


def test_best_dev_reads_test_from_those_weights(tiny_run):
    epochs = [tiny_run(epochs=6, lr=3e-2, schedule="constant", warmup=0.0)]
    scores = epochs[0].curves["dev/accuracy"]
    first = int(np.argmax(scores)) + 1
    short = tiny_run(epochs=first, lr=3e-2, schedule="constant", warmup=0.0)
    best = tiny_run(epochs=6, lr=3e-2, schedule="constant", warmup=0.0, checkpoint="best_dev")
    assert np.array_equal(best.logits["test"], short.logits["test"])


def test_evaluation_does_not_affect_training(tiny_run, monkeypatch):
    """Dev is read after every epoch; reading it twice must change nothing."""
    import study.training.fit

    first = tiny_run()
    once = study.training.fit.predict
    monkeypatch.setattr(
        study.training.fit, "predict", lambda state, data: (once(state, data), once(state, data))[1]
    )
    assert tiny_run().curves == first.curves


def test_precision_and_batches_are_choices_that_move_bits(tiny_run):
    plain = tiny_run().logits["dev"]
    for changed in ({"precision": "bfloat16"}, {"batches": "shuffled"}):
        assert not np.array_equal(tiny_run(**changed).logits["dev"], plain)


class OmitsParameter(Technique):
    """Leaves a parameter out of every group."""

    def groups(self, groups, state):  # type: ignore[no-untyped-def]
        return groups[1:]


def test_a_parameter_without_a_group_is_an_error(tiny_run):
    with pytest.raises(ValueError, match="is in no group"):
        tiny_run(OmitsParameter())


def test_the_test_split_is_read_once_and_last(data, loaded, monkeypatch):
    """Nothing may be selected on it."""
    import study.training.fit

    read = []
    once = study.training.fit.predict

    def watched(state, rows):
        read.append("test" if rows is data["test"] else "dev")
        return once(state, rows)

    monkeypatch.setattr(study.training.fit, "predict", watched)
    recipe = RECIPE.replace(epochs=3, checkpoint="best_dev")
    train(Setting(recipe, Standard(), Seed(0, 0, 0), METRICS["accuracy"], PAIRS), data, loaded, CPU)
    assert read == ["dev", "dev", "dev", "test"]


def test_user_techniques_act_after_built_in_ones():
    assert (OmitsParameter() + BiasedAdam()).label == "BiasedAdam + OmitsParameter"
    assert "OmitsParameter" not in TECHNIQUES


class HeadFirst(Technique):
    """Trains the head alone for two steps, then everything."""

    def active(self, names, state):  # type: ignore[no-untyped-def]
        if state.step < 2:
            return tuple(n for n in names if n.startswith("classifier"))
        return names

    def after_backward(self, state):  # type: ignore[no-untyped-def]
        moved = sum(p.grad is not None for p in state.model.parameters())
        state.memo.setdefault("Narrowing", []).append(moved)
        MOVED[:] = state.memo["Narrowing"]


MOVED: list[int] = []


def test_inactive_parameters_can_become_active(tiny_run, loaded):
    tiny_run(HeadFirst(), epochs=1)
    assert [2, 2, len(list(loaded.fresh(Seed(0, 0, 0), None).parameters())), MOVED[2]] == MOVED


class InsertsModule(Technique):
    """Creates a module in `prepare`, which draws its values from the global generator."""

    def prepare(self, state):  # type: ignore[no-untyped-def]
        state.model.classifier = torch.nn.Linear(16, 2)


def test_a_module_created_by_a_technique_depends_on_the_head_seed_alone(tiny_run):
    first = tiny_run(InsertsModule())
    tiny_run(seed=Seed(3, 3, 3))
    assert np.array_equal(tiny_run(InsertsModule()).logits["dev"], first.logits["dev"])
    other = tiny_run(InsertsModule(), Seed(1, 0, 0))
    assert not np.array_equal(other.logits["dev"], first.logits["dev"])


def test_a_diverged_run_has_the_floors(tiny_run):
    outcome = tiny_run(lr=1e30, clip_norm=None)
    assert (outcome.dev_floor, outcome.test_floor) == (0.5, 0.5)


def test_a_field_named_like_a_hook_is_refused():
    with pytest.raises(TypeError, match="field 'loss' is the name of a hook"):
        type("Hiding", (Technique,), {"__annotations__": {"loss": float}, "__module__": "mine"})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("after_stepp", "after_step"),
        ("optimiser", "optimizer"),
        ("after_setp", "after_step"),
        ("weight", "weights"),
    ],
)
def test_a_misspelt_hook_is_refused(typed, meant):
    """Such a hook was never called, and the technique trained like the baseline."""
    with pytest.raises(TypeError, match=f"Typo: no such hook: '{typed}'. Did you mean '{meant}'"):
        type("Typo", (Technique,), {typed: lambda self, state: None, "__module__": "mine"})


def test_a_technique_may_have_further_methods():
    own = ("targets", "penalty", "schedule", "replaced", "_loss", "_after_stepp")
    body = {name: lambda self: None for name in own} | {"after_step": lambda self, state: None}
    assert type("Mine", (Technique,), {**body, "__module__": "mine"})()
