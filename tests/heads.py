"""A tiny model of every family with every kind of head, ready to train, and a padded batch."""

import torch
import transformers
from torch import Tensor, nn

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.models.families import depths_of
from study.tasks.kinds import Classification, Image, Kind, Multilabel, Regression, Span, Tagging
from study.techniques.state import TrainState
from tests.conftest import CPU
from tests.families import config

TWO = ("no", "yes")
KINDS: dict[str, Kind] = {
    "classification": Classification(TWO),
    "regression": Regression(()),
    "multilabel": Multilabel(TWO),
    "tagging": Tagging(TWO),
    "span": Span(()),
    "image": Image(TWO),
}


def state_of(
    family: str, kind: str = "", *, dropout: float = 0.1, device: torch.device = CPU
) -> TrainState:
    """In training mode, dropout wherever the family has one; 3 layers, 16 wide, 10 steps to go.

    Args:
        family: One of `families.ALL`.
        kind: One of `KINDS`; empty is one class per text or image.
        dropout: Its probability.
        device: Where the model is.
    """
    task = KINDS[kind or ("image" if family == "vit" else "classification")]
    made = config(family, 3)
    made.num_labels, made.problem_type = task.outputs, task.problem
    if family == "llama":
        made.pad_token_id = 0
    torch.manual_seed(0)
    model = getattr(transformers, task.auto).from_config(made)
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
    pad = 1 if family == "roberta" else 0
    ids[0, 5:], mask[0, 5:] = pad, 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if kind == "span":
        return {**inputs, "start_positions": classes, "end_positions": classes + 2}
    targets = {
        "regression": classes.float(),
        "multilabel": torch.stack([classes, 1 - classes], 1).float(),
        "tagging": (ids % 2).masked_fill(mask == 0, -100),
    }
    return {**inputs, "labels": targets.get(kind, classes)}
