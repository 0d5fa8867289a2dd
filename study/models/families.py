"""Architectures: the depth of every parameter, and where techniques insert modules."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

# --- depth ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """Module paths of an architecture, relative to the body.

    Attributes:
        body: Attribute of the task model that holds the pretrained body.
        embeddings: Depth 0.
        layers: The list of layers: depths 1 to n.
        final_norm: Normalisation after the last layer, depth n.
        head: Parts of the task head that lie inside the body.
        elsewhere: Exceptions to the above: path and depth.
        shared_layers: Whether all layers share one set of weights, and so one depth.
        query_value: In a layer, the query and value projections; a fused one counts as both.
        block_ends: In a layer, the output projections of the attention and feed-forward blocks,
            which are added to the residual stream.
        biases: Whether linear layers have biases.
        kept: Pretrained parts outside the body. Everything else outside it is initialised in every
            run, even where the checkpoint has weights for it.
        causal: Whether attention is causal, so that the last token represents the text.
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
    "mpnet": Family(
        "mpnet",
        embeddings=("embeddings", "encoder.relative_attention_bias"),
        query_value=("attention.attn.q", "attention.attn.v"),
        block_ends=("attention.attn.o", "output.dense"),
    ),
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
FAMILIES["qwen2"] = replace(FAMILIES["llama"], biases=True)  # of query, key and value


@dataclass(frozen=True)
class Depths:
    """Maps parameter names to depth: embeddings 0, layers 1 to n, task head n + 1.

    Attributes:
        family: Module paths of the architecture.
        layers: n, the number of layers.
        width: Features of a token between layers; 0 if unknown.
        kept_head: The pretrained output layer of a decoder that generates, part of the top layer,
            as a final norm is. One that is tied to the embeddings is these, at depth 0, and there
            is no head at all.
    """

    family: Family
    layers: int
    width: int = 0
    kept_head: tuple[str, ...] = ()

    @property
    def head(self) -> int:
        """Depth of the task head."""
        return self.layers + 1

    def of(self, name: str) -> int:
        """The depth of a parameter, by its name in the task model.

        Raises:
            LookupError: If the parameter is in the body but in no known part of it.
        """
        body, _, inside = name.partition(".")
        if lies_under(name, self.kept_head):
            return self.layers
        if body != self.family.body:
            return self.head  # outside the body: the head, and modules that techniques add there
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
            f"parameter {name!r} has no depth; add its module to the architecture's Family in "
            "study/models/families.py"
        )


def lies_under(name: str, paths: Iterable[str]) -> bool:
    """Whether a dotted module or parameter name equals one of the paths or is below it."""
    return any(name == path or name.startswith(path + ".") for path in paths)


def depths_of(model: nn.Module) -> Depths:
    """The depth map of a task model, from its architecture and number of layers.

    Raises:
        LookupError: If the architecture is not in `FAMILIES`.
    """
    architecture = str(model.config.model_type)  # type: ignore[union-attr]
    if architecture not in FAMILIES:
        raise unknown_architecture(architecture)
    # The body's name depends on the task head: Llama has another one for question answering.
    family = replace(FAMILIES[architecture], body=str(model.base_model_prefix))
    layers = 1 if family.shared_layers else len(layers_of(model, family))
    return Depths(family, layers, getattr(model.config, "hidden_size", 0), _kept_head(model))


def _kept_head(model: nn.Module) -> tuple[str, ...]:
    """The name of an output layer that predicts tokens with weights of its own."""
    output = model.get_output_embeddings()  # type: ignore[operator]
    if output is None or output.weight is model.get_input_embeddings().weight:  # type: ignore[operator]
        return ()
    return tuple(name for name, module in model.named_modules() if module is output)


def layers_of(model: nn.Module, family: Family) -> list[nn.Module]:
    """The layers from the bottom; with shared weights, the single layer."""
    return list(model.get_submodule(f"{family.body}.{family.layers}").children())


def in_layers(model: nn.Module, depths: Depths, paths: Iterable[str]) -> list[str]:
    """Names of the modules at these paths in every layer.

    Args:
        model: A task model.
        depths: Its depth map.
        paths: Relative to a layer; `*` matches any text.

    Returns:
        Full names in the task model.

    Raises:
        LookupError: If a layer has no module at one of the paths.
    """
    root = f"{depths.family.body}.{depths.family.layers}."
    below = {name: name.removeprefix(root).partition(".") for name, _ in model.named_modules()}
    names: list[str] = []
    for path in paths:
        matches = {
            name: layer
            for name, (layer, _, inside) in below.items()
            if name.startswith(root) and fnmatchcase(inside, path)
        }
        if len(set(matches.values())) < depths.layers:
            raise LookupError(
                f"not every layer has a module {path!r}; correct the architecture's Family in "
                "study/models/families.py"
            )
        names += matches
    return names


def in_norm(model: nn.Module, name: str) -> bool:
    """Whether a parameter belongs to a norm layer, by its module's class.

    Parameter names do not tell: they differ too much between architectures.
    """
    return "norm" in type(model.get_submodule(name.rpartition(".")[0])).__name__.lower()


def longest_input(config: Any) -> int | None:
    """The maximum number of tokens by position embeddings; None without a stated limit."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type == "roberta":  # its positions start after the padding id
        positions -= config.pad_token_id + 1
    if positions and config.model_type == "mpnet":  # the same, and its code fixes that id at 1
        positions -= 2
    return positions


def unknown_architecture(architecture: str) -> LookupError:
    """The error for an architecture that is not in `FAMILIES`."""
    return LookupError(
        f"architecture {architecture!r} has no depth map; add a Family to FAMILIES in "
        "study/models/families.py with its body, embeddings and layers. "
        f"Known: {', '.join(sorted(FAMILIES))}."
    )
