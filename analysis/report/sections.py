"""What is on the page of a report: sections, from the runs to tables and drawings."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.across_tasks.aggregates import aggregates, aggregates_table, profiles
from analysis.across_tasks.chosen import chosen, unfit
from analysis.across_tasks.equivalence import rope, rope_table
from analysis.across_tasks.grids import (
    SETTINGS,
    pretraining,
    pretraining_table,
    technique_table,
)
from analysis.across_tasks.groups import by_group, groups_table
from analysis.across_tasks.ranks import friedman, ranks, ranks_table
from analysis.across_tasks.suite import (
    headline,
    headline_table,
    suite_score,
    suite_table,
)
from analysis.frames.runs import BLOCK, CELL, blocks, checked, final
from analysis.per_example.agreement import (
    agreement,
    agreement_table,
    disagreements,
    flips,
    flips_table,
)
from analysis.per_example.ensembles import ensembles, ensembles_table
from analysis.per_example.resampling import seeds_and_examples, seeds_and_examples_table
from analysis.per_task.best_strategy import best_strategy, best_strategy_table, strategy_table
from analysis.per_task.cells import cells, cells_table
from analysis.per_task.dev_to_test import transfer, transfer_table
from analysis.per_task.pairs import pairs, pairs_table
from analysis.per_task.pareto import pareto, pareto_table
from analysis.per_task.search import best_of_k, search_tables
from analysis.per_task.stability import stability, stability_table
from analysis.per_task.two_studies import against, against_table
from analysis.per_task.variance import sources, sources_table
from analysis.rendering.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # slow to load


PLOTTED = 12  # tasks and models that get plots on the page


@dataclass(frozen=True)
class Drawing:
    """A figure for the page.

    Attributes:
        name: Prefix of the ids in it; no two drawings share one.
        heading: What it stands under, as `rte, minilm`.
        caption: What is drawn, in a sentence or two.
        figure: The figure.
    """

    name: str
    heading: str
    caption: str
    figure: "Figure"


class ReportData:
    """What sections are made of, each frame computed once.

    Attributes:
        everything: Checked runs of all stages.
        runs: Those of the final stage.
        curves: One row per run and epoch; may be empty.
        predictions: One row per run and example; may be empty.
        others: Runs of another study to compare with, or None.
    """

    def __init__(
        self,
        runs: pd.DataFrame,
        curves: pd.DataFrame,
        predictions: pd.DataFrame,
        others: pd.DataFrame | None,
    ) -> None:
        self.everything = checked(runs)
        self.runs = final(self.everything)
        self.curves, self.predictions, self.others = curves, predictions, others

    @cached_property
    def cells(self) -> pd.DataFrame:
        """As `tables.cells`."""
        return cells(self.runs)

    @cached_property
    def best(self) -> pd.DataFrame:
        """As `tables.best_strategy`."""
        return best_strategy(self.runs)

    @cached_property
    def scatter(self) -> pd.DataFrame:
        """As `tables.stability`."""
        return stability(self.runs)

    @cached_property
    def front(self) -> pd.DataFrame:
        """As `pareto.pareto`."""
        return pareto(self.runs)

    @cached_property
    def searched(self) -> bool:
        """Whether configurations were searched, so that each task has its own."""
        return bool((self.runs["search"] != "").any())

    @property
    def chosen_on_dev(self) -> bool:
        """Whether there are dev scores to choose by."""
        return bool(len(self.best)) and bool(self.best["best_dev"].any())


Section = Callable[[ReportData], Iterable[Table | Drawing]]


def title(runs: pd.DataFrame) -> str:
    """The names of the studies that runs are of."""
    return ", ".join(sorted(runs["study"].dropna().unique()))


def _choice(material: ReportData) -> Iterator[Table]:
    """What to use, where there are dev scores to choose by."""
    table = best_strategy_table(material.best)
    if len(material.best) and not material.chosen_on_dev:
        said = "Nothing is recommended: no run has a dev score, and nothing is chosen on test."
        table = replace(table, caption=said, body=())
    yield table


def _wide(material: ReportData) -> Iterator[Table]:
    """Tables over several tasks, models or kinds of pretraining, where there are several."""
    runs, best = material.runs, material.best
    tasks, models = runs["task"].nunique(), runs["model"].nunique()
    if tasks > 1 and models > 1:
        yield headline_table(headline(runs))
        if material.chosen_on_dev:
            yield strategy_table(best)
    if tasks > 1 and not unfit(runs):
        compared = "technique" if material.searched else "configuration"
        yield suite_table(suite_score(runs, by=("model", compared)))
    if tasks > 1:
        shown = chosen(runs, ("model", "technique"))[CELL].drop_duplicates()
        yield technique_table(material.cells.merge(shown))  # as `by_technique`, which counts anew
    settings = pretraining(runs)
    if len(settings[SETTINGS].drop_duplicates()) > 1:
        yield pretraining_table(settings)


def _searched(material: ReportData) -> Iterator[Table | Drawing]:
    """What searches found, where there were any."""
    rows: list[Any] = list(material.cells.itertuples())
    yield from search_tables(material.everything, {(r.task, r.model): r.scale for r in rows})
    found = best_of_k(material.everything).dropna(subset="dev")
    for number, ((task, model), part) in enumerate(found.groupby(BLOCK)):
        if part["k"].max() < 2 or number == PLOTTED:
            break
        from analysis.plots.search import plot_best_of_k

        about = material.cells[
            (material.cells["task"] == task) & (material.cells["model"] == model)
        ]
        yield Drawing(
            f"search{number}",
            f"{task}, {model}",
            "Dev score to expect of the best of k tried configurations, as far as the trials say "
            "something of it.",
            plot_best_of_k(part, about),
        )


def _compared(material: ReportData) -> Iterator[Table]:
    """The other study beside this one."""
    if material.others is not None:
        names = title(material.runs), title(final(checked(material.others)))
        if names[0] == names[1]:
            names = f"{names[0]} (first)", f"{names[1]} (second)"
        yield against_table(against(material.runs, material.others), *names)


def _plots(material: ReportData) -> Iterator[Drawing]:
    """The figures of each task and model that has scores; of the first few of many."""
    from analysis.plots import (  # matplotlib is slow to load, and only pages need it
        cells,
    )

    found, curves = material.cells, material.curves
    for number, (task, model, block) in enumerate(blocks(material.runs)):
        if number == PLOTTED:
            return
        own = found[(found["task"] == task) & (found["model"] == model)]
        if own["test_mean"].isna().all():
            continue
        heading = f"{task}, {model}"
        yield Drawing(
            f"scores{number}",
            heading,
            "Test scores by seed. Box: quartiles and median; whiskers: lowest and highest.",
            cells.plot_scores(block, own),
        )
        yield Drawing(
            f"spread{number}",
            heading,
            "Mean and standard deviation over seeds with 95% intervals; hollow where there is no "
            "interval. Failed runs are included.",
            cells.plot_mean_and_sd(own),
        )
        if curves.empty:
            continue
        dev = curves[curves["key"].isin(block["key"]) & curves["name"].str.startswith("dev/")]
        if not dev.empty:
            yield Drawing(
                f"curves{number}",
                heading,
                "Dev score by epoch: mean over seeds, band from lowest to highest seed; dashed: "
                "the baseline's mean; dagger: a run that stopped early.",
                cells.plot_curves(dev, own),
            )


def _trade_offs(material: ReportData) -> Iterator[Table | Drawing]:
    """What a mean costs in scatter, failures, time, memory; and what a choice on dev is worth."""
    if not material.chosen_on_dev or material.runs["configuration"].nunique() < 2:
        return
    yield pareto_table(material.front)
    yield transfer_table(transfer(material.runs))
    if len(material.best) > 1:
        yield groups_table(by_group(material.runs))
    from analysis.plots.pareto import plot_plane

    for number, ((task, model), part) in enumerate(material.front.groupby(BLOCK)):
        if number < PLOTTED and part["dev_sd"].notna().any():
            yield Drawing(
                f"front{number}",
                f"{task}, {model}",
                "Mean and sd on dev, numbered as in the key; filled is on the Pareto front of "
                "mean, sd, failures, time and memory, in brackets how often in resamplings.",
                plot_plane(part),
            )


def _over_tasks(material: ReportData) -> Iterator[Table | Drawing]:
    """The tasks as the sample, where there are several."""
    runs = material.runs
    if runs["task"].nunique() < 2:
        return
    by: tuple[str, ...] = ("model", "technique" if material.searched else "configuration")
    if runs[by[1]].nunique() < 2:
        by = ("model",)  # the models are what is compared
    if runs[by[-1]].nunique() < 2:
        return
    placed, tested = ranks(runs, by=by), friedman(runs, by=by)
    yield ranks_table(placed, tested)
    yield aggregates_table(aggregates(runs, by=by))
    if by[-1] != "model":
        yield rope_table(rope(runs, by=by))
    from analysis.plots.across_tasks import plot_profiles, plot_ranks

    drawn = profiles(runs, by=by)
    within = list(by[:-1])
    for number, row in enumerate(tested.to_dict("records")[:PLOTTED]):
        heading = f"all tasks, {row['model']}" if within else "all tasks"
        pools = [f[f["model"] == row["model"]] if within else f for f in (placed, drawn)]
        if len(pools[0]) > 1:
            yield Drawing(
                f"ranks{number}",
                heading,
                "Critical-difference diagram: average ranks over tasks; bars join what lies closer "
                "than Nemenyi's critical difference.",
                plot_ranks(pools[0], row["critical_difference"]),
            )
        if len(pools[1]):
            yield Drawing(
                f"profiles{number}",
                heading,
                "Performance profile: share of runs above each normalised score, with 95% bands; "
                "in brackets the area.",
                plot_profiles(pools[1]),
            )


def _crossed(material: ReportData) -> Iterator[Table | Drawing]:
    """Where the variance comes from, where seeds are crossed."""
    found = sources(material.runs)
    if (found["source"] == "").all():
        return
    yield sources_table(found)
    from analysis.plots.variance import plot_sources

    for number, ((task, model), part) in enumerate(found.groupby(BLOCK)):
        if number < PLOTTED and part["share"].notna().any():
            yield Drawing(
                f"sources{number}",
                f"{task}, {model}",
                "Shares of the variance over seeds by stream; lines: 95% intervals.",
                plot_sources(part),
            )


def _inside(material: ReportData) -> Iterator[Table | Drawing]:
    """How far seeds agree on single examples, where predictions were stored."""
    predictions = material.predictions
    if predictions.empty:
        return
    flipped = flips(predictions)
    yield agreement_table(agreement(predictions, material.runs))
    yield seeds_and_examples_table(seeds_and_examples(predictions, material.runs))
    yield ensembles_table(ensembles(predictions))
    yield flips_table(flipped)
    from analysis.plots.examples import plot_disagreement, plot_flips

    distances = disagreements(predictions)
    rows: list[Any] = list(material.best.itertuples())
    for number, row in enumerate(rows[:PLOTTED]):
        cell = row.task, row.model, row.recommended
        own = flipped[(flipped[CELL] == list(cell)).all(axis=1)]
        heading = f"{row.task}, {row.model}"
        if cell in distances and len(distances[cell]) > 1:
            yield Drawing(
                f"disagreement{number}",
                heading,
                f"{row.recommended}: test examples on which every two seeds differ.",
                plot_disagreement(distances[cell]),
            )
        if len(own) and own["right"].notna().any():
            yield Drawing(
                f"flips{number}",
                heading,
                f"{row.recommended}: share of runs that are right on each test example.",
                plot_flips(own),
            )


# What is on the page, in its order; a section is a line. Tables are written as files as well, and
# drawings stand together under their headings.
SECTIONS: tuple[Section, ...] = (
    _choice,
    _compared,
    _wide,
    _over_tasks,
    lambda m: [cells_table(m.cells)],
    lambda m: [stability_table(m.scatter)],
    _trade_offs,
    _crossed,
    _inside,
    _plots,
    _searched,
)

# Written as files only: too long for a page.
FILED: tuple[Section, ...] = (lambda m: [pairs_table(pairs(m.runs))],)
