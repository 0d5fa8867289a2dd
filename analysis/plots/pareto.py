"""Figure of a Pareto front: mean against standard deviation."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.frames.runs import baseline_of
from analysis.plots.style import BLUE, ORANGE, WIDTH, metric_label, style, wrapped


def plot_plane(front: pd.DataFrame) -> Figure:
    """Mean and standard deviation over seeds on dev, best at the lower right.

    Args:
        front: Rows of `pareto` for one task and model.

    Returns:
        A figure. Filled markers are on the Pareto front of all objectives, including time and
        memory, so a filled marker can be dominated in this plane. The legend gives the share of
        resamples in which each is on the front. The diamond is the baseline. Cells with fewer than
        two runs have no marker.
    """
    scale = float(front["scale"].iloc[0])
    shown = front[front["dev_sd"].notna()]
    baseline = baseline_of(front)
    with style():
        height = max(3.4, 0.6 + 0.2 * len(shown))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        panels: Any = figure.subplots(1, 2, width_ratios=(1.1, 1))
        axes, key = panels
        for number, row in enumerate(shown.to_dict("records"), start=1):
            own = row["configuration"] == baseline
            mark = {"marker": "D" if own else "o", "color": ORANGE if own else BLUE}
            mark |= {"markerfacecolor": mark["color"] if row["on_front"] else "white"}
            x, y = row["dev_mean"] * scale, row["dev_sd"] * scale
            axes.plot([x], [y], markersize=6, linestyle="", zorder=3, **mark)
            axes.annotate(
                f"{number}",
                (x, y),
                (4, 4),
                textcoords="offset points",
                color="#333333",
            )
            place = 1 - (number - 0.5) / len(shown)
            key.plot([0.04], [place], markersize=5, linestyle="", clip_on=False, **mark)
            failed = f", {row['failed']} failed" if row["failed"] else ""
            label = wrapped(row["configuration"], 34).replace("\n", " ")
            text = f"{number}  {label} ({row['membership']:.0%}{failed})"
            key.text(0.1, place, text, va="center")
        key.set(xlim=(0, 1), ylim=(0, 1))
        key.axis("off")
        axes.set_xlabel(f"mean dev {metric_label(front)}")
        axes.set_ylabel("sd over seeds")
        axes.margins(0.12)
        axes.locator_params(axis="x", nbins=3)  # more labels would overlap
        axes.set_ylim(bottom=0)
        if not front["higher_is_better"].iloc[0]:
            axes.invert_xaxis()
    return figure
