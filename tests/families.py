"""Tiny random checkpoints of every architecture, with its usual tokenizer conventions."""

import base64
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.models.families import depths_of
from study.models.model import Model
from study.tasks import Task
from study.techniques.state import TrainState
from study.testing import WORDS
from tests.conftest import CPU, PAIRS

WIDTHS = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "bert": partial(hf.BertConfig, **WIDTHS),
    "roberta": partial(hf.RobertaConfig, **WIDTHS, type_vocab_size=1),
    "mpnet": partial(hf.MPNetConfig, **WIDTHS),
    "electra": partial(hf.ElectraConfig, **WIDTHS, embedding_size=8),
    "deberta-v2": partial(
        hf.DebertaV2Config,
        **WIDTHS,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=8,
        conv_kernel_size=3,
        norm_rel_ebd="layer_norm",
    ),
    "distilbert": partial(
        hf.DistilBertConfig, dim=16, n_heads=2, hidden_dim=32, max_position_embeddings=64
    ),
    "albert": partial(hf.AlbertConfig, **WIDTHS, embedding_size=8),
    "modernbert": partial(hf.ModernBertConfig, **WIDTHS),
    "llama": partial(hf.LlamaConfig, **WIDTHS, num_key_value_heads=1),
    "qwen2": partial(hf.Qwen2Config, **WIDTHS, num_key_value_heads=1),
    "vit": partial(
        hf.ViTConfig,
        **{name: size for name, size in WIDTHS.items() if name != "max_position_embeddings"},
        image_size=8,
        patch_size=4,
    ),
}
DECODERS = ("llama", "qwen2")
TEXT = [kind for kind in CONFIGS if kind != "vit"]
ALL = sorted(CONFIGS)
MASKED = {"bert", "electra", "deberta-v2", "distilbert", "albert", "modernbert"}


def config(kind: str, layers: int) -> hf.PreTrainedConfig:
    """A tiny configuration, with the ids of special tokens that the architecture uses."""
    depth = {"n_layers": layers} if kind == "distilbert" else {"num_hidden_layers": layers}
    if kind == "vit":
        return CONFIGS[kind](**depth)
    special = {"pad_token_id": 0} if kind in MASKED else {}
    if kind in ("roberta", "mpnet"):
        special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    if kind in DECODERS:  # like SmolLM2's base model: no padding token
        special = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": None}
    tokens = 256 if kind == "qwen2" else len(WORDS)
    return CONFIGS[kind](vocab_size=len(_special_tokens(kind)) + tokens, **depth, **special)


def family_model(kind: str, folder: Path) -> Model:
    """Write a random two-layer checkpoint of the body alone, as after pretraining."""
    folder.mkdir(parents=True, exist_ok=True)
    hf.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hf.AutoModel.from_config(config(kind, 2)).save_pretrained(folder)
    if kind == "vit":
        size = {"height": 8, "width": 8}
        hf.ViTImageProcessorPil(size=size).save_pretrained(folder)
    else:
        _tokenizer(kind).save_pretrained(folder)
    return Model(name=kind, checkpoint=str(folder), family=kind)


BERT_INPUTS = ("input_ids", "position_ids", "token_type_ids")


def wide_bert(
    layers: int, width: int, heads: int, device: str = "cpu", attention: str = "sdpa"
) -> hf.PreTrainedModel:
    """A BERT classifier of two classes with feed-forward blocks four times as wide, to be trained.

    On the meta device it has no values.
    """
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "vocab_size": 50}
    config = hf.BertConfig(
        num_hidden_layers=layers, num_attention_heads=heads, attn_implementation=attention, **sizes
    )
    with torch.device(device):
        return hf.AutoModelForSequenceClassification.from_config(config).train()


def bert_batch(rows: int, tokens: int, device: str = "cpu") -> dict[str, Tensor]:
    """All inputs that BERT would otherwise make on the way, and labels."""
    with torch.device(device):
        inputs = {name: torch.ones(rows, tokens, dtype=torch.long) for name in BERT_INPUTS}
        return {**inputs, "labels": torch.zeros(rows, dtype=torch.long)}


def image_task(folder: Path, *, rows: int = 32) -> Task:
    """Write a two-class task of 8 x 8 images: bright or dark?"""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split in ("train", "dev", "test"):
        lines = []
        for number in range(rows):
            bright = number % 2
            pixels = rng.integers(100 * bright, 156 + 100 * bright, (8, 8, 3), dtype=np.uint8)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            coded = base64.b64encode(stream.getvalue()).decode()
            row = {"id": f"{split}-{number}", "text": coded, "label": ("dark", "bright")[bright]}
            lines.append(json.dumps(row))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    paths = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}
    return Task(name="pictures", kind="image", **paths)


def state_of(kind: str, seed: Seed = Seed(0, 0, 0)) -> TrainState:
    """A run's state with a random three-layer model, the same in every call."""
    image = kind == "vit"
    auto = hf.AutoModelForImageClassification if image else hf.AutoModelForSequenceClassification
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto.from_config(config(kind, 3))
    model.eval()
    if kind in DECODERS:
        model.config.pad_token_id = 0
    return TrainState(
        model, Recipe(), seed, depths_of(model), CPU, PAIRS, lambda: iter([batch_of(kind)])
    )


def batch_of(kind: str) -> dict[str, Tensor]:
    """Two rows with labels."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1])
    if kind == "vit":
        return {"pixel_values": torch.randn(2, 3, 8, 8, generator=rng), "labels": labels}
    words = torch.randint(5, 40, (2, 6), generator=rng)
    return {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": labels}


@torch.no_grad()
def logits_of(state: TrainState, kind: str) -> Tensor:
    """The model's outputs for the two rows, shape (2, 2)."""
    logits: Tensor = state.forward(batch_of(kind)).logits
    return logits


def _special_tokens(kind: str) -> list[str]:
    if kind in ("roberta", "mpnet"):
        return ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if kind in DECODERS:
        return ["<unk>", "<|end|>"]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def _tokenizer(kind: str) -> hf.PreTrainedTokenizerFast:
    special = _special_tokens(kind)
    if kind == "qwen2":  # which transformers reads with a class of its own, as byte pairs
        return _byte_pairs(special)
    ids = {word: number for number, word in enumerate([*special, *WORDS])}
    segments = kind in ("bert", "electra", "deberta-v2", "albert")
    inputs = ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"]
    roles = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    roles |= {"sep_token": "[SEP]", "mask_token": "[MASK]"}
    template = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    if kind in ("roberta", "mpnet"):
        roles = {"unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "<s>"}
        roles |= {"sep_token": "</s>", "bos_token": "<s>", "eos_token": "</s>"}
        template = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")
    if kind in DECODERS:
        roles = {"unk_token": "<unk>", "bos_token": "<|end|>", "eos_token": "<|end|>"}
        template = ("$A", "$A $B")
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=roles["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    used = [(token, ids[token]) for token in special if token in " ".join(template)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template[0], pair=template[1], special_tokens=used
    )
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **roles)


def _byte_pairs(special: list[str]) -> hf.PreTrainedTokenizerFast:
    """Qwen2's tokenizer with every byte as a token, and no pairs."""
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    roles = {"unk_token": special[0], **dict.fromkeys(("eos_token", "pad_token"), special[1])}
    return hf.Qwen2Tokenizer(vocab=vocabulary, merges=[], **roles)
