"""The training recipe: hyperparameters that all techniques of a study share."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from study.core.spec import Mistake, Spec


class Recipe(Spec):
    """Training hyperparameters; whatever can change a result is a field, so part of a run's key.

    Attributes:
        lr: Peak learning rate.
        epochs: Passes over the training data.
        steps: Optimizer steps, in place of `epochs`; the last pass ends where they do. Dev is
            scored after each pass and at the end.
        batch_size: Examples per optimizer step.
        micro_batch_size: Examples per forward and backward pass, whose gradients are accumulated;
            None takes the whole batch at once. Less memory; the gradient is that of the batch up to
            rounding, but each pass has noise of its own.
        schedule: After warm-up the learning rate decays to 0, linearly or along half a cosine, or
            stays constant.
        warmup: Fraction of the steps over which the learning rate rises linearly from 0.
        hold: Fraction of the steps after which the learning rate is held constant; 1 never does.
        weight_decay: Decoupled weight decay; not applied to biases and normalisation layers.
        betas: Decay rates of Adam's two moment estimates.
        eps: Constant added to Adam's denominator.
        clip_norm: Maximum global gradient norm; None disables clipping.
        dropout: Probability of all dropout layers; None keeps those of the checkpoint.
        precision: `bfloat16` runs the forward pass under autocast; weights stay float32.
        max_length: Maximum tokens per example; longer ones are truncated.
        batches: `by_length` groups examples of similar length within the random order; `shuffled`
            is a plain shuffle.
        checkpoint: Which weights are evaluated: those of the `last` step, or of the epoch with the
            `best_dev` score (the first of equals).
        threads: CPU threads per run; another number changes rounding.

    Source: Mosbach et al. 2021 for Adam with bias correction, warm-up and linear decay as the
        defaults of a fair baseline; Loshchilov & Hutter 2017, equation 5, for the cosine.

    Example:
        >>> recipe = Recipe(lr=5e-5, epochs=10)
        >>> recipe.replace(batch_size=32).canonical()
        {'lr': 5e-05, 'epochs': 10, 'batch_size': 32}
    """

    lr: float = Field(default=2e-5, gt=0.0)
    epochs: int = Field(default=3, gt=0)
    steps: int | None = Field(default=None, gt=0)
    batch_size: int = Field(default=16, gt=0)
    micro_batch_size: int | None = Field(default=None, gt=0)
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    warmup: float = Field(default=0.1, ge=0.0, le=1.0)
    hold: float = Field(default=1.0, gt=0.0, le=1.0)
    weight_decay: float = Field(default=0.01, ge=0.0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-6, gt=0.0)
    clip_norm: float | None = Field(default=1.0, gt=0.0)
    dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    precision: Literal["float32", "bfloat16"] = "float32"
    max_length: int = Field(default=128, gt=0)
    batches: Literal["by_length", "shuffled"] = "by_length"
    checkpoint: Literal["last", "best_dev"] = "last"
    threads: int = Field(default=1, gt=0)

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """A batch is split only into smaller ones, and the length is given once."""
        mistakes = []
        if fields.get("steps") is not None and "epochs" in fields:
            text = "and `steps` both say how long to train; leave one out."
            mistakes.append(Mistake("epochs", text))
        whole = fields.get("batch_size", cls.model_fields["batch_size"].default)
        part = fields.get("micro_batch_size")
        if isinstance(whole, int) and isinstance(part, int) and part >= whole > 0:
            text = f"{part} is not less than batch_size={whole}; leave it out."
            mistakes.append(Mistake("micro_batch_size", text))
        return mistakes
