"""`Spec`, the base class of everything a study file declares: frozen, validated, hashable to a key.

A study file is plain Python, so an exception at the first bad value would hide the others. A `Spec`
with mistakes therefore does not raise: it becomes an `Invalid`, whose mistakes the enclosing spec
collects. Reading any attribute of an `Invalid` raises `SpecError` with all of them.
"""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Never, Self, cast

import annotated_types
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

# pydantic has no public name for the metaclass of its models (checked with 2.14.3). `type` finds it
# wherever it is defined; only the type checker needs the private path.
if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


SHOWN = 10  # mistakes of one source that are listed
ELSEWHERE = {  # fields under the names that they have in other libraries
    **dict.fromkeys(("learning_rate", "base_lr"), "lr"),
    **dict.fromkeys(("num_train_epochs", "num_epochs", "max_epochs", "n_epochs"), "epochs"),
    **dict.fromkeys(("max_steps", "num_steps", "train_steps"), "steps"),
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size"), "batch_size"),
    **dict.fromkeys(("lr_scheduler_type", "scheduler", "lr_scheduler"), "schedule"),
    **dict.fromkeys(("warmup_ratio", "warmup_steps"), "warmup"),
    **dict.fromkeys(("max_grad_norm", "gradient_clip_val", "grad_clip"), "clip_norm"),
    **dict.fromkeys(("max_seq_length", "max_seq_len", "max_len"), "max_length"),
    **dict.fromkeys(("adam_epsilon", "epsilon"), "eps"),
    **dict.fromkeys(("r", "lora_r"), "rank"),
}


class Mistake(NamedTuple):
    """One validation error.

    Attributes:
        path: Path of the field as the user would write it, such as `techniques[1].rate`.
        text: The rest of the sentence: the value, the rule, a suggestion.
    """

    path: str
    text: str

    def below(self, parent: str) -> "Mistake":
        """The same mistake with its path relative to the enclosing spec."""
        joined = parent + (self.path if self.path.startswith("[") else f".{self.path}")
        return Mistake(joined.rstrip("."), self.text)

    def __str__(self) -> str:
        separator = " " if self.text.startswith(("repeats ", "is ", "has ")) else ": "
        return f"{self.path}{separator}{self.text}" if self.path else self.text


def few(mistakes: list[Mistake], source: str) -> list[Mistake]:
    """The first mistakes of one source, and how many more there are."""
    more = len(mistakes) - SHOWN
    if more <= 0:
        return mistakes
    return [*mistakes[:SHOWN], Mistake(source, f"and {more:,} more mistakes like these.")]


class SpecError(ValueError):
    """Every mistake in a spec, one per line.

    Attributes:
        subject: The spec that is invalid, such as `study 'quickstart'`.
        mistakes: Every mistake, in the order of the fields.

    Example:
        >>> from study import Recipe
        >>> Recipe(lr=0, epoch=1).lr
        Traceback (most recent call last):
        study.core.spec.SpecError: 2 mistakes in recipe:
          lr: 0 is not in (0, inf).
          epoch: no such field. Did you mean 'epochs'?
    """

    def __init__(self, subject: str, mistakes: Iterable[Mistake]) -> None:
        self.subject = subject
        self.mistakes = list(mistakes)
        count = len(self.mistakes)
        head = f"{count} mistake{'s' if count > 1 else ''} in {subject}:"
        super().__init__("\n  ".join([head, *map(str, self.mistakes)]))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.subject, self.mistakes)


class Invalid:
    """Placeholder for a spec with mistakes; reading any attribute raises its `SpecError`."""

    error: SpecError

    def __init__(self, error: SpecError) -> None:
        self.__dict__["error"] = error

    def __getattr__(self, name: str) -> Never:
        if name.startswith("__"):  # `copy`, `pickle` and `inspect` probe for these
            raise AttributeError(name)
        raise self.error

    def __add__(self, other: object) -> "Invalid":
        more: list[Mistake] = other.error.mistakes if isinstance(other, Invalid) else []
        return Invalid(SpecError(self.error.subject, [*self.error.mistakes, *more]))

    __radd__ = __add__

    def __repr__(self) -> str:
        return f"<invalid: {self.error}>"


class _DeferredErrors(ModelMetaclass):
    """Returns an `Invalid` where the constructor would raise `ValidationError`."""

    def __call__(cls, *args: Any, **fields: Any) -> Any:
        mistakes = []
        try:
            spec = super().__call__(*args, **fields)
        except ValidationError as error:
            mistakes = _mistakes(cast("type[Spec]", cls), error)
        mistakes = _without_misspelt(mistakes + cast("type[Spec]", cls).rules(fields))
        if not mistakes:
            return spec
        name = fields.get("name")
        kind = cls.__name__.lower()
        return Invalid(SpecError(f"{kind} {name!r}" if isinstance(name, str) else kind, mistakes))


class Spec(BaseModel, metaclass=_DeferredErrors):
    """A frozen value with validated fields; an unknown field is a mistake."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        arbitrary_types_allowed=True,
    )

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """Mistakes that involve several fields; called even if single fields are invalid.

        Args:
            fields: Keyword arguments as the user gave them, before validation.
        """
        return []

    def replace(self, **fields: Any) -> Self:
        """A copy with some fields changed, validated like a new spec."""
        unchanged = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**unchanged, **fields})

    def canonical(self) -> dict[str, Any]:
        """JSON data without fields at their default, so that adding a field keeps old keys."""
        return self.model_dump(mode="json", exclude_defaults=True)


def digest(payload: object) -> str:
    """The first 12 hex digits of the SHA-256 of the payload's canonical JSON."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def nearest(word: str, known: Iterable[str]) -> str:
    """A sentence that suggests the closest known word; empty if no word is close."""
    lowered = {name.lower(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.lower(), lowered, n=1)
    return f"Did you mean {lowered[near[0]]!r}?" if near else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that suggests the closest known word, else lists the known words.

    Returns:
        An empty string if no word is close and the list is empty or longer than 30.
    """
    names = sorted(known)
    if near := nearest(word, names):
        return near
    return f"Known: {', '.join(names)}." if 0 < len(names) <= 30 else ""


def _mistakes(cls: type[BaseModel], error: ValidationError) -> list[Mistake]:
    found: dict[Mistake, None] = {}  # ordered, without repeats
    for detail in error.errors():
        path = _path(detail["loc"])
        if isinstance(detail["input"], Invalid):
            found |= dict.fromkeys(m.below(path) for m in detail["input"].error.mistakes)
        elif isinstance(inner := detail.get("ctx", {}).get("error"), SpecError):
            found |= dict.fromkeys(m.below(path) if path else m for m in inner.mistakes)
        else:
            found[Mistake(path, _explain(cls, detail))] = None
    return list(found)


def _without_misspelt(mistakes: list[Mistake]) -> list[Mistake]:
    """The mistakes without those of fields that are missing because their name is misspelt."""
    meant = [m.text for m in mistakes if m.text.startswith("no such field")]
    return [
        mistake
        for mistake in mistakes
        if not mistake.text.startswith("is missing")
        or not any(f"{mistake.path!r}?" in text for text in meant)
    ]


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif "[" not in part:  # pydantic's path also names validators and union branches
            text += f".{part}" if text else part
    return text


def _explain(cls: type[BaseModel], detail: ErrorDetails) -> str:
    value, kind, name = detail["input"], detail["type"], detail["loc"][0] if detail["loc"] else ""
    field = cls.model_fields.get(str(name))
    if kind == "extra_forbidden":
        if (known := ELSEWHERE.get(str(name))) in cls.model_fields:
            return f"no such field. Did you mean {known!r}?"
        return f"no such field. {did_you_mean(str(name), cls.model_fields)}".strip()
    if kind == "missing":
        return "is missing."
    if kind == "string_pattern_mismatch":
        return f"{value!r} has characters that a {name} cannot contain; use letters, digits, . _ -"
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "literal_error":
        rule = f"{value!r} is not one of {detail['ctx']['expected']}."
        options = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        return f"{rule} {did_you_mean(value, options)}" if isinstance(value, str) else rule
    if field and kind.startswith(("greater_than", "less_than")):
        return f"{value!r} is not in {_interval(field.metadata)}."
    message = detail["msg"][:1].lower() + detail["msg"][1:]
    return f"{value!r} is invalid: {message}."


def _interval(metadata: list[Any]) -> str:
    low, high = "(-inf", "inf)"
    for rule in metadata:
        match rule:
            case annotated_types.Gt(gt):
                low = f"({gt:g}"
            case annotated_types.Ge(ge):
                low = f"[{ge:g}"
            case annotated_types.Lt(lt):
                high = f"{lt:g})"
            case annotated_types.Le(le):
                high = f"{le:g}]"
    return f"{low}, {high}"
