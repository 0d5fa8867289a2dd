"""Figures of the report: functions from frames to drawings, each for a task and model or a pool."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from analysis.frames.runs import BLOCK, CELL, blocks

# The modules of analysis.plots load matplotlib, which is slow, so functions import them.
if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTTED = 12  # combinations of task and model with plots on the page
ALL = "all tasks"
CURVES: tuple[tuple[str, Literal["dev", "train"], str], ...] = (
    ("curves", "dev", "Dev score"),
    ("losses", "train", "Training loss"),
)
BAND = "mean over seeds; band: minimum to maximum; dashed: mean of the baseline"


@dataclass(frozen=True)
class Drawing:
    """A figure for the page.

    Attributes:
        name: Prefix of the SVG ids, unique on the page.
        task: The task, or words for all of them.
        model: The model; empty if the figure is about all of them.
        caption: What the figure shows, in a sentence or two.
        figure: The figure.
    """

    name: str
    task: str
    model: str
    caption: str
    figure: "Figure"

    @property
    def heading(self) -> str:
        """What the figure is of, such as `rte, minilm`."""
        return f"{self.task}, {self.model}" if self.model else self.task


def seeds(runs: pd.DataFrame, cells: pd.DataFrame) -> Iterator[Drawing]:
    """The scores of all seeds and their means."""
    from analysis.plots.cells import plot_scores

    for number, task, model, block in _tested(runs, cells):
        yield Drawing(
            f"scores{number}",
            task,
            model,
            "Test scores by seed. Box: quartiles and median; whiskers: minimum and maximum; below: "
            "the mean with its 95% confidence interval, which may leave the picture.",
            plot_scores(block, _of(cells, task, model)),
        )


def spreads(runs: pd.DataFrame, cells: pd.DataFrame) -> Iterator[Drawing]:
    """Means and standard deviations."""
    from analysis.plots.cells import plot_mean_and_sd

    for number, task, model, _ in _tested(runs, cells):
        yield Drawing(
            f"spread{number}",
            task,
            model,
            "Mean and standard deviation over seeds with 95% confidence intervals; a hollow "
            "marker has none. Failed runs are included.",
            plot_mean_and_sd(_of(cells, task, model)),
        )


def curves(runs: pd.DataFrame, cells: pd.DataFrame, stored: pd.DataFrame) -> Iterator[Drawing]:
    """Dev scores and training losses by epoch, where curves are stored."""
    if stored.empty:
        return
    from analysis.plots.cells import CURVES as STARTS
    from analysis.plots.cells import plot_curves

    for number, task, model, block in _tested(runs, cells):
        own = stored[stored["key"].isin(block["key"])]
        diverged = (block["outcome"] == "diverged").any()
        end = "; dagger: a run that stopped early." if diverged else "."
        for name, of, words in CURVES:
            if own["name"].str.startswith(STARTS[of]).any():
                figure = plot_curves(own, _of(cells, task, model), of=of)
                yield Drawing(
                    f"{name}{number}", task, model, f"{words} by epoch: {BAND}{end}", figure
                )


def trained(runs: pd.DataFrame, cells: pd.DataFrame, stored: pd.DataFrame) -> Iterator[Drawing]:
    """Which layers were trained when, of techniques that choose them step by step."""
    if stored.empty:
        return
    from analysis.plots.cells import TRAINED, plot_trained

    chosen = stored[stored["name"].str.startswith(TRAINED)]
    for number, task, model, block in _tested(runs, cells):
        own = chosen[chosen["key"].isin(block["key"])]
        known = set(own["configuration"])
        labels = [c for c in _of(cells, task, model)["configuration"] if c in known]
        if labels:
            yield Drawing(
                f"trained{number}",
                task,
                model,
                "Share of the weights at each depth that a step trained, by epoch: mean over the "
                "epoch's steps and over seeds.",
                plot_trained(own, labels),
            )


def planes(front: pd.DataFrame) -> Iterator[Drawing]:
    """Mean against standard deviation, of the frame of `pareto`."""
    from analysis.plots.pareto import plot_plane

    for number, task, model, part in _each(front):
        if part["dev_sd"].notna().any():
            yield Drawing(
                f"front{number}",
                task,
                model,
                "Mean and sd on dev, numbered as in the legend. Filled: on the Pareto front of "
                f"{_goals(part)}; in parentheses: the share of bootstrap resamples in which it is "
                "on the front.",
                plot_plane(part),
            )


def retained(runs: pd.DataFrame, cells: pd.DataFrame) -> Iterator[Drawing]:
    """Score against what was retained of other skills, where that was measured."""
    from analysis.plots.retained import plot_retained

    for number, task, model, block in _tested(runs, cells):
        own = _of(cells, task, model)
        known = own.loc[own["retained_mean"].notna(), "configuration"].tolist()
        if known:
            yield Drawing(
                f"retained{number}",
                task,
                model,
                "Test score against the share retained of the skill that lost most: small markers "
                "are runs, large ones means; at 100 nothing is lost.",
                plot_retained(block, known, scale=float(own["scale"].iloc[0])),
            )


def rank_diagrams(found: pd.DataFrame, tests: pd.DataFrame) -> Iterator[Drawing]:
    """Critical-difference diagrams, of the frames of `ranks` and `friedman`."""
    from analysis.plots.across_tasks import plot_ranks

    differences = tests["critical_difference"]
    for (number, model, part), difference in zip(_pools(found), differences, strict=False):
        if len(part) > 1:
            yield Drawing(
                f"ranks{number}",
                ALL,
                model,
                "Critical-difference diagram: average ranks over tasks; bars connect groups that "
                "do not differ significantly (Nemenyi test).",
                plot_ranks(part, difference),
            )


def profile_curves(found: pd.DataFrame) -> Iterator[Drawing]:
    """Performance profiles, of the frame of `profiles`."""
    from analysis.plots.across_tasks import plot_profiles

    for number, model, part in _pools(found):
        if len(part):
            yield Drawing(
                f"profiles{number}",
                ALL,
                model,
                "Performance profile: share of runs above each normalised score, with 95% bands; "
                "in parentheses: the area under the profile, which is the mean score.",
                plot_profiles(part),
            )


def shares(found: pd.DataFrame) -> Iterator[Drawing]:
    """Variance components, of the frame of `sources`."""
    from analysis.plots.variance import plot_sources

    for number, task, model, part in _each(found):
        if part["share"].notna().any():
            yield Drawing(
                f"sources{number}",
                task,
                model,
                "Shares of the variance over seeds by stream; lines: 95% confidence intervals.",
                plot_sources(part),
            )


def disagreement_maps(
    distances: Mapping[tuple[str, str, str], pd.DataFrame], best: pd.DataFrame
) -> Iterator[Drawing]:
    """How the seeds of the recommended configurations differ, of the result of `disagreements`."""
    from analysis.plots.examples import plot_disagreement

    for number, row in _recommended(best):
        cell = row.task, row.model, row.recommended
        if cell in distances and len(distances[cell]) > 1:
            yield Drawing(
                f"disagreement{number}",
                row.task,
                row.model,
                f"{row.recommended}: share of test examples on which each pair of seeds differs.",
                plot_disagreement(distances[cell]),
            )


def flip_charts(flipped: pd.DataFrame, best: pd.DataFrame) -> Iterator[Drawing]:
    """Correct runs by example of the recommended configurations, of the frame of `flips`."""
    from analysis.plots.examples import plot_flips

    for number, row in _recommended(best):
        cell = [row.task, row.model, row.recommended]
        own = flipped[(flipped[CELL] == cell).all(axis=1)]
        if len(own) and own["right"].notna().any():
            yield Drawing(
                f"flips{number}",
                row.task,
                row.model,
                f"{row.recommended}: share of runs that are correct on each test example.",
                plot_flips(own),
            )


def best_of_k_curves(found: pd.DataFrame, cells: pd.DataFrame) -> Iterator[Drawing]:
    """Expected best of k configurations, of the frame of `best_of_k`."""
    from analysis.plots.search import plot_best_of_k

    for number, task, model, part in _each(found.dropna(subset="dev")):
        if part["k"].max() > 1:
            yield Drawing(
                f"search{number}",
                task,
                model,
                "Expected dev score of the best of k configurations tried, up to half of the "
                "trials.",
                plot_best_of_k(part, _of(cells, task, model)),
            )


def _of(frame: pd.DataFrame, task: str, model: str) -> pd.DataFrame:
    """The rows of one task and model."""
    return frame[(frame["task"] == task) & (frame["model"] == model)]


def _each(frame: pd.DataFrame) -> Iterator[tuple[int, str, str, pd.DataFrame]]:
    """Number, task, model and rows of the first `PLOTTED` tasks and models."""
    for number, (label, part) in enumerate(list(frame.groupby(BLOCK))[:PLOTTED]):
        task, model = map(str, label)
        yield number, task, model, part


def _tested(
    runs: pd.DataFrame, cells: pd.DataFrame
) -> Iterator[tuple[int, str, str, pd.DataFrame]]:
    """As `_each`, of runs, where there are test scores."""
    for number, (task, model, block) in enumerate(list(blocks(runs))[:PLOTTED]):
        if _of(cells, task, model)["test_mean"].notna().any():
            yield number, task, model, block


def _pools(frame: pd.DataFrame) -> Iterator[tuple[int, str, pd.DataFrame]]:
    """Number, model and rows of the first `PLOTTED` pools; no model where models are compared."""
    if not {"technique", "configuration"} & set(frame):
        yield 0, "", frame
        return
    for number, (model, part) in enumerate(list(frame.groupby("model"))[:PLOTTED]):
        yield number, str(model), part


def _goals(front: pd.DataFrame) -> str:
    """What a Pareto front compares, as words."""
    known = front["retained_mean"].notna().any()
    return f"mean, sd, failures, {'skills retained, ' if known else ''}time and memory"


def _recommended(best: pd.DataFrame) -> Iterator[tuple[int, Any]]:
    """Number and row of the first `PLOTTED` best strategies."""
    yield from enumerate(list(best.itertuples())[:PLOTTED])
