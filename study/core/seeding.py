"""The three random streams of a run: `head`, `order` and `noise`.

Streams are counters, not saved generators: every generator is derived by hashing the stream's
seed, its name and what it is for, so nothing random is ever checkpointed and neighbouring seeds
never collide.
"""

import hashlib
from typing import Literal, NamedTuple

import numpy as np
import torch

Stream = Literal["head", "order", "noise"]


class Seed(NamedTuple):
    """One run's seeds, a number per stream.

    Attributes:
        head: Draws new parameters (task head, re-initialised layers).
        order: Draws the order of the training data.
        noise: Draws dropout and every other disturbance during training.
    """

    head: int
    order: int
    noise: int

    @property
    def label(self) -> str:
        """`s3` where the three agree, else `h0.o1.n2`."""
        if self.head == self.order == self.noise:
            return f"s{self.head}"
        return f"h{self.head}.o{self.order}.n{self.noise}"


def derive(seed: Seed, stream: Stream, *purpose: str | int) -> int:
    """A 63-bit number that depends on the stream's seed, its name and the purpose, on nothing else.

    Args:
        seed: The run's seeds.
        stream: Which of the three is drawn from.
        *purpose: What for, such as a parameter's name or a step; distinct purposes never share
            numbers.
    """
    text = "/".join(map(str, (stream, getattr(seed, stream), *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_rng(seed: Seed, stream: Stream, *purpose: str | int) -> torch.Generator:
    """A CPU generator for `derive(...)`; draws move to the device afterwards, so devices agree."""
    return torch.Generator().manual_seed(derive(seed, stream, *purpose))


def numpy_rng(seed: Seed, stream: Stream, *purpose: str | int) -> np.random.Generator:
    """A numpy generator for `derive(...)`."""
    return np.random.Generator(np.random.PCG64(derive(seed, stream, *purpose)))


def seed_global(number: int) -> None:
    """Reseed the global generators of all devices, which dropout and fused attention draw from."""
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(number)
