"""An exported model gives the run's own scores, in plain transformers."""

import json

import numpy as np
import pytest
import torch
import transformers

from study import LNSR, Adapters, BiasedAdam, LoRA, Recipe, Standard, Study, SupervisedContrastive
from study.execution.saved_models import export
from study.planning.runs import run_from
from study.tasks.kinds.encoded import evaluation_batches
from study.training.generate import EVALUATION_BATCH
from study.training.train import train
from tests.conftest import CPU, PAIRS


@pytest.mark.parametrize("technique", [Standard(), LoRA(), LNSR(), SupervisedContrastive()])
def test_the_exported_model_is_the_trained_one(tmp_path, task, model, data, loaded, technique):
    recipe = Recipe(lr=1e-2, epochs=3, batch_size=8, max_length=32)
    study = Study(
        name="s", tasks=[task], models=[model], recipe=recipe, techniques=[technique], seeds=[3]
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
    for indices, batch in evaluation_batches(rows, EVALUATION_BATCH["cpu"]):
        with torch.inference_mode():
            logits = plain(**{k: v for k, v in batch.items() if k != "labels"}).logits.numpy()
        trained = first.logits["test"][indices]
        if technique == Standard():
            assert np.array_equal(logits, trained)
        assert np.allclose(logits, trained, rtol=0, atol=1e-5)  # merging rounds
    assert not plain.config.output_hidden_states
    assert plain.config.id2label == {0: "no", 1: "yes"}
    said = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run_from(said).key == said["key"] == run.key


def test_what_no_plain_model_can_hold_is_refused_before_it_trains(tmp_path, task, model):
    """Left inside, the adapters would be saved, and `from_pretrained` would drop them silently."""
    technique = BiasedAdam() + Adapters()
    (run,) = Study(name="s", tasks=[task], models=[model], techniques=[technique], seeds=[0]).runs()
    with pytest.raises(ValueError, match="cannot be exported: its adapters are not linear"):
        export(run, tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()
