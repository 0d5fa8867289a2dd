"""Loading pretrained weights and their tokenizer; initialising what is new."""

import copy
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import nn

from study.core.seeding import Seed, torch_rng
from study.models.families import FAMILIES, depths_of, in_norm, lies_under, no_family
from study.models.model import Model, wrong_checkpoint
from study.tasks.kinds import Kind

TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


@cache
def meta_model(model: Model, kind: type[Kind]) -> Any:
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
        raise no_family(config.model_type)
    with torch.device("meta"):
        return getattr(transformers, kind.auto).from_config(config)


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
            if not lies_under(name, [depths.family.body, *depths.family.kept])
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
        raise wrong_checkpoint(
            model, f"{folder.name!r} has no {what}, none of {', '.join(wanted)}."
        )
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
        raise wrong_checkpoint(
            model, f"its tokenizer or processor cannot be read: {reason}"
        ) from error


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
