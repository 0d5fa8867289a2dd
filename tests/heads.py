"""Tiny models of every family and kind of task, ready to train, and a padded batch."""

import torch
import transformers
from torch import Tensor, nn

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.models.families import depths_of
from study.tasks.kinds import (
    Classification,
    Generation,
    Image,
    Kind,
    Multilabel,
    Regression,
    Span,
    Tagging,
)
from study.techniques.state import TrainState
from tests.conftest import CPU
from tests.families import DECODERS, config

TWO = ("no", "yes")
KINDS: dict[str, Kind] = {
    "classification": Classification(TWO),
    "regression": Regression(()),
    "multilabel": Multilabel(TWO),
    "tagging": Tagging(TWO),
    "span": Span(()),
    "image": Image(TWO),
    "generation": Generation(()),
}


def state_of(
    family: str, kind: str = "", *, dropout: float = 0.1, device: torch.device = CPU
) -> TrainState:
    """A state in training mode: 3 layers, width 16, dropout where the family has it, 10 steps.

    Args:
        family: One of `families.ALL`.
        kind: One of `KINDS`; empty for classification of texts or images.
        dropout: Dropout probability.
        device: The model's device.
    """
    task = KINDS[kind or ("image" if family == "vit" else "classification")]
    settings = config(family, 3)
    settings.num_labels, settings.problem_type = task.outputs, task.problem
    if family in DECODERS:
        settings.pad_token_id = 0
    torch.manual_seed(0)
    model = getattr(transformers, task.auto).from_config(settings)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = dropout
    state = TrainState(
        model.train().to(device),
        Recipe(),
        Seed(0, 0, 0),
        depths_of(model),
        device,
        task,
        lambda: iter(()),
        steps=10,
    )
    state.reseed()
    return state


def batch_of(family: str, kind: str = "") -> dict[str, Tensor]:
    """Four rows; two tokens of the first text are padding, and each class has two rows."""
    rng = torch.Generator().manual_seed(1)
    classes = torch.tensor([0, 1, 0, 1])
    if family == "vit":
        return {"pixel_values": torch.randn(4, 3, 8, 8, generator=rng), "labels": classes}
    ids = torch.randint(5, 40, (4, 7), generator=rng)
    mask = torch.ones_like(ids)
    pad = 1 if family in ("roberta", "mpnet") else 0
    ids[0, 5:], mask[0, 5:] = pad, 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if kind == "span":
        return {**inputs, "start_positions": classes, "end_positions": classes + 2}
    targets = {
        "regression": classes.float(),
        "multilabel": torch.stack([classes, 1 - classes], 1).float(),
        "tagging": (ids % 2).masked_fill(mask == 0, -100),
        "generation": ids.masked_fill((mask == 0) | (torch.arange(7) < 3), -100),
    }
    return {**inputs, "labels": targets.get(kind, classes)}
