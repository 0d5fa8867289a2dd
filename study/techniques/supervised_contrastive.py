"""Supervised contrastive learning: examples of a class lie together, of other classes apart."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from study.models.families import Depths
from study.techniques.base import Technique
from study.techniques.state import TrainState


class SupervisedContrastive(Technique):
    """Add a contrastive loss over the labels of a batch to the cross-entropy.

    loss = (1 - weight) * CE + weight * SupCon, on the first token's last hidden state, normalised;
    in a decoder, whose first token sees no other, on the last token's. With `RDrop` or `FreeLB`, CE
    is the loss that they make of it; penalties of other techniques are not scaled.

    Attributes:
        weight: The paper's lambda; 0 changes nothing.
        temperature: Divides the cosine similarities.

    Source: Gunel et al. 2021, equations 1 to 3; the defaults are the pair that it finds best most
        often. Differs: the contrastive loss is a mean over the batch, as cross-entropy is, where
        the paper sums it; an example without another of its class adds 0 to it.
    """

    weight: float = Field(default=0.9, ge=0.0, le=1.0)
    temperature: float = Field(default=0.3, gt=0.0)

    def objection(self, depths: Depths, kind: str) -> str | None:
        """Examples must have one class each."""
        if kind not in ("classification", "image"):
            return f"it needs one class per example, which {kind} has not"
        return None

    def prepare(self, state: TrainState) -> None:
        """Have the model return its hidden states."""
        state.model.config.output_hidden_states = True  # type: ignore[union-attr]

    def loss(
        self, loss: Tensor, outputs: Any, batch: Mapping[str, Tensor], state: TrainState
    ) -> Tensor:
        """Mix the two losses."""
        hidden = outputs.hidden_states[-1]  # (batch, tokens, dim)
        if state.depths.family.causal:
            mask = batch["attention_mask"]
            last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
            summary = hidden[torch.arange(len(hidden), device=hidden.device), last]
        else:
            summary = hidden[:, 0]
        contrast = supervised_contrast(summary, batch["labels"], self.temperature)
        return (1 - self.weight) * loss + self.weight * contrast

    def merge(self, model: nn.Module) -> None:
        """What is saved returns no more than a model that others trained."""
        model.config.output_hidden_states = False  # type: ignore[union-attr]


def supervised_contrast(summaries: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """How far examples are from those of their class, compared with all others.

    Args:
        summaries: Shape (batch, dim), of any length.
        labels: Class ids, shape (batch,).
        temperature: Divides the cosine similarities.

    Returns:
        Mean over examples of -log softmax, itself a mean over the others of the class; in nats,
        and 0 for a batch in which no two examples share a class.
    """
    unit = functional.normalize(summaries.float(), dim=-1)
    same = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    similarity = (unit @ unit.T / temperature).masked_fill(same, torch.finfo(unit.dtype).min)
    log_share = similarity.log_softmax(-1)  # of every other example; finite for a batch of one
    partner = (labels[:, None] == labels) & ~same
    found = log_share.masked_fill(~partner, 0.0).sum(-1) / partner.sum(-1).clamp(min=1)
    return -found.mean()
