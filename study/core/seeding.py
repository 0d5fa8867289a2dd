"""Random streams of a run: `head`, `order` and `noise`.

A stream has no state. Every generator is derived by hashing the stream's seed, its name and the
purpose (a parameter, a step), as in counter-based generators. Resuming therefore needs no saved
generator state, and the streams of neighbouring seeds are unrelated.
"""

import hashlib
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import AfterValidator

Stream = Literal["head", "order", "noise"]


def _fits(number: int) -> int:
    if not -(2**63) <= number < 2**63:
        raise ValueError(
            f"{number} does not fit in 64 bits; use seeds from -2**63 to 2**63 - 1, such as "
            f"{number % 2**31}."
        )
    return number


SeedNumber = Annotated[int, AfterValidator(_fits)]  # the analysis stores seeds in 64 bits


class Seed(NamedTuple):
    """A run's seeds, one per stream.

    Attributes:
        head: Initialises new parameters (task head, re-initialised layers).
        order: Shuffles the training data.
        noise: Drives dropout and all other noise during training.
    """

    head: int
    order: int
    noise: int

    @property
    def label(self) -> str:
        """`s3` if all three are equal, else `h0.o1.n2`."""
        if self.head == self.order == self.noise:
            return f"s{self.head}"
        return f"h{self.head}.o{self.order}.n{self.noise}"


def derive(seed: Seed, stream: Stream, *purpose: str | int) -> int:
    """A 63-bit seed that depends only on the stream's seed, its name and the purpose.

    Args:
        seed: The run's seeds.
        stream: The stream to derive from.
        *purpose: What the numbers are for, such as a parameter's name or a step; distinct purposes
            get independent generators.
    """
    text = "/".join(map(str, (stream, getattr(seed, stream), *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_rng(seed: Seed, stream: Stream, *purpose: str | int) -> torch.Generator:
    """A torch generator seeded by `derive`.

    It is on the CPU whatever the device, so that all devices draw the same numbers.
    """
    return torch.Generator().manual_seed(derive(seed, stream, *purpose))


def numpy_rng(seed: Seed, stream: Stream, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator seeded by `derive`."""
    return np.random.Generator(np.random.PCG64(derive(seed, stream, *purpose)))


def seed_global(number: int) -> None:
    """Reseed the global generators of all devices, which dropout and fused attention use."""
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(number)
