"""Image classification: reading files, and batches equal to the image processor's output."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from transformers import ViTImageProcessorPil

from study.tasks.kinds import Image, Split
from study.tasks.kinds.encoded import collate

KIND = Image(("cat", "dog"))


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Pictures.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_a_batch_equals_the_processors_output():
    processor = ViTImageProcessorPil(
        size={"height": 16, "width": 16}, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.5]
    )
    raw = [picture(0), picture(1)]
    split = Split(["a", "b"], raw, None, np.array([0, 1]))
    made = KIND.encode(split, processor, max_length=128, truncate="longest_first")
    assert made.arrays["pixel_values"].dtype == np.uint8
    batch = collate(made, np.array([1, 0]))
    images = [Pictures.open(io.BytesIO(file)) for file in (raw[1], raw[0])]
    expected = processor(images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(batch["pixel_values"], expected, rtol=0, atol=1e-5)
    assert batch["labels"].tolist() == [1, 0]
    assert set(batch) == {"pixel_values", "labels"}


def test_files_may_be_bytes_base64_or_the_hubs_dicts():
    raw = picture(0)
    for value in (raw, base64.b64encode(raw).decode(), {"bytes": raw}):
        assert KIND.parse_text(value) == raw
    broken = raw[:40] + bytes([raw[40] ^ 1]) + raw[41:]
    for value in ("cat.png", b"GIF", None, raw[:-30], broken):
        with pytest.raises(ValueError, match="is not an image: "):
            KIND.parse_text(value)
