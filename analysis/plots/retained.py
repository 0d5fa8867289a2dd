"""Figure of forgetting: a run's score against what it retained of other skills."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, RED, WIDTH, style, wrapped
from analysis.rendering.formatting import metric_text

COLOURS = (BLUE, ORANGE, GREEN, RED, BLACK, GREY)
MARKERS = "osD^vP*X"


def plot_retained(runs: pd.DataFrame, labels: list[str], *, scale: float) -> Figure:
    """Test score against the share retained of the skill that lost most, a point per run.

    Args:
        runs: Runs of one task and model with their `retained`; those without one are left out.
        labels: Configurations, in the order of the legend.
        scale: Factor of scores, 100 for proportions.

    Returns:
        A figure. Small markers are runs, large ones the means of configurations. The dashed line
        marks what the untouched checkpoint had.
    """
    with style():
        figure = Figure(figsize=(WIDTH, max(3.4, 0.8 + 0.22 * len(labels))), layout="constrained")
        panels: Any = figure.subplots(1, 2, width_ratios=(1.6, 1))
        axes, key = panels
        axes.axvline(100, color=GREY, linestyle="--", linewidth=0.8)
        for number, label in enumerate(labels):
            own = runs[(runs["configuration"] == label) & runs["retained"].notna()]
            mark = {
                "marker": MARKERS[number % len(MARKERS)],
                "color": COLOURS[number % len(COLOURS)],
                "linestyle": "",
            }
            x, y = own["retained"] * 100, own["test"] * scale
            axes.plot(x, y, markersize=3.5, alpha=0.55, **mark)
            axes.plot([x.mean()], [y.mean()], markersize=8, markeredgecolor="white", **mark)
            place = 1 - (number + 0.5) / len(labels)
            key.plot([0.04], [place], markersize=6, clip_on=False, **mark)
            key.text(0.12, place, wrapped(label, 32).replace("\n", " "), va="center")
        key.set(xlim=(0, 1), ylim=(0, 1))
        key.axis("off")
        first = runs.iloc[0]
        metric = metric_text(first["metric"], bool(first["higher_is_better"]), scale=scale)
        axes.set_xlabel("retained of the skill that lost most, %")
        axes.set_ylabel(f"test {metric}")
        axes.margins(0.08)
    return figure
