"""Tiny decoders with a pretrained head, and prompts whose answer they can learn."""

import json
from pathlib import Path

import torch
import transformers as hf

from study.models.model import Model
from study.tasks import Task
from tests.families import config, family_model


def decoder(folder: Path, *, tied: bool, layers: int = 2, family: str = "llama") -> Model:
    """Write a random checkpoint with its output layer, tied to the embeddings or not."""
    family_model(family, folder)  # its tokenizer; the weights are replaced
    settings = config(family, layers)
    settings.tie_word_embeddings = tied
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = hf.AutoModelForCausalLM.from_config(settings)
        for parameter in network.parameters():  # as drawn, all tokens are about equally likely
            parameter.data *= 5.0 if parameter.ndim > 1 else 1.0
        network.save_pretrained(folder)
    return Model(name="tied" if tied else "untied", checkpoint=str(folder), family=family)


def answering_task(folder: Path, *, rows: int = 16) -> Task:
    """Write prompts of two to four words; the last of them decides about the one or two of the
    answer."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, split in enumerate(("train", "dev", "test")):
        lines = []
        for row in range(rows):
            words = [f"w{(7 * row + 3 * place + number) % 12}" for place in range(2 + row % 3)]
            last = int(words[-1][1:])
            answer = f"w{20 + last % 3}" + (" w30" if last % 2 else "")
            fields = {"id": f"{split}-{row}", "text": " ".join(words), "label": answer}
            lines.append(json.dumps(fields))
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}
    return Task(name="answers", kind="generation", metric="perplexity", **files)
