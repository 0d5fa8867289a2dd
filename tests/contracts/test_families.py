"""Every technique on every family is deterministic, or refused with a reason.

A run is repeated with gradient checkpointing and, where it fits, with the optimizer step in the
backward pass, so that neither moves a bit.

The fast tests cover each technique once, and each family with the baseline and three more. The rest
of the product is marked `slow`.
"""

import json
import shutil
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from study.core.recipe import Recipe
from study.core.seeding import Seed, derive, seed_global
from study.core.spec import SpecError
from study.models.families import depths_of
from study.models.loading import Loaded, meta_model
from study.models.model import Model
from study.tasks import Task
from study.tasks.kinds import KINDS, Kind, Regression, Split
from study.tasks.kinds.encoded import TARGETS, Encoded, collate
from study.tasks.metrics import METRICS
from study.tasks.task import SPLITS, TaskData
from study.techniques.state import TrainState
from study.testing import tiny_task
from study.training.fit import Setting
from study.training.prepare import prepare
from study.training.savers import MemorySavers, misfit
from study.training.train import train
from tests.conftest import CPU
from tests.examples import EXAMPLES
from tests.families import CONFIGS, TEXT, family_model, image_task
from tests.interrupting import bits

SEED = Seed(0, 0, 0)
# Some families have no dropout of their own; the step in the backward pass takes no clipping.
RECIPE = Recipe(lr=1e-2, epochs=2, batch_size=8, dropout=0.1, clip_norm=None)
CHECKPOINTING = MemorySavers(gradient_checkpointing=True)
BOTH = MemorySavers(gradient_checkpointing=True, step_in_backward=True)
FAMILY_NAMES, TECHNIQUE_NAMES = list(CONFIGS), list(EXAMPLES)


def _cover() -> set[tuple[str, str]]:
    chosen = {("Standard", family) for family in FAMILY_NAMES}
    for number, name in enumerate(TECHNIQUE_NAMES):
        chosen.add((name, FAMILY_NAMES[number % len(FAMILY_NAMES)]))
    for number, family in enumerate(FAMILY_NAMES):
        turns = (3 * number + extra for extra in range(3))
        chosen |= {(TECHNIQUE_NAMES[turn % len(TECHNIQUE_NAMES)], family) for turn in turns}
    return chosen


COVER = _cover()
CASES = [
    pytest.param(*case, marks=[] if case in COVER else pytest.mark.slow)
    for case in product(TECHNIQUE_NAMES, FAMILY_NAMES)
]


class Bench:
    """A family's checkpoint, and data encoded for it."""

    def __init__(self, model: Model, task: Task) -> None:
        rows = task.load()
        self.model, self.kind = model, rows.kind
        self.loaded = Loaded(model, rows.kind)
        self.data = prepare(rows, self.loaded.processor, 32).splits

    def setting(self, technique: str) -> Setting:
        return Setting(RECIPE, EXAMPLES[technique], SEED, METRICS["accuracy"], self.kind)


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    benches: dict[str, Bench] = {}

    def of(family: str) -> Bench:
        if family not in benches:
            folder = tmp_path_factory.mktemp(family)
            task = (image_task if family == "vit" else tiny_task)(folder / "task", rows=16)
            benches[family] = Bench(family_model(family, folder / "model"), task)
        return benches[family]

    return of


@pytest.mark.parametrize(("technique", "family"), CASES)
def test_a_technique_is_deterministic_or_refused(technique, family, bench):
    here = bench(family)
    setting, fresh = here.setting(technique), here.loaded.fresh(SEED, None)
    depths = depths_of(fresh)
    objection = setting.technique.objection(depths, here.kind.name)
    if objection is not None:
        assert len(objection.split()) > 2, "an objection is a reason"
        return
    outcome, trained = train(setting, here.data, here.loaded, CPU)
    assert outcome.outcome == "completed"
    assert np.isfinite(outcome.curves["train/loss"]).all()

    recipe = setting.technique.recipe(setting.recipe)
    savers = CHECKPOINTING if misfit(BOTH, setting.technique, recipe) else BOTH
    again = train(replace(setting, savers=savers), here.data, here.loaded, CPU)
    assert bits(*again) == bits(outcome, trained)

    state = _started(setting, here.data, fresh, here.kind)
    start, end = dict(fresh.named_parameters()), dict(trained.named_parameters())
    assert start.keys() == end.keys()
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved, "nothing was trained"
    assert moved <= set(state.trainable)


def _started(
    setting: Setting, data: dict[str, Encoded], model: torch.nn.Module, kind: Kind
) -> TrainState:
    """The state before the first step, as in `train`."""
    recipe = setting.technique.recipe(setting.recipe)
    batch = collate(data["train"], np.arange(8))
    state = TrainState(
        model, recipe, SEED, depths_of(model), CPU, kind, lambda: iter([dict(batch)])
    )
    seed_global(derive(SEED, "head", "prepare"))
    setting.technique.weights(state)
    setting.technique.prepare(state)
    return state


STATED = {  # padding ids that a configuration may state, beside the tokenizer's own
    "as published": ...,
    "absent": None,
    "0": 0,
    "-1": -1,
    "of a word": 7,
}


@pytest.mark.parametrize("kind", ["classification", "regression", "tagging", "span"])
@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize("family", TEXT)
def test_padding_does_not_change_a_rows_outputs(family, stated, kind, bench, tmp_path):
    """A decoder pools the last token of the row, not of the batch, whatever its configuration says.

    A configuration that names another padding id than the tokenizer had it read padding.
    """
    here = bench(family)
    folder = tmp_path / "model"
    shutil.copytree(here.model.checkpoint, folder)
    if STATED[stated] is not ...:
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(values | {"pad_token_id": STATED[stated]}))
    model = Model(name="model", checkpoint=str(folder))
    if (family, stated) == ("roberta", "absent"):  # its positions are counted from that id
        with pytest.raises(SpecError, match='"pad_token_id": 1'):
            meta_model(model, KINDS[kind])
        return
    rows = _rows(kind)
    loaded = Loaded(model, rows.kind)
    data = prepare(rows, loaded.processor, 32).splits["test"]
    _assert_padding_changes_nothing(data, loaded, rows.kind)


def _rows(kind: str) -> TaskData:
    """Rows of several lengths, of a kind of task."""
    texts = ["w1", "w2 w3", "w4 w5 w6 w7 w8 w9", "w10 w11 w12 w13"]
    pairs = None
    values: list[Any] = ["a", "b", "a", "b"]
    if kind == "regression":
        values = [0.0, 1.0, 2.0, 3.0]
    if kind == "span":
        pairs, values = texts, [[{"text": text.split()[-1], "start": 0}] for text in texts]
    chosen = KINDS[kind](KINDS[kind].class_names(values))
    if kind == "tagging":
        chosen = KINDS[kind](("O", "B-X"))
        values = [["O"] * len(text.split()) for text in texts]
    given = [chosen.parse_text(text) for text in texts]
    split = Split([str(i) for i in range(4)], given, pairs, chosen.gold(values, given, pairs)[0])
    return TaskData(dict.fromkeys(SPLITS, split), chosen, "", "longest_first", {})


def _assert_padding_changes_nothing(data: Encoded, loaded: Loaded, kind: Kind) -> None:
    model = loaded.fresh(SEED, None).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # as drawn, all rows would have nearly the same output
            parameter.mul_(10.0 if parameter.ndim > 1 else 1.0)

    def outputs(*rows: int) -> np.ndarray:
        """The scored outputs, row by row."""
        batch = collate(data, np.array(rows))
        inputs = {name: tensor for name, tensor in batch.items() if name not in TARGETS}
        with torch.inference_mode():
            return kind.units(model(**inputs), batch).numpy()

    together = outputs(*range(data.rows))
    alone = np.concatenate([outputs(row) for row in range(data.rows)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert np.ptp(alone, axis=0).min() > 1e-2, "all rows have the same outputs"
    answers = [kind.answers(side, data) for side in (together, alone)]
    if isinstance(kind, Regression):
        np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-5)
    else:
        assert list(answers[0]) == list(answers[1])


def test_the_two_texts_of_a_pair_are_separated(bench):
    """Llama's tokenizers insert nothing between them: "w1 w2" + "w3" would be "w1" + "w2 w3"."""
    for family in TEXT:
        tokenizer = bench(family).loaded.processor
        one, two = tokenizer("w1 w2", "w3"), tokenizer("w1", "w2 w3")
        assert one["input_ids"] != two["input_ids"], family


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", CONFIGS)
def test_weights_are_float32_whatever_the_stored_precision(family, stored, bench, tmp_path):
    here = bench(family)
    folder = tmp_path / "half"
    shutil.copytree(here.model.checkpoint, folder)
    body = transformers.AutoModel.from_pretrained(folder, dtype=stored)
    body.save_pretrained(folder)
    loaded = Loaded(Model(name="half", checkpoint=str(folder)), here.kind)
    model = loaded.fresh(SEED, None)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    values = dict(model.get_submodule(model.base_model_prefix).named_parameters())
    for name, parameter in body.named_parameters():
        if name in values:  # a pooler that the task model has no use for
            assert torch.equal(values[name], parameter.float()), name
