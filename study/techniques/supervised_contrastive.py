"""Supervised contrastive learning: pull examples of a class together, push others apart."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from study.core.recipe import Recipe
from study.core.spec import Mistake, SpecError
from study.models.families import Depths
from study.techniques.base import Technique
from study.techniques.passes import return_hidden_states
from study.techniques.state import TrainState


class SupervisedContrastive(Technique):
    """Mix the cross-entropy with a contrastive loss over the labels of a batch.

    loss = (1 - weight) * CE + weight * SupCon, on the normalised last hidden state of the first
    token; in a decoder, whose first token attends to no other, of the last token. With `RDrop` or
    `FreeLB`, CE is their loss; penalties of other techniques are not scaled.

    Attributes:
        weight: The paper's lambda; 0 changes nothing.
        temperature: Divides the cosine similarities.

    Example:
        >>> from study import SupervisedContrastive
        >>> SupervisedContrastive(weight=0.5).label
        'SupervisedContrastive(0.5)'

    Source: Gunel et al. 2021, equations 1 to 3; the defaults are the pair that is best there most
        often. Differs: the contrastive loss is a mean over the batch, as cross-entropy is, where
        the paper sums it; an example without another of its class adds 0 to it.
    """

    weight: float = Field(default=0.9, ge=0.0, le=1.0)
    temperature: float = Field(default=0.3, gt=0.0)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Refuse to split batches: a pass would contrast only the rows of its part."""
        if recipe.micro_batch_size is not None:
            text = "compares all rows of a batch; set micro_batch_size=None."
            raise SpecError("SupervisedContrastive", [Mistake("recipe", text)])
        return recipe

    def objection(self, depths: Depths, kind: str) -> str | None:
        """Examples must have one class each."""
        if kind not in ("classification", "image"):
            return f"it needs one class per example, which {kind} does not have"
        return None

    def prepare(self, state: TrainState) -> None:
        """Request the hidden states."""
        return_hidden_states(state.model, enabled=True)

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
        """Stop returning hidden states."""
        return_hidden_states(model, enabled=False)


def supervised_contrast(summaries: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss of a batch.

    Args:
        summaries: Shape (batch, dim); they need not be normalised.
        labels: Class ids, shape (batch,).
        temperature: Divides the cosine similarities.

    Returns:
        Mean over examples of -log softmax, which is averaged over the other examples of the class;
        in nats, and 0 for a batch in which no two examples share a class.
    """
    unit = functional.normalize(summaries.float(), dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    similarity = (unit @ unit.T / temperature).masked_fill(itself, torch.finfo(unit.dtype).min)
    log_share = similarity.log_softmax(-1)  # of every other example; finite for a batch of one
    partner = (labels[:, None] == labels) & ~itself
    mean_log_share = log_share.masked_fill(~partner, 0.0).sum(-1) / partner.sum(-1).clamp(min=1)
    return -mean_log_share.mean()
