"""Forgetting: what a run keeps of skills it did not train, against transformers and by hand."""

import json
import math

import numpy as np
import pytest
import torch
import transformers

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.models.families import depths_of
from study.models.loading import Loaded
from study.tasks.kinds import Generation
from study.tasks.kinds.generation import Answer
from study.tasks.metrics import METRICS
from study.techniques import FreezeLower, LoRA, Standard
from study.techniques.state import TrainState
from study.training.fit import Setting
from study.training.generate import generate
from study.training.prepare import prepare
from study.training.retained import Skill, facts_of, measured_before
from study.training.train import train
from tests.conftest import CPU
from tests.generating import answering_task, decoder

KIND = Generation(())
SEED = Seed(0, 0, 0)
RECIPE = Recipe(lr=1e-2, epochs=2, batch_size=8)
IGNORED = -100


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("retained") / "model", tied=True)


@pytest.fixture(scope="module")
def loaded(here):
    return Loaded(here, KIND)


@pytest.fixture(scope="module")
def data(loaded, tmp_path_factory):
    task = answering_task(tmp_path_factory.mktemp("trained"))
    return prepare(task.load(), loaded.processor, 32).splits


@pytest.fixture(scope="module")
def skill(loaded, tmp_path_factory):
    task = answering_task(tmp_path_factory.mktemp("other"), rows=10)
    other = task.replace(name="other", train=None, dev=None, test=task.dev)
    rows = prepare(other.load(), loaded.processor, 32).splits
    assert list(rows) == ["test"]
    return Skill("other.perplexity", METRICS["perplexity"], KIND, rows["test"])


def setting_of(technique=Standard(), **recipe):
    return Setting(RECIPE.replace(**recipe), technique, SEED, METRICS["perplexity"], KIND)


def before_of(skills, loaded, folder=None, identity="one"):
    return measured_before(
        skills,
        setting_of(),
        loaded,
        CPU,
        identity=identity,
        folder=folder,
        heartbeat=lambda: None,
    )


def perplexity_outside(model, rows):
    """The perplexity of the answers' tokens, a row at a time, by transformers alone."""
    nats, count = 0.0, 0
    for start, end in zip(rows.starts[:-1], rows.starts[1:], strict=True):
        ids = torch.tensor(rows.columns["input_ids"][start:end])[None]
        labels = torch.tensor(rows.columns["labels"][start:end])[None]
        with torch.no_grad():
            scored = int((labels[:, 1:] != IGNORED).sum())
            nats += float(model(input_ids=ids, labels=labels).loss) * scored
            count += scored
    return math.exp(nats / count)


def test_scores_before_and_after_are_those_of_transformers(here, loaded, data, skill):
    untouched = transformers.AutoModelForCausalLM.from_pretrained(here.folder()).eval()
    [known] = before_of([skill], loaded)
    assert known.before == pytest.approx(perplexity_outside(untouched, skill.rows), rel=1e-5)
    outcome, model = train(setting_of(), data, loaded, CPU, skills=[known])
    after = outcome.facts["after.other.perplexity"]
    assert after == pytest.approx(perplexity_outside(model.eval(), skill.rows), rel=1e-5)
    assert outcome.facts["before.other.perplexity"] == known.before
    assert outcome.facts["retained.other.perplexity"] == pytest.approx(known.before / after)
    assert outcome.facts["retained"] == outcome.facts["retained.other.perplexity"]
    assert after != known.before


def test_measuring_changes_nothing_else(loaded, data, skill):
    plain, _ = train(setting_of(), data, loaded, CPU)
    measured, _ = train(setting_of(), data, loaded, CPU, skills=before_of([skill], loaded))
    assert (plain.dev, plain.test, plain.curves) == (measured.dev, measured.test, measured.curves)
    np.testing.assert_array_equal(plain.logits["test"], measured.logits["test"])
    assert not any(name.startswith(("before", "after", "retained")) for name in plain.facts)


@pytest.mark.parametrize("technique", [FreezeLower(layers=1), LoRA(rank=2)], ids=str)
def test_the_weights_that_count_are_measured(technique, loaded, data, skill):
    """At a rate of almost zero nothing is forgotten, whatever a technique inserts."""
    setting = setting_of(technique, lr=1e-30, weight_decay=0.0)
    outcome, _ = train(setting, data, loaded, CPU, skills=before_of([skill], loaded))
    assert outcome.facts["retained"] == pytest.approx(1.0, rel=1e-6)


def test_a_diverged_run_keeps_nothing_that_could_be_measured(loaded, data, skill):
    outcome, _ = train(setting_of(lr=1e30), data, loaded, CPU, skills=before_of([skill], loaded))
    assert outcome.outcome == "diverged"
    assert "before.other.perplexity" in outcome.facts
    assert "retained" not in outcome.facts


@pytest.mark.parametrize(
    ("metric", "before", "after", "kept"),
    [
        ("exact_match", 0.5, 0.4, 0.8),
        ("exact_match", 0.5, 0.6, 1.2),
        ("perplexity", 20.0, 25.0, 0.8),
        ("perplexity", 20.0, math.inf, 0.0),
        ("exact_match", 0.0, 0.2, math.nan),  # a skill that the checkpoint does not have
        ("perplexity", math.nan, 25.0, math.nan),
        ("exact_match", 0.5, math.nan, math.nan),
    ],
)
def test_share_kept_by_hand(metric, before, after, kept, skill):
    found = skill._replace(metric=METRICS[metric], before=before).kept(after)
    assert found == pytest.approx(kept, nan_ok=True)


def test_no_gain_hides_a_loss_and_one_unknown_share_is_one_too_many(loaded, data, skill):
    [known] = before_of([skill], loaded)
    lacking = known._replace(name="lacking.exact_match", metric=METRICS["exact_match"], before=0.0)
    outcome, _ = train(setting_of(), data, loaded, CPU, skills=[known, lacking])
    assert math.isnan(outcome.facts["retained"])
    gained = known._replace(name="gained.perplexity", before=10 * known.before)
    outcome, _ = train(setting_of(), data, loaded, CPU, skills=[known, gained])
    shares = [outcome.facts[f"retained.{each.name}"] for each in (known, gained)]
    assert outcome.facts["retained"] == shares[0] < shares[1]
    assert outcome.facts["retained.other.perplexity"] > 0
    assert facts_of([], None, None) == {}


def test_a_skill_can_be_what_is_generated(loaded, skill):
    [known] = before_of([skill._replace(metric=METRICS["rouge_l"])], loaded)
    state = state_of(loaded)
    texts = generate(state, skill.rows, loaded.processor)
    assert known.before == METRICS["rouge_l"](skill.rows.gold, [Answer(t, 0.0, 1) for t in texts])


def state_of(loaded):
    model = loaded.fresh(SEED, None)
    return TrainState(model, RECIPE, SEED, depths_of(model), CPU, KIND, lambda: iter(()))


def test_the_untouched_checkpoint_is_measured_once(loaded, skill, tmp_path):
    [first] = before_of([skill], loaded, tmp_path)
    [file] = tmp_path.iterdir()
    file.write_text(json.dumps(7.5))  # so that reading it can be told from measuring
    assert before_of([skill], loaded, tmp_path)[0].before == 7.5
    assert before_of([skill], loaded, tmp_path, identity="another")[0].before == first.before
    file.write_text("")  # of a machine that lost its power
    assert before_of([skill], loaded, tmp_path)[0].before == first.before
    file.unlink()
    before_of([skill], loaded, tmp_path)
    fewer = skill._replace(metric=METRICS["exact_match"])
    assert before_of([fewer], loaded, tmp_path)[0].before != 7.5
    assert len(list(tmp_path.iterdir())) == 3
