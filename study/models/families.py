"""Architectures: the depth of every parameter, and where techniques insert modules."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

# --- depth ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """Where an architecture keeps its parts; paths are below the body.

    Attributes:
        body: Attribute of the task model that holds the pretrained body.
        embeddings: Depth 0.
        layers: The list of layers: depths 1 to n.
        final_norm: Normalisation after the last layer, depth n.
        head: Parts of the task head that lie inside the body.
        elsewhere: Exceptions: path and depth.
        shared_layers: Whether one set of weights serves all layers, which then have one depth.
        query_value: In a layer, the maps to queries and values; a fused map counts as both.
        block_ends: In a layer, the last map of the attention and of the feed-forward block, whose
            outputs are added to the residual stream.
        biases: Whether maps and norms have biases.
        kept: Parts outside the body that pretraining leaves; all others there are new in every
            run, whatever a checkpoint holds.
        causal: Whether a token sees only those before it, so that the last one stands for the text.
    """

    body: str
    embeddings: tuple[str, ...] = ("embeddings",)
    layers: str = "encoder.layer"
    final_norm: str = ""
    head: tuple[str, ...] = ()
    elsewhere: tuple[tuple[str, int], ...] = ()
    shared_layers: bool = False
    query_value: tuple[str, ...] = ("attention.self.query", "attention.self.value")
    block_ends: tuple[str, ...] = ("attention.output.dense", "output.dense")
    biases: bool = True
    kept: tuple[str, ...] = ()
    causal: bool = False


FAMILIES: dict[str, Family] = {
    "bert": Family("bert", head=("pooler",)),
    "roberta": Family("roberta"),
    "electra": Family("electra", embeddings=("embeddings", "embeddings_project")),
    "deberta-v2": Family(
        "deberta",
        embeddings=("embeddings", "encoder.rel_embeddings", "encoder.LayerNorm"),
        elsewhere=(("encoder.conv", 1),),  # acts on the output of the first layer
        query_value=("attention.self.query_proj", "attention.self.value_proj"),
    ),
    "distilbert": Family(
        "distilbert",
        layers="transformer.layer",
        query_value=("attention.q_lin", "attention.v_lin"),
        block_ends=("attention.out_lin", "ffn.lin2"),
    ),
    "albert": Family(
        "albert",
        embeddings=("embeddings", "encoder.embedding_hidden_mapping_in"),
        layers="encoder.albert_layer_groups",
        head=("pooler",),
        shared_layers=True,
        query_value=("albert_layers.*.attention.query", "albert_layers.*.attention.value"),
        block_ends=("albert_layers.*.attention.dense", "albert_layers.*.ffn_output"),
    ),
    "modernbert": Family(
        "model",
        layers="layers",
        final_norm="final_norm",
        query_value=("attn.Wqkv",),
        block_ends=("attn.Wo", "mlp.Wo"),
        biases=False,
        kept=("head",),
    ),
    "vit": Family(
        "vit",
        layers="layers",
        final_norm="layernorm",
        query_value=("attention.q_proj", "attention.v_proj"),
        block_ends=("attention.o_proj", "mlp.fc2"),
    ),
    "llama": Family(
        "model",
        embeddings=("embed_tokens",),
        layers="layers",
        final_norm="norm",
        query_value=("self_attn.q_proj", "self_attn.v_proj"),
        block_ends=("self_attn.o_proj", "mlp.down_proj"),
        biases=False,
        causal=True,
    ),
}


@dataclass(frozen=True)
class Depths:
    """Maps parameter names to depth: embeddings 0, layers 1 to n, task head n + 1.

    Attributes:
        family: Where the architecture keeps its parts.
        layers: n, the number of layers.
    """

    family: Family
    layers: int

    @property
    def head(self) -> int:
        """Depth of the task head."""
        return self.layers + 1

    def of(self, name: str) -> int:
        """The depth of a parameter, by its name in the task model.

        Raises:
            LookupError: If the parameter lies in the body but in no known part of it.
        """
        body, _, inside = name.partition(".")
        if body != self.family.body:
            return self.head  # outside the body: the head, and what techniques inserted there
        for path, depth in self.family.elsewhere:
            if lies_under(inside, [path]):
                return depth
        if lies_under(inside, self.family.head):
            return self.head
        if lies_under(inside, self.family.embeddings):
            return 0
        if lies_under(inside, [self.family.layers]):
            index = inside.removeprefix(self.family.layers + ".").partition(".")[0]
            return 1 if self.family.shared_layers else int(index) + 1
        if self.family.final_norm and lies_under(inside, [self.family.final_norm]):
            return self.layers
        raise LookupError(
            f"parameter {name!r} has no depth; add its part to its family in "
            "study/models/families.py"
        )


def lies_under(name: str, paths: Iterable[str]) -> bool:
    """Whether a module or parameter lies in one of these modules, by its dotted name."""
    return any(name == path or name.startswith(path + ".") for path in paths)


def depths_of(model: nn.Module) -> Depths:
    """The depth map of a task model, from its family and its layers.

    Raises:
        LookupError: If the family is not known, naming what to supply.
    """
    kind = str(model.config.model_type)  # type: ignore[union-attr]
    if kind not in FAMILIES:
        raise no_family(kind)
    # Span models of Llama have the body under another name.
    family = replace(FAMILIES[kind], body=str(model.base_model_prefix))
    return Depths(family, 1 if family.shared_layers else len(layers_of(model, family)))


def layers_of(model: nn.Module, family: Family) -> list[nn.Module]:
    """The layers from the bottom; where they share their weights, the one that serves all."""
    return list(model.get_submodule(f"{family.body}.{family.layers}").children())


def in_layers(model: nn.Module, depths: Depths, paths: Iterable[str]) -> list[str]:
    """The modules at these paths in every layer.

    Args:
        model: A task model.
        depths: Its depth map.
        paths: Below a layer; `*` stands for any text.

    Returns:
        Their names in the task model.

    Raises:
        LookupError: If a layer has nothing at one of the paths, naming what to supply.
    """
    root = f"{depths.family.body}.{depths.family.layers}."
    below = {name: name.removeprefix(root).partition(".") for name, _ in model.named_modules()}
    found: list[str] = []
    for path in paths:
        there = {
            name: layer
            for name, (layer, _, inside) in below.items()
            if name.startswith(root) and fnmatchcase(inside, path)
        }
        if len(set(there.values())) < depths.layers:
            raise LookupError(
                f"not every layer has a module {path!r}; say in its family in "
                "study/models/families.py where a layer keeps it"
            )
        found += there
    return found


def in_norm(model: nn.Module, name: str) -> bool:
    """Whether a parameter belongs to a norm; families name them too differently to go by name."""
    return "norm" in type(model.get_submodule(name.rpartition(".")[0])).__name__.lower()


def longest_input(config: Any) -> int | None:
    """Tokens that a model has positions for; None where it says no limit."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type == "roberta":  # counts positions from after its padding id
        positions -= config.pad_token_id + 1
    return positions


def no_family(kind: str) -> LookupError:
    """The error for an architecture that `FAMILIES` does not have."""
    return LookupError(
        f"architecture {kind!r} has no depth map; add a Family to FAMILIES in "
        "study/models/families.py naming its body, embeddings and layers. "
        f"Known: {', '.join(sorted(FAMILIES))}."
    )
