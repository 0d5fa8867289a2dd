"""PEFT: methods of the `peft` library that change the modules of a frozen model."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field
from torch import nn

from study.core.seeding import derive
from study.core.spec import Mistake
from study.models.families import Depths, in_layers, in_norm
from study.techniques.base import Technique
from study.techniques.injection import drawn_uniformly, inject, merge_injected, target_maps
from study.techniques.state import Group, TrainState


class Method(NamedTuple):
    """How `peft` is asked for a method.

    Attributes:
        config: Its configuration class.
        size: The size by default.
        arguments: Arguments of the configuration for a size.
        drawn: Parts of the names of new parameters that start at random values.
    """

    config: str
    size: int
    arguments: Callable[[int], dict[str, Any]]
    drawn: tuple[str, ...] = ()


# No key holds what is in this table, so what is released in it never changes.
METHODS = {
    # Liu et al. 2024: half of LoRA's rank there, and alpha twice the rank.
    "dora": Method(
        "LoraConfig", 16, lambda r: {"r": r, "lora_alpha": 2 * r, "use_dora": True}, (".lora_A.",)
    ),
    # Hyeon-Woo et al. 2022, proposition 1. The rank is peft's, the factor alpha / rank is 1.
    "loha": Method("LoHaConfig", 8, lambda r: {"r": r, "alpha": r}, (".hada_w1_", ".hada_w2_a.")),
    # Yeh et al. 2024, LoKr. The rank is peft's, the factor alpha / rank is 1.
    "lokr": Method("LoKrConfig", 8, lambda r: {"r": r, "alpha": r}, (".lokr_w2",)),
    # Qiu et al. 2023, with the exact Cayley transform. The width of blocks is peft's.
    "oft": Method("OFTConfig", 32, lambda b: {"oft_block_size": b, "use_cayley_neumann": False}),
    # Yuan et al. 2024, without the penalty on angles between reflections.
    "hra": Method("HRAConfig", 8, lambda r: {"r": r}, (".hra_u.",)),
    # Kang & Yin 2024, also known as Bone. The rank is peft's.
    "miss": Method("MissConfig", 64, lambda r: {"r": r}),
    # Gao et al. 2024, as for RoBERTa on GLUE.
    "fourierft": Method(
        "FourierFTConfig",
        1000,
        lambda n: {"n_frequency": n, "scaling": 150.0, "init_weights": True},
    ),
    # Liao & Monz 2024, the variant with one angle and one factor for a pair of outputs.
    "road": Method("RoadConfig", 64, lambda g: {"variant": "road_1", "group_size": g}),
    # Liu et al. 2022.
    "ia3": Method("IA3Config", 0, lambda _: {}),
}
FACTORS = (".lora_magnitude_vector.", ".road_alpha.", ".ia3_l.")  # they do not start at zero
PULLED = "it would pull factors that start at one towards zero"


class PEFT(Technique):
    """Freeze the encoder and train what a method adds to it; the head is trained as usual.

    Training starts at the pretrained model, and an exported model has the update merged into its
    weights and is a plain one again. The methods, by what becomes of a frozen matrix W:

    - `dora`: a magnitude per row, times the direction of W + scale * B A;
    - `loha`, `lokr`: W plus the elementwise product of two low-rank matrices, or the Kronecker
      product of two smaller ones;
    - `oft`, `hra`: W times a rotation, block-diagonal or a product of reflections;
    - `miss`: W plus a matrix whose columns are shared; `fourierft`: W plus the inverse Fourier
      transform of a few coefficients;
    - `road`: pairs of outputs are rotated and scaled;
    - `ia3`: factors of keys, values and the feed-forward block's hidden units;
    - `ln_tuning`: nothing; the norms of the layers are trained.

    Attributes:
        method: The method.
        size: The rank (`dora`, `loha`, `lokr`, `hra`, `miss`), the width of a block (`oft`) or of
            a group (`road`), or the number of coefficients (`fourierft`); None for the default.
        targets: The query and value projections, or every linear map of the layers.

    Example:
        >>> from study import PEFT
        >>> PEFT(method="oft", size=16).label
        'PEFT(method=oft, size=16)'

    Source: `METHODS` in this module names the paper of each method; Zhao et al. 2023 for
        `ln_tuning`. Differs: no dropout; new matrices are drawn uniformly, as in peft; the targets
        are LoRA's by default; factors have no weight decay. `fourierft` starts at zero instead of
        at random. `ia3` scales queries instead of keys, which is the same where attention is a dot
        product of both alone, without rotary positions. `ln_tuning` trains all norms of the
        layers, in place. Left out: prefix and prompt tuning, which peft cannot inject; VeRA and
        VB-LoRA, whose modules share weights that it keeps outside the model, as AdaLoRA keeps the
        importances that decide its ranks; BOFT, which compiles code on a GPU.
    """

    clashes: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("LoRA", "Adapters", "BitFit"), "each freezes what the other trains"),
        "ReinitTop": "the re-initialised matrices would never be trained themselves",
        "Mixout": "it freezes the weights that mixout mixes",
        "ChildTuningD": "some new weights have no gradient yet when the mask is computed",
        **dict.fromkeys(("L2SP", "PriorDecay"), PULLED),
    }

    method: Literal[
        "dora", "loha", "lokr", "oft", "hra", "miss", "fourierft", "road", "ia3", "ln_tuning"
    ]
    size: int | None = Field(default=None, gt=0)
    targets: Literal["query_value", "linear"] = "query_value"

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """Which methods have a size and targets, and which sizes must be even."""
        method, size = fields.get("method"), fields.get("size")
        if method in ("ia3", "ln_tuning"):
            usual = {"size": None, "targets": "query_value"}
            given = [name for name in usual if fields.get(name, usual[name]) != usual[name]]
            return [Mistake(name, f"{method} has none; leave it out.") for name in given]
        if method in ("hra", "road") and isinstance(size, int) and size % 2:
            return [Mistake("size", f"{size} is odd, but {method} works on pairs.")]
        return []

    def objection(self, depths: Depths, kind: str) -> str | None:
        """Sizes must fit the model's width."""
        if self.method not in METHODS or not depths.width:
            return None
        width, size = depths.width, self.size or METHODS[self.method].size
        match self.method:
            case "oft" | "road" if width % size:
                return f"size {size} does not divide its width of {width}"
            case "miss" if size > width:
                return f"size {size} is larger than its width of {width}"
            case "fourierft" if size > width**2:
                return f"its matrices of {width} x {width} have fewer than {size:,} coefficients"
        return None

    def prepare(self, state: TrainState) -> None:
        """Freeze the pretrained weights and insert the method's parameters."""
        if self.method == "ln_tuning":
            named = {n: state.depths.of(n) for n, _ in state.model.named_parameters()}
            below = [n for n, depth in named.items() if depth < state.depths.head]
            state.freeze(n for n in below if named[n] == 0 or not in_norm(state.model, n))
            return
        inject(state, METHODS[self.method].config, self._arguments(state))
        for name, parameter in state.model.named_parameters():
            if any(part in name for part in METHODS[self.method].drawn):
                drawn = drawn_uniformly(parameter, state.rng("head", "PEFT", name))
                if self.method == "hra":  # two equal reflections in a row change nothing
                    drawn = drawn[:, ::2].repeat_interleave(2, dim=1)
                parameter.data.copy_(drawn)

    def groups(self, groups: list[Group], state: TrainState) -> list[Group]:
        """Put factors into groups of their own, without weight decay."""
        split = []
        for group in groups:
            factors = tuple(n for n in group.names if any(part in n for part in FACTORS))
            others = tuple(n for n in group.names if n not in factors)
            split += [replace(group, names=others)] if others else []
            split += [replace(group, names=factors, weight_decay=0.0)] if factors else []
        return split

    def merge(self, model: nn.Module) -> None:
        """Merge each update into its weight and put the plain module back."""
        merge_injected(model)

    def _arguments(self, state: TrainState) -> dict[str, Any]:
        """Those of the method's configuration."""
        model, depths = state.model, state.depths
        method = METHODS[self.method]
        size = self.size or method.size
        targets = target_maps(state, self.targets)
        arguments = method.arguments(size)
        if self.method == "oft":  # peft would take another size
            for name in targets:  # maps inside a feed-forward block have a width of their own
                width = model.get_submodule(name).in_features
                if width % size:  # type: ignore[operator]
                    raise ValueError(f"size: {size} does not divide {width}, the width of {name}.")
        if self.method == "fourierft":
            arguments["random_loc_seed"] = derive(state.seed, "head", "PEFT")
        if self.method == "ia3":
            hidden = in_layers(model, depths, depths.family.block_ends[-1:])  # inputs are scaled
            arguments["feedforward_modules"] = hidden
            targets += hidden
        return {**arguments, "target_modules": targets}
