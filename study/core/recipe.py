"""The recipe: what every technique of a study shares."""

from typing import Literal

from pydantic import Field

from study.core.spec import Spec


class Recipe(Spec):
    """What every technique shares; anything that can move a bit is a field here, so in the key.

    Attributes:
        lr: Peak learning rate.
        epochs: Passes over the training data.
        batch_size: Rows per optimizer step.
        schedule: After warm-up the rate falls linearly to 0, or stays constant.
        warmup: Share of the steps over which the rate rises linearly from 0.
        hold: Share of the steps after which the rate stays as it is; 1 holds it nowhere.
        weight_decay: Decoupled; never on biases and norms.
        betas: Decay of Adam's two moments.
        eps: Adam's denominator.
        clip_norm: Largest global gradient norm; None does not clip.
        dropout: Probability of every dropout in the model; None keeps the checkpoint's.
        precision: `bfloat16` runs forward passes under autocast; weights stay float32.
        max_length: Tokens per example at most.
        batches: `by_length` groups rows of like length within the drawn order; `shuffled` is a
            plain shuffle.
        checkpoint: Which weights count: of the `last` step, or of the epoch with the `best_dev`
            score (the first of equals).
        threads: CPU threads per run; other numbers round otherwise.

    Source: Mosbach et al. 2021 for Adam with bias correction, warm-up and linear decay as the
        defaults of a fair baseline.
    """

    lr: float = Field(default=2e-5, gt=0.0)
    epochs: int = Field(default=3, gt=0)
    batch_size: int = Field(default=16, gt=0)
    schedule: Literal["linear", "constant"] = "linear"
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
