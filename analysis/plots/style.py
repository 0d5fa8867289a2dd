"""Shared style of all figures: colours, fonts, labels, SVG export."""

import io
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.rendering.formatting import metric_text

# Okabe & Ito 2008: safe for colour-blind readers; markers also differ in shape and lightness.
BLUE, ORANGE, RED, GREEN, BLACK = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#000000"
PALE, GREY = "#DCE6EE", "#767676"

WIDTH = 5.8  # inches of every figure, so that all texts on a page have one size

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # keep text as text: searchable, and scaled with the page
    "text.parse_math": False,  # a name may have dollar signs
    "font.size": 8.5,
    "axes.titlesize": "medium",
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-3, 7),  # beyond: a power of ten, once at the end of the axis
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
}


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element; equal data give equal bytes.

    Args:
        figure: The figure.
        name: Prefix of every SVG id, so that several figures can be on one page.
    """
    buffer = io.StringIO()
    with style(), mpl.rc_context({"svg.hashsalt": name}):
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=no_metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)


@contextmanager
def style() -> Iterator[None]:
    """Context in which figures have the shared style."""
    with mpl.rc_context(_STYLE):
        yield


def figure_height(labels: list[str]) -> float:
    """Height in inches of a figure with a row per label."""
    return 0.9 + 0.3 * max(len(labels), 2)


def lines(labels: list[str]) -> tuple[Figure, Axes]:
    """A figure with one labelled row per label, the first on top."""
    figure = Figure(figsize=(WIDTH, figure_height(labels) + 0.35), layout="constrained")
    axes = figure.add_subplot()
    label_rows(axes, labels)
    return figure, axes


def label_rows(axes: Axes, labels: list[str]) -> None:
    """Label the rows of a figure, the first on top."""
    axes.set_yticks(range(len(labels)), [wrapped(label, 30) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def wrapped(label: str, width: int) -> str:
    """A label wrapped to at most two lines."""
    return "\n".join(textwrap.wrap(label, width, max_lines=2, placeholder="…"))


def metric_label(cells: pd.DataFrame) -> str:
    """The metric of the cells with its direction and unit."""
    first = cells.iloc[0]
    return metric_text(first["metric"], bool(first["higher_is_better"]), scale=first["scale"])
