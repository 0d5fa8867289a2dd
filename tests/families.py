"""Tiny task models of every family, for techniques that reach into the layers."""

import torch
import transformers
from torch import Tensor

from study.models import depths_of
from study.seeding import Seed
from study.spec import Recipe
from study.techniques.base import TrainState
from tests.conftest import CPU, PAIRS
from tests.study.test_models import CONFIGS

ALL = sorted([*CONFIGS, "vit"])


def state_of(kind: str, seed: Seed = Seed(0, 0, 0)) -> TrainState:
    """A run's state on a model of random weights, the same ones in every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "vit":
            config = transformers.ViTConfig(
                hidden_size=16,
                num_hidden_layers=3,
                num_attention_heads=2,
                intermediate_size=32,
                image_size=8,
                patch_size=4,
            )
            model = transformers.ViTForImageClassification(config)
        else:
            model = transformers.AutoModelForSequenceClassification.from_config(CONFIGS[kind])
    model.eval()
    return TrainState(
        model, Recipe(), seed, depths_of(model), CPU, PAIRS, lambda: iter([batch_of(kind)])
    )


def batch_of(kind: str) -> dict[str, Tensor]:
    """Two rows with labels."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1])
    if kind == "vit":
        return {"pixel_values": torch.randn(2, 3, 8, 8, generator=rng), "labels": labels}
    words = torch.randint(3, 50, (2, 6), generator=rng)
    return {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": labels}


@torch.no_grad()
def logits_of(state: TrainState, kind: str) -> Tensor:
    """The model's outputs for the two rows, shape (2, 2)."""
    logits: Tensor = state.forward(batch_of(kind)).logits
    return logits
