"""Figure of a hyperparameter search: expected best score by budget."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.plots.style import BLACK, BLUE, GREEN, ORANGE, RED, WIDTH, metric_label, style


def plot_best_of_k(best: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """Expected dev score of the best of k configurations, one line per technique.

    Args:
        best: Rows of `best_of_k` for one task and model, without NaN.
        cells: Rows of `cells` for the same task and model.

    Returns:
        A figure. A line ends at half of the trials, since beyond it the estimate would depend on
        very few of them.
    """
    scale = float(cells["scale"].iloc[0])
    looks = [(c, s) for s in ("-", "--", ":") for c in (BLUE, ORANGE, RED, GREEN, BLACK)]
    with style():
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        axes = figure.add_subplot()
        for number, (technique, part) in enumerate(best.sort_values("k").groupby("technique")):
            colour, line = looks[number % len(looks)]
            axes.plot(
                part["k"], part["dev"] * scale, line, color=colour, marker=".", label=technique
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("configurations tried")
        axes.set_ylabel(f"best dev {metric_label(cells)}")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
