"""Loading of pretrained weights and tokenizers, and initialisation of new parameters."""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from study.core.seeding import Seed, torch_rng
from study.models.families import FAMILIES, depths_of, in_norm, lies_under, unknown_architecture
from study.models.model import Model, checkpoint_error
from study.models.weights import stored_shapes
from study.tasks.kinds import Kind

TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


def configuration(model: Model) -> Any:
    """The checkpoint's configuration, as transformers reads it.

    Raises:
        LookupError: If the architecture has no depth map.
        SpecError: If the configuration cannot be read, or has an invalid value.
    """
    import transformers  # takes seconds
    from huggingface_hub.errors import StrictDataclassError

    try:
        config = transformers.AutoConfig.from_pretrained(model.folder())
    except (OSError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise checkpoint_error(model, f"config.json cannot be used: {reason}") from error
    if config.model_type not in FAMILIES:
        raise unknown_architecture(config.model_type)
    return config


@cache
def meta_model(model: Model, kind: type[Kind]) -> Any:
    """The task model on torch's meta device, without weights, from the checkpoint's configuration.

    Args:
        model: The checkpoint.
        kind: The kind of task, which determines the head.

    Raises:
        LookupError: If the architecture has no depth map.
        SpecError: If the checkpoint cannot be found or downloaded.
    """
    import transformers  # takes seconds

    config = configuration(model)
    padding, rows = getattr(config, "pad_token_id", None), getattr(config, "vocab_size", 0)
    if padding is None and config.model_type == "roberta":
        text = (
            "config.json has no padding id, from which this architecture counts positions; add "
            f'"pad_token_id": {processor(model, kind).pad_token_id}, its tokenizer\'s.'
        )
        raise checkpoint_error(model, text)
    if rows and padding is not None and not -rows <= padding < rows:
        text = (
            f"the padding id of config.json, {padding}, is outside of the {rows} embeddings; "
            'set "pad_token_id" to that of the tokenizer\'s padding token, if the embeddings '
            "have it, else to null."
        )
        raise checkpoint_error(model, text)
    if kind.pretrained_head and not FAMILIES[config.model_type].causal:
        text = f"{config.model_type!r} is no decoder, so it cannot generate text; use a decoder."
        raise checkpoint_error(model, text)
    with torch.device("meta"):
        return getattr(transformers, kind.auto).from_config(config)


# --- loading ----------------------------------------------------------------------------------


class Loaded:
    """A checkpoint with a task head, read once; each run gets a copy with a new head.

    Attributes:
        kind: The kind of task that the head is for.
        processor: The checkpoint's fast tokenizer, or its image processor.
        new: Names of the parameters initialised from the `head` stream: the task head, and parts of
            it inside the body that the checkpoint lacks, such as a pooler.
    """

    def __init__(self, model: Model, kind: Kind):
        """Read a checkpoint as float32.

        Args:
            model: The checkpoint.
            kind: The kind of task, which determines the head and the loss.

        Raises:
            LookupError: If the architecture has no depth map, or the checkpoint lacks weights
                below the head.
        """
        import transformers  # takes seconds

        folder = model.folder()
        with _silent():
            self._template, report = getattr(transformers, kind.auto).from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # a head of another size; the body is checked below
                **({} if kind.pretrained_head else {"num_labels": kind.outputs}),
                **({"problem_type": kind.problem} if kind.problem else {}),
            )
        self.kind = kind
        self.processor = processor(model, type(kind))
        if depths_of(self._template).family.causal:
            # A decoder's sequence head reads the last token that is not padding, and must know the
            # id that batches are padded with.
            self._template.config.pad_token_id = self.processor.pad_token_id
        self.new = _new_parameters(model, self._template, report)

    @property
    def pretrained(self) -> dict[str, Tensor]:
        """The parameters that are the checkpoint's, by name."""
        named = self._template.named_parameters()
        return {name: p.detach() for name, p in named if name not in self.new}

    def fresh(self, seed: Seed, dropout: float | None) -> nn.Module:
        """A copy to train, with its new parameters initialised from the `head` stream.

        Args:
            seed: The run's seeds.
            dropout: Probability of every dropout in the model; None keeps the checkpoint's.
        """
        model: nn.Module = copy.deepcopy(self._template)
        initialise(model, self.new, seed, "new")
        if dropout is not None:
            set_dropout(model, dropout)
        return model


def check_weights(model: Model, kind: type[Kind]) -> None:
    """Find out, from the headers of its files, whether a checkpoint has all weights of its body.

    Raises:
        LookupError: If it lacks some.
    """
    meta = meta_model(model, kind)
    with _silent():
        template, report = type(meta).from_pretrained(
            None,
            config=copy.deepcopy(meta.config),
            state_dict=stored_shapes(model.folder()),
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    _new_parameters(model, template, report)


@contextmanager
def _silent() -> Iterator[None]:
    """Without transformers' progress bar and its report of new parameters."""
    from transformers.utils import logging  # takes seconds

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _new_parameters(model: Model, template: Any, report: Mapping[str, Any]) -> list[str]:
    """The parameters that every run initialises, sorted.

    Raises:
        LookupError: If one of them is below the task head.
    """
    depths = depths_of(template)
    # A fine-tuned head in the checkpoint is not used: the `head` seed would have no effect.
    outside = {
        name
        for name, _ in template.named_parameters()
        if not lies_under(name, [depths.family.body, *depths.family.kept, *depths.kept_head])
    }
    mismatched = {name for name, *_ in report["mismatched_keys"]}
    new = sorted({*report["missing_keys"], *mismatched, *outside})
    missing = [name for name in new if depths.of(name) < depths.head]
    if not missing:
        return new
    shown = ", ".join(missing[:3])
    text = f"checkpoint {model.name!r} has no weights for {shown}, below the task head"
    first = {name.partition(".")[0] for name in report["unexpected_keys"]}
    others = {family.body for family in FAMILIES.values()} - {"model"}  # a wrapper's name too
    if mismatched & set(missing):
        text += "; those that it has are of another size than its config.json says"
    elif len(first) == 1 and not first & others:
        text += (
            f"; the names of its weights begin with {first.pop() + '.'!r}: save the model inside "
            "that wrapper again, without the prefix"
        )
    else:
        text += (
            "; it was probably saved from another architecture, or config.json belongs to another "
            "checkpoint"
        )
    raise LookupError(text)


@cache
def padding_corrected(model: Model, kind: type[Kind]) -> bool:
    """Whether earlier versions read the outputs of such a model at padding tokens.

    They located a row's last token by the padding id in the checkpoint's configuration, where that
    had one, and batches are padded with the tokenizer's. Where the two differ, the output of a row
    depended on the longest row of its batch.

    Args:
        model: The checkpoint.
        kind: The kind of task; only a sequence head reads a single token.
    """
    stated = json.loads((model.folder() / "config.json").read_text("utf-8"))
    family = FAMILIES.get(stated.get("model_type", ""))
    if family is None or not family.causal or kind.auto != Kind.auto:
        return False
    padding = configuration(model).pad_token_id
    return padding is not None and padding != processor(model, kind).pad_token_id


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
        what = "image processor" if image else "tokenizer"  # transformers would invent one
        raise checkpoint_error(
            model, f"{folder.name!r} has no {what}, none of {', '.join(wanted)}."
        )
    # Byte-level tokenizers accept lists of words only with this option, which encodes each word
    # as it is encoded within a text.
    words = {"add_prefix_space": True} if kind.words else {}
    try:
        if image:
            return transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        return _with_padding_and_separator(
            transformers.AutoTokenizer.from_pretrained(folder, use_fast=True, **words)
        )
    except Exception as error:  # of a damaged file: KeyError, or the tokenizers' plain Exception
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        what = "image processor" if image else "tokenizer"
        text = f"its {what} cannot be read ({reason}); download the checkpoint again."
        raise checkpoint_error(model, text) from error


def _with_padding_and_separator(tokenizer: Any) -> Any:
    """Let a decoder's end-of-text token pad batches and separate pairs, where no other token does.

    Decoders' tokenizers often have no padding token, and put nothing between the texts of a pair.
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
    """Initialise parameters: matrices and embeddings normal, norm weights 1, biases 0.

    Each parameter has its own generator, so its values do not depend on which others are
    initialised. Values are written directly, because transformers' `_init_weights` skips parameters
    that it considers loaded.

    Args:
        model: Changed in place.
        names: The parameters to initialise.
        seed: The run's seeds; only `head` is used.
        purpose: Part of the generator's key; different purposes give different values.

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
            values = torch.randn(parameter.shape, generator=rng, dtype=torch.float32)
            parameter.copy_(values * deviation)


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set the probability of every dropout in a model, fused attention's included."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        for name in ("attention_dropout", "dropout_prob"):  # fused attention takes plain numbers
            value = getattr(module, name, None)
            if isinstance(value, int | float) and not isinstance(value, bool):  # JSON may have 0
                setattr(module, name, probability)
