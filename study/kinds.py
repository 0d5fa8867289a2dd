"""Kinds of task: for each, the head, what its outputs mean, and what a constant answer would do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Kind:
    """What training needs to know of a task.

    Attributes:
        labels: Class names in the order of their ids; empty for regression.
    """

    labels: tuple[str, ...]
    name: ClassVar[str]
    problem: ClassVar[str]

    @property
    def outputs(self) -> int:
        """Size of the head's output."""
        return len(self.labels) or 1

    def divergence(self, p: Any, q: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """How far q's answers are from p's, a scalar: the mean over examples of KL(p || q).

        Args:
            p: A model's outputs for the batch; gradients flow into both.
            q: Other outputs for it.
            batch: Says which outputs count.

        Returns:
            In nats; 0 for equal outputs.
        """
        return _kl(p.logits, q.logits)


class Classification(Kind):
    """One of several classes: softmax and cross-entropy."""

    name = "classification"
    problem = "single_label_classification"


class Regression(Kind):
    """One value: squared error."""

    name = "regression"
    problem = "regression"

    def divergence(self, p: Any, q: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean squared difference of the values.

        Source: Liang et al. 2021 and Aghajanyan et al. 2021 leave regression open; the squared
            difference is the divergence of two normals of unit variance, but for a factor 2.
        """
        return functional.mse_loss(q.logits.float(), p.logits.float())


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of logits of shape (n, classes), mean over n."""
    log_p, log_q = (functional.log_softmax(x.float(), dim=-1) for x in (p, q))
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


KINDS: dict[str, type[Kind]] = {kind.name: kind for kind in (Classification, Regression)}
