"""Figure of variance components by seed stream."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.frames.columns import STREAMS
from analysis.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, lines, style

_PURPLE, _SKY, _YELLOW = "#CC79A7", "#56B4E9", "#F0E442"  # the rest of the palette
_COLOURS = {
    "head": BLUE,
    "order": ORANGE,
    "noise": GREEN,
    "head × order": _SKY,
    "head × noise": _PURPLE,
    "order × noise": _YELLOW,
    "head × order × noise": GREY,
}
_HATCH = {1: "", 2: "///", 3: "..."}  # by order of interaction; distinguishable in greyscale


def plot_sources(found: pd.DataFrame) -> Figure:
    """Shares of the variance of test scores by seed stream, one bar per cell.

    Args:
        found: Rows of `sources` for one task and model.

    Returns:
        A figure. Main effects are plain, interactions hatched; the line below each main effect is
        the 95% interval of its share. Cells without crossed seeds have no bar.
    """
    scored = found[(found["of"] == "score") & found["share"].notna()]
    labels = list(found["configuration"].unique())
    with style():
        figure, axes = lines(labels)
        begin = np.zeros(len(labels))
        places = {label: place for place, label in enumerate(labels)}
        drawn: set[str] = set()
        for source, colour in _COLOURS.items():
            for row in scored[scored["source"] == source].to_dict("records"):
                place = places[row["configuration"]]
                width = 100 * row["share"]
                axes.barh(
                    place,
                    width,
                    left=begin[place],
                    height=0.6,
                    color=colour,
                    hatch=_HATCH[source.count("×") + 1],
                    edgecolor="white",
                    linewidth=0.8,
                    label="" if source in drawn else source,
                )
                drawn.add(source)
                if source in STREAMS:
                    height = place + 0.38 + 0.07 * STREAMS.index(source)
                    ends = [100 * row["share_low"], 100 * row["share_high"]]
                    axes.plot(ends, [height] * 2, color=colour, linewidth=1.8)
                    axes.plot([width], [height], marker="|", color=BLACK, markersize=6)
                begin[place] += width
        axes.set_xlim(0, 100)
        axes.set_xlabel(
            "share of the variance of test scores, %; lines: 95% intervals of main effects"
        )
        if drawn:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=4, borderaxespad=0.2)
    return figure
