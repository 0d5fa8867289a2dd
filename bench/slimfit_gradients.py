"""Error of gradients with compressed activations, on real weights.

All weights of MiniLM (or of MPNet) are trained but the gains of norms, without dropout, on rows of
joined terms. Of all gradients together the cosine with exact ones and the relative error, by option
and by part. Bar: the default has a cosine of at least 0.98 and an error of at most 0.2.
"""

import argparse
import sys
from collections.abc import Iterator

import torch
from common import ending
from torch.nn import functional

from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.models import MINILM, MPNET
from study.models.families import depths_of
from study.models.loading import Loaded
from study.models.model import Model
from study.tasks import TERMS
from study.tasks.kinds import KINDS
from study.techniques import CompressedActivations
from study.techniques.compressed_activations import PARTS
from study.techniques.state import TrainState

COSINE, ERROR = 0.98, 0.2


def options() -> Iterator[tuple[str, CompressedActivations]]:
    """What is compared, the default first."""
    yield "default", CompressedActivations()
    yield "stored attention", CompressedActivations(attention="stored")
    yield "measured steps", CompressedActivations(steps="measured")
    yield "8-bit GELU", CompressedActivations(gelu_bits=8)
    yield "measured steps, 8-bit GELU", CompressedActivations(steps="measured", gelu_bits=8)
    for part in PARTS[:-1]:  # dropout is off
        yield f"{part} alone", CompressedActivations(parts=(part,))


def gradients(
    loaded: Loaded, batch: dict[str, torch.Tensor], technique: CompressedActivations | None
) -> torch.Tensor:
    """Of all weights, joined; None is exact."""
    model = loaded.fresh(Seed(0, 0, 0), dropout=0.0).train()
    kind, device = loaded.kind, torch.device("cpu")
    state = TrainState(
        model, Recipe(), Seed(0, 0, 0), depths_of(model), device, kind, lambda: iter(())
    )
    if technique:
        technique.prepare(state)
    for module in model.modules():  # with a frozen gain norms are compressed
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.requires_grad_(False)
    state.forward(batch).loss.backward()
    found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(found)


def main() -> int:
    """Print the table, and whether the default meets the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four short rows")
    parser.add_argument("--checkpoint", default="", help="folder of MPNet; default: MiniLM")
    asked = parser.parse_args()
    rows, length = (4, 16) if asked.quick else (16, 64)
    model: Model = MPNET.replace(checkpoint=asked.checkpoint) if asked.checkpoint else MINILM
    loaded = Loaded(model, KINDS["classification"](("a", "b")))
    terms = TERMS.load().splits["train"].text
    texts = [" ".join(terms[i : i + length]) for i in range(rows)]
    batch = dict(
        loaded.processor(
            texts, truncation=True, max_length=length, padding=True, return_tensors="pt"
        )
    )
    batch["labels"] = torch.arange(rows) % 2
    exact = gradients(loaded, batch, None)
    errors = {}
    print(f"{model.name}, {rows} rows of {length} tokens\n{'':<32}{'cosine':>8}{'error':>8}")
    for name, technique in options():
        own = gradients(loaded, batch, technique)
        cosine = functional.cosine_similarity(exact.double(), own.double(), dim=0).item()
        errors[name] = cosine, ((exact - own).norm() / exact.norm()).item()
        print(f"{name:<32}{cosine:>8.4f}{errors[name][1]:>8.3f}")
    cosine, error = errors["default"]
    return ending(
        "slimfit_gradients",
        f"cosine {cosine:.3f}, relative error {error:.3f}",
        bar=f"{COSINE}, {ERROR}",
        met=cosine >= COSINE and error <= ERROR,
    )


if __name__ == "__main__":
    sys.exit(main())
