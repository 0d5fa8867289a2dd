"""Figures on single test examples: disagreement between seeds."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from analysis.plots.style import BLACK, BLUE, PALE, RED, WIDTH, style

_BLUES = LinearSegmentedColormap.from_list("blues", ["#FFFFFF", BLUE, "#00253B"])
NAMED = 30  # maximum number of seeds with tick labels


def plot_disagreement(distances: pd.DataFrame) -> Figure:
    """Heat map of the share of test examples on which each pair of seeds differs.

    Args:
        distances: Square matrix of one cell from `disagreements`.

    Returns:
        A figure. Runs are sorted by their total distance from the others, outliers last.
    """
    values = 100 * distances.to_numpy("float64")
    order = np.argsort(np.nan_to_num(values).sum(axis=1), kind="stable")
    values, names = values[np.ix_(order, order)], [str(distances.index[i]) for i in order]
    np.fill_diagonal(values, np.nan)
    size = min(1.0 + 0.22 * len(names), WIDTH - 1)  # inches; a square for each pair
    with style():
        figure = Figure(figsize=(size + 1.0, size), layout="constrained")
        axes = figure.add_subplot()
        known = values[~np.isnan(values)]
        top = max(float(known.max()), 1e-9) if known.size else 1.0
        image = axes.imshow(values, cmap=_BLUES, vmin=0, vmax=top)
        axes.grid(visible=False)
        if len(names) <= NAMED:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
        axes.set_xlabel("seed")
        axes.set_ylabel("seed")
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        bar.set_label("examples on which\ntwo seeds differ, %")
        bar.outline.set_visible(False)
    return figure


def plot_flips(found: pd.DataFrame) -> Figure:
    """Share of runs that are correct on each test example.

    Args:
        found: Rows of `flips` for one cell of a task with correct and incorrect predictions.

    Returns:
        A figure. Examples are sorted from those that all runs get right to those that all get
        wrong; blue is the share of correct runs, red that of incorrect ones.
    """
    right = np.sort(found["right"].dropna().to_numpy("float64"))[::-1]
    examples = max(right.size, 1)
    with style():
        figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
        axes: Any = figure.add_subplot()
        edges = np.arange(right.size + 1) / examples * 100
        axes.stairs(right * 100, edges, fill=True, color=BLUE, alpha=0.85, label="correct")
        axes.stairs(
            np.full(right.size, 100.0),
            edges,
            baseline=right * 100,
            fill=True,
            color=RED,
            alpha=0.75,
            hatch="////",
            edgecolor=PALE,
            label="wrong",
        )
        ends = [float((right == 1).sum()), float((right > 0).sum())]
        for end in ends:
            axes.axvline(end / examples * 100, color=BLACK, linewidth=0.8, linestyle="--")
        parts = zip(
            (0.0, *ends),
            (*ends, float(right.size)),
            ("all correct", "mixed", "all wrong"),
            strict=True,
        )
        for start, end, words in parts:
            share = (end - start) / examples * 100
            if share > 8:  # wide enough for the label
                axes.annotate(
                    f"{words}: {share:.1f}%",
                    ((start + end) / 2 / examples * 100, 101),
                    ha="center",
                    va="bottom",
                    annotation_clip=False,
                )
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_xlabel(f"{right.size} test examples, sorted, %")
        axes.set_ylabel("runs, %")
        axes.legend(loc="lower left", frameon=True, framealpha=0.9, edgecolor="white")
    return figure
