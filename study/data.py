"""A task's data as training takes it, encoded once for each checkpoint."""

from typing import Any, NamedTuple

from study.batches import Encoded
from study.kinds import Kind
from study.tasks import TaskData


class Prepared(NamedTuple):
    """A task's data as training takes it.

    Attributes:
        splits: `train`, `dev` and `test`, encoded.
        kind: What a model's outputs for it mean.
    """

    splits: dict[str, Encoded]
    kind: Kind


def prepare(data: TaskData, processor: Any, max_length: int) -> Prepared:
    """Encode all splits.

    Args:
        data: The task's rows.
        processor: The checkpoint's, as `models.processor` gives it for this kind.
        max_length: Tokens per row at most.
    """
    splits = {
        name: data.kind.encode(split, processor, max_length=max_length, truncate=data.truncate)
        for name, split in data.splits.items()
    }
    return Prepared(splits, data.kind)
