"""Kinds of task: for each, the head, how rows are encoded, and what a model's outputs mean."""

from study.tasks.kinds.base import Kind, Outputs, Split
from study.tasks.kinds.classes import Classification, Multilabel, Regression
from study.tasks.kinds.image import Image
from study.tasks.kinds.span import Span
from study.tasks.kinds.tagging import Tagging

KINDS: dict[str, type[Kind]] = {
    kind.name: kind for kind in (Classification, Regression, Multilabel, Tagging, Span, Image)
}

__all__ = [
    "KINDS",
    "Classification",
    "Image",
    "Kind",
    "Multilabel",
    "Outputs",
    "Regression",
    "Span",
    "Split",
    "Tagging",
]
