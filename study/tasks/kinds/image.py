"""Image classification."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image as Pictures

from study.tasks.kinds.base import Split
from study.tasks.kinds.classes import Classification
from study.tasks.kinds.encoded import Encoded, Ints


class Image(Classification):
    """One of several classes for an image; rows hold image files as base64 text or bytes.

    Images are resized once and stored as bytes with three channels; batches are normalised with the
    mean and standard deviation of the checkpoint's image processor.
    """

    name = "image"
    auto = "AutoModelForImageClassification"

    @classmethod
    def parse_text(cls, value: Any) -> Any:
        """The bytes of an image file."""
        try:
            raw = base64.b64decode(value, validate=True) if isinstance(value, str) else value
            raw = raw["bytes"] if isinstance(raw, dict) else bytes(raw)  # dicts come from the hub
            with Pictures.open(io.BytesIO(raw)) as picture:
                picture.load()  # a truncated file opens but does not load
        except (ValueError, TypeError, KeyError, OSError, SyntaxError) as error:
            raise ValueError(
                "is not an image: give the name of a file, its bytes, or base64 text."
            ) from error
        return raw

    def full_lengths(self, split: Split, processor: Any) -> Ints | None:
        """None: images have no tokens."""
        return None

    def encode(
        self, split: Split, processor: Any, *, max_length: int, truncate: str | bool
    ) -> Encoded:
        """One row per example, `pixel_values` of shape (n, 3, height, width) as bytes."""
        pixels = [
            processor(
                Pictures.open(io.BytesIO(raw)).convert("RGB"),
                do_rescale=False,
                do_normalize=False,
                return_tensors="np",
            )["pixel_values"][0]
            for raw in split.text
        ]
        rows = np.arange(len(split.ids) + 1)
        scale = 1 / processor.rescale_factor
        mean, deviation = processor.image_mean, processor.image_std
        return Encoded(
            split.ids,
            split.gold,
            rows,
            rows,
            arrays={"pixel_values": np.stack(pixels).astype(np.uint8), "labels": split.gold},
            pixels=(tuple(x * scale for x in mean), tuple(x * scale for x in deviation)),
        )
