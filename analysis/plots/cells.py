"""Figures of one task and model: scores by seed, mean and sd, learning curves."""

from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.frames.runs import baseline_of, configurations, scores
from analysis.plots.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PALE,
    RED,
    WIDTH,
    figure_height,
    label_rows,
    lines,
    metric_label,
    style,
    wrapped,
)
from analysis.rendering.formatting import has_width, possible
from analysis.statistics.summary import Scores

TRAINED = "trained/"  # how the names of curves by depth start
CURVES = {"dev": "dev/", "train": "train/loss"}  # how the names of curves start

_SEED: dict[str, Any] = {"marker": "o", "s": 16, "color": BLUE, "linewidth": 0}
_COLLAPSED: dict[str, Any] = {"marker": "x", "s": 34, "color": RED, "linewidth": 1.6}
_DIVERGED: dict[str, Any] = {"marker": "$†$", "s": 70, "color": RED, "linewidth": 0.4}


def plot_scores(block: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """Each seed's test score as a point over a box, one line per configuration.

    Args:
        block: Checked runs of one task and model.
        cells: Rows of `cells` for the same task and model, in the order to plot.

    Returns:
        A figure. Box: quartiles and median of all runs; below it the mean with its 95% interval,
        which may leave the axis; x: collapsed; dagger: diverged, at the score of a constant
        predictor.
    """
    scale = float(cells["scale"].iloc[0])
    parts = configurations(block)
    labels = list(cells["configuration"])
    with style():
        figure, axes = lines(labels)
        baseline = baseline_of(cells)
        drawn = {label: scores(parts[label], "test") for label in labels}
        for place, row in enumerate(cells.to_dict("records")):
            own = row["configuration"] == baseline
            _strip(axes, place, drawn[labels[place]], scale=scale, baseline=own)
            _whisker(axes, place + 0.4, row, field="test_mean", scale=scale, is_baseline=own)
        shown = [own.all_floor * scale for own in drawn.values()]
        floor = next(iter(drawn.values())).floor
        if np.isfinite(floor) and any(own.failed.any() for own in drawn.values()):
            label = "constant answer"
            axes.axvline(floor * scale, color=GREY, linestyle=":", linewidth=1, label=label)
            shown.append(np.array([floor * scale]))
        _around_scores(axes, shown)
        axes.set_xlabel(f"test {metric_label(cells)}")
        _legend(axes, drawn)
    return figure


def _around_scores(axes: Axes, scores_of_cells: list[Any]) -> None:
    """Limit the axis to half as much again as the scores span on each side.

    Intervals of few seeds are many times as wide, and would leave a point of all scores.
    """
    values = np.concatenate(scores_of_cells)
    values = values[np.isfinite(values)]
    if not values.size or np.ptp(values) == 0:
        return
    left, right = axes.get_xlim()
    room = np.ptp(values) / 2
    axes.set_xlim(max(left, values.min() - room), min(right, values.max() + room))


def plot_mean_and_sd(cells: pd.DataFrame) -> Figure:
    """Mean and standard deviation of each configuration on test, with 95% intervals.

    Args:
        cells: Rows of `cells` for one task and model, in the order to plot.

    Returns:
        A figure with two panels that share their rows. A hollow marker has no interval.
    """
    labels = list(cells["configuration"])
    scale = float(cells["scale"].iloc[0])
    with style():
        figure = Figure(figsize=(WIDTH, figure_height(labels)), layout="constrained")
        panels: Any = figure.subplots(1, 2, sharey=True)
        baseline = baseline_of(cells)
        for axes, field in zip(panels, ("mean", "sd"), strict=True):
            for place, row in enumerate(cells.to_dict("records")):
                own = row["configuration"] == baseline
                _whisker(axes, place, row, field=f"test_{field}", scale=scale, is_baseline=own)
        label_rows(panels[0], labels)
        panels[0].set_xlabel(f"mean test {cells['metric'].iloc[0]}")
        panels[1].set_xlabel("sd over seeds")
        panels[1].set_xlim(left=0)
        for axes in panels:
            axes.locator_params(axis="x", nbins=3)  # more labels would overlap
    return figure


def plot_curves(
    curves: pd.DataFrame, cells: pd.DataFrame, *, of: Literal["dev", "train"] = "dev"
) -> Figure:
    """Dev score or training loss by epoch, a panel per configuration: mean and range over seeds.

    Args:
        curves: Rows of `load_curves` for one task and model.
        cells: Rows of `cells` for the same task and model, in the order to plot.
        of: What to draw: the dev score or the training loss.

    Returns:
        A figure. The mean of the baseline is dashed in every panel. A dagger marks the last epoch
        of a run that stopped early; mean and band exclude the run from then on.

    Raises:
        ValueError: If there is no such curve.
    """
    shown = curves[curves["name"].str.startswith(CURVES[of])]
    if shown.empty:
        raise ValueError(f"no curve has a name that starts with {CURVES[of]!r}.")
    scale = float(cells["scale"].iloc[0]) if of == "dev" else 1.0
    by_epoch = (
        shown.groupby(["configuration", "epoch"])["value"].agg(["mean", "min", "max"]) * scale
    )
    last = shown.loc[shown.groupby("key")["epoch"].idxmax()]
    stopped = last[last["epoch"] < last["epoch"].max()]
    labels = [c for c in cells["configuration"] if c in by_epoch.index.get_level_values(0)]
    baseline = baseline_of(cells)
    columns = min(len(labels), 3)
    rows = -(-len(labels) // columns)
    with style():
        figure = Figure(
            figsize=(max(WIDTH / 3 * columns, 3.4), 1.5 * rows + 0.4), layout="constrained"
        )
        grid: Any = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, label in zip(grid.flat, labels, strict=False):
            own = by_epoch.loc[label]
            axes.fill_between(own.index, own["min"], own["max"], color=BLUE, alpha=0.2, linewidth=0)
            marker = "o" if len(own) == 1 else ""
            axes.plot(own.index, own["mean"], color=BLUE, linewidth=1.6, marker=marker)
            if baseline in labels:
                base = by_epoch.loc[baseline]
                axes.plot(base.index, base["mean"], color=BLACK, linewidth=1, linestyle="--")
            ended = stopped[stopped["configuration"] == label]
            _marks(axes, ended["epoch"], ended["value"] * scale, _DIVERGED)
            axes.set_title(wrapped(label, 22))
            axes.xaxis.get_major_locator().set_params(integer=True)
        for axes in list(grid.flat)[len(labels) :]:
            axes.set_visible(False)
        label = f"dev {cells['metric'].iloc[0]}" if of == "dev" else "training loss"
        figure.supxlabel("epoch", fontsize="medium")
        figure.supylabel(label, fontsize="medium")
    return figure


def plot_trained(curves: pd.DataFrame, labels: list[str]) -> Figure:
    """Which depths a technique trained in which epoch, a panel per configuration.

    Args:
        curves: Rows of `load_curves` for one task and model.
        labels: Configurations to draw, in their order, each of which has curves `trained/...`.

    Returns:
        A figure. Colour: the share of the weights at a depth that a step trained, mean over the
        steps of an epoch and over seeds, from 0 to 1.
    """
    shown = curves[curves["name"].str.startswith(TRAINED)]
    columns = min(len(labels), 3)
    rows = -(-len(labels) // columns)
    with style():
        figure = Figure(figsize=(WIDTH / 3 * columns + 0.6, 1.7 * rows + 0.5), layout="constrained")
        grid: Any = figure.subplots(rows, columns, squeeze=False)
        for axes, label in zip(grid.flat, labels, strict=False):
            own = shown[shown["configuration"] == label]
            shares = own.groupby(["name", "epoch"])["value"].mean().unstack("epoch")
            last, epochs = len(shares) - 1, shares.columns.to_numpy("float64")
            image = axes.imshow(
                shares.to_numpy(),
                cmap="Blues",
                vmin=0,
                vmax=1,
                aspect="auto",
                origin="lower",
                extent=(epochs[0] - 0.5, epochs[-1] + 0.5, -0.5, last + 0.5),
            )
            axes.set_yticks([0, last], ["embeddings", "head"])
            axes.set_title(wrapped(label, 24))
            axes.xaxis.get_major_locator().set_params(integer=True)
        for axes in list(grid.flat)[len(labels) :]:
            axes.set_visible(False)
        figure.colorbar(image, ax=grid.ravel().tolist(), label="share trained", shrink=0.9)
        figure.supxlabel("epoch", fontsize="medium")
    return figure


def _strip(axes: Axes, place: int, own: Scores, *, scale: float, baseline: bool) -> None:
    coded = own.all_floor * scale
    if coded.size > 1:
        axes.boxplot(
            coded,
            positions=[place],
            orientation="horizontal",
            widths=0.55,
            whis=(0, 100),
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": "#F7E6C4" if baseline else PALE, "edgecolor": GREY},
            medianprops={"color": BLACK, "linewidth": 1.4},
            whiskerprops={"color": GREY},
            capprops={"color": GREY},
            manage_ticks=False,
        )
    # Offset vertically in seed order, so that equal scores do not overlap.
    runs = own.values.size
    height = place + np.linspace(-0.17, 0.17, runs) * (runs > 1)
    floored = np.where(np.isnan(own.values), own.floor, own.values) * scale
    for mark, chosen in (
        (_SEED, ~own.failed & ~np.isnan(own.values)),
        (_COLLAPSED, own.collapsed),
        (_DIVERGED, own.diverged),
    ):
        _marks(axes, floored[chosen], height[chosen], mark)


def _marks(axes: Axes, x: Any, y: Any, mark: dict[str, Any], *, label: str = "") -> None:
    """Draw marks; alone among all texts of a figure, the dagger is a formula."""
    with mpl.rc_context({"text.parse_math": True}):
        axes.scatter(x, y, zorder=3, label=label or None, **mark)


def _legend(axes: Axes, drawn: dict[str, Scores]) -> None:
    _marks(axes, [], [], _SEED, label="one seed")
    if any(own.collapsed.any() for own in drawn.values()):
        _marks(axes, [], [], _COLLAPSED, label="collapsed")
    if any(own.diverged.any() for own in drawn.values()):
        _marks(axes, [], [], _DIVERGED, label="diverged")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.0), ncols=4, borderaxespad=0.2)


def _whisker(
    axes: Axes,
    place: float,
    row: dict[Any, Any],
    *,
    field: str,
    scale: float,
    is_baseline: bool,
) -> None:
    value, low, high = (row[f"{field}{end}"] for end in ("", "_low", "_high"))
    if field.endswith("_mean"):
        low, high = possible(low, high, metric=row["metric"], scale=scale)
    value, low, high = value * scale, low * scale, high * scale
    colour = ORANGE if is_baseline else BLUE
    known = has_width(low, high)
    if known:
        axes.plot([low, high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
    marker = "D" if is_baseline else "o"
    axes.plot(
        [value],
        [place],
        marker=marker,
        markersize=5.5,
        markeredgecolor=colour,
        markerfacecolor=colour if known else "white",
    )
