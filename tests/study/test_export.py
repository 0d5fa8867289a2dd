"""An exported model gives the run's own scores, in plain transformers."""

import json

import numpy as np
import torch
import transformers

from study import Recipe, Standard, Study
from study.batches import evaluation_batches
from study.export import export
from study.study import run_from
from study.train import train
from tests.conftest import CPU, PAIRS


def test_the_exported_model_is_the_trained_one(tmp_path, task, model, data, loaded):
    recipe = Recipe(lr=1e-2, epochs=3, batch_size=8, max_length=32)
    study = Study(
        name="s", tasks=[task], models=[model], recipe=recipe, techniques=[Standard()], seeds=[3]
    )
    (run,) = study.runs()
    outcome = export(run, tmp_path / "out", "cpu")
    first, _ = train(run.setting(PAIRS), data, loaded, CPU)
    assert outcome.test == first.test

    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    plain.eval()
    test = task.load().splits["test"]
    rows = PAIRS.encode(test, tokenizer, max_length=32, truncate="longest_first")
    for indices, batch in evaluation_batches(rows, 64):
        with torch.inference_mode():
            logits = plain(**{k: v for k, v in batch.items() if k != "labels"}).logits.numpy()
        assert np.array_equal(logits, first.logits["test"][indices])
    assert plain.config.id2label == {0: "no", 1: "yes"}
    said = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run_from(said).key == said["key"] == run.key
