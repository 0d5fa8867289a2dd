"""Kinds of task: for each, the head, the encoding of rows, and the decoding of model outputs."""

from study.tasks.kinds.base import Kind, Outputs, Split
from study.tasks.kinds.classes import Classification, Multilabel, Regression
from study.tasks.kinds.generation import Generation
from study.tasks.kinds.image import Image
from study.tasks.kinds.span import Span
from study.tasks.kinds.tagging import Tagging

KINDS: dict[str, type[Kind]] = {
    kind.name: kind
    for kind in (
        Classification,
        Regression,
        Multilabel,
        Tagging,
        Span,
        Image,
        Generation,
    )
}

__all__ = [
    "KINDS",
    "Classification",
    "Generation",
    "Image",
    "Kind",
    "Multilabel",
    "Outputs",
    "Regression",
    "Span",
    "Split",
    "Tagging",
]
