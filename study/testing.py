"""A tiny random model and a tiny task, for tests, benchmarks, and quick checks of a technique."""

import json
import random
from pathlib import Path

import torch
import transformers

from study.models.model import Model
from study.tasks import Task
from study.tasks.task import SPLITS

WORDS = [f"w{i}" for i in range(40)]


def tiny_model(folder: Path) -> Model:
    """Write a random BERT with two layers, hidden size 16 and 45 words to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    return Model(name="tiny", checkpoint=str(folder.resolve()), family="bert-tiny")


def tiny_task(folder: Path, *, rows: int = 32) -> Task:
    """Write a two-class task of text pairs to a folder: are the second text's words in the first?

    Args:
        folder: Output folder for `train.jsonl`, `dev.jsonl` and `test.jsonl`.
        rows: Rows per split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    for split in SPLITS:
        lines = []
        for number in range(rows):
            first = rng.sample(WORDS, rng.randint(2, 6))
            same = number % 2 == 0
            second = [rng.choice(first if same else WORDS) for _ in range(rng.randint(1, 4))]
            row = {
                "id": f"{split}-{number}",
                "text": " ".join(first),
                "text_pair": " ".join(second),
                "label": "yes" if same else "no",
            }
            lines.append(json.dumps(row))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    paths = {split: str((folder / f"{split}.jsonl").resolve()) for split in SPLITS}
    return Task(name="pairs", text_pair="text_pair", **paths)
