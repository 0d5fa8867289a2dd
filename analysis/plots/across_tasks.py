"""Figures over several tasks: critical-difference diagram and performance profile."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, RED, WIDTH, style, wrapped

LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (RED, ":"))  # distinguishable in greyscale
STEP = 0.3  # inches between two label lines


def plot_ranks(found: pd.DataFrame, difference: float) -> Figure:
    """Critical-difference diagram of average ranks.

    Args:
        found: Rows of `ranks` that are compared with each other.
        difference: The critical difference from `friedman`.

    Returns:
        A figure. Bars connect groups whose average ranks differ by less than the critical
        difference; the baseline is a diamond. Only the axis if nothing has a rank.

    Source: Demšar 2006.
    """
    kind = _compared(found)
    known = found[found["average_rank"].notna()]
    positions = known["average_rank"].to_numpy()
    k = max(len(found), 2)
    bars = _bars(known)
    half = -(-len(known) // 2)
    lowest = STEP * (half + 0.6) + 0.16 * (len(bars) + 1)
    with style():
        figure = Figure(figsize=(WIDTH, lowest + 0.95), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlim(1 - 0.82 * (k - 1), k + 0.82 * (k - 1))  # room for the names on both sides
        axes.set_ylim(-lowest, 0.75)
        axes.axis("off")
        axes.plot([1, k], [0, 0], color=BLACK, linewidth=1)
        for tick in range(1, k + 1, -(-k // 7)):  # more labels would overlap
            axes.plot([tick, tick], [0, 0.06], color=BLACK, linewidth=1)
            axes.text(tick, 0.1, f"{tick}", ha="center", va="bottom")
        if np.isfinite(difference) and difference <= k - 1:
            axes.plot([1, 1 + difference], [0.42] * 2, color=BLACK, linewidth=2.5)
            label = f"critical difference {difference:.2f}"
            axes.text(1, 0.48, label, ha="left", va="bottom")
        for level, (low, high) in enumerate(bars):
            y = -0.16 * (level + 1)
            pad = 0.008 * (k - 1)
            ends = [positions[low] - pad, positions[high] + pad]
            axes.plot(ends, [y, y], color=GREY, linewidth=4, solid_capstyle="butt")
        for place, row in enumerate(known.to_dict("records")):
            left = place < half
            line = place if left else len(known) - 1 - place
            y = -0.16 * (len(bars) + 1) - STEP * (line + 0.5)
            side = 1 - 0.03 * (k - 1) if left else k + 0.03 * (k - 1)
            colour = ORANGE if row["is_baseline"] else BLUE
            x = row["average_rank"]
            axes.plot([x, x, side], [0, y, y], color=colour, linewidth=1)
            axes.plot([x], [0], marker="D" if row["is_baseline"] else "o", color=colour, ms=4.5)
            name = f"{wrapped(row[kind], 30)}  {x:.2f}" if left else f"{x:.2f}  {row[kind]}"
            name = name if left else wrapped(name, 36)
            axes.text(side, y, f" {name} ", ha="right" if left else "left", va="center")
    return figure


def plot_profiles(found: pd.DataFrame) -> Figure:
    """Performance profile: share of runs above each normalised score, with 95% bands.

    Args:
        found: Rows of `profiles` that are compared with each other.

    Returns:
        A figure. The baseline and the four others with the largest area under the profile (the mean
        score) have colours and labels; the rest are thin grey lines.

    Source: Agarwal et al. 2021.
    """
    kind = _compared(found)
    first = found.groupby(kind)[["area", "is_baseline"]].first().reset_index()
    order = first.sort_values(["area", kind], ascending=[False, True])
    others = [str(name) for name in order.loc[~order["is_baseline"], kind]]
    looks = {str(name): (BLACK, "-") for name in order.loc[order["is_baseline"], kind]}
    looks |= dict(zip(others, LINES, strict=False))
    with style():
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for name in others[len(LINES) :]:
            own = found[found[kind] == name]
            axes.plot(100 * own["threshold"], 100 * own["runs"], color="#B8B8B8", linewidth=0.7)
        for name in filter(looks.__contains__, order[kind]):
            own = found[found[kind] == name]
            colour, dashes = looks[name]
            label = f"{wrapped(name, 30)} ({100 * own['area'].iloc[0]:.1f})"
            axes.fill_between(
                100 * own["threshold"],
                100 * own["runs_low"],
                100 * own["runs_high"],
                color=colour,
                alpha=0.15,
                lw=0,
            )
            axes.plot(
                100 * own["threshold"],
                100 * own["runs"],
                dashes,
                color=colour,
                linewidth=1.6,
                label=label,
            )
        rest = len(others) - len(LINES)
        if rest > 0:
            axes.plot([], [], color="#B8B8B8", linewidth=0.7, label=f"{rest} others")
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 102)
        axes.set_xlabel("normalised test score τ (0: constant predictor, 100: perfect)")
        axes.set_ylabel("runs above τ, %")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title=f"{kind} (area)")
    return figure


def _compared(found: pd.DataFrame) -> str:
    """The column that identifies what is compared."""
    return [str(n) for n in found if n in ("model", "technique", "configuration")][-1]


def _bars(known: pd.DataFrame) -> list[tuple[int, int]]:
    """First and last row of each group of several members, rows being sorted by rank."""
    members: dict[int, list[int]] = {}
    groups: Sequence[str] = list(known["group"])
    for line, text in enumerate(groups):
        for group in map(int, filter(None, text.split(", "))):
            members.setdefault(group, []).append(line)
    return [(min(lines), max(lines)) for lines in members.values() if len(lines) > 1]
