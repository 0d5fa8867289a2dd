"""Sections of the report: functions from the runs to tables and figures."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.across_tasks.aggregates import aggregates, aggregates_table, profiles
from analysis.across_tasks.chosen import chosen_or_all, unchosen, unfit
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
from analysis.across_tasks.table_columns import dropped_notes
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
from analysis.rendering.builder import NAMED
from analysis.rendering.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # slow to load


PLOTTED = 12  # combinations of task and model with plots on the page


@dataclass(frozen=True)
class Drawing:
    """A figure for the page.

    Attributes:
        name: Prefix of the SVG ids, unique on the page.
        heading: Heading of the group, such as `rte, minilm`.
        caption: What the figure shows, in a sentence or two.
        figure: The figure.
    """

    name: str
    heading: str
    caption: str
    figure: "Figure"


class ReportData:
    """Data of all sections; each derived frame is computed once.

    Attributes:
        everything: Checked runs of all stages.
        runs: Checked runs of the final stage.
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
        """The frame of `cells`."""
        return cells(self.runs)

    @cached_property
    def best(self) -> pd.DataFrame:
        """The frame of `best_strategy`."""
        return best_strategy(self.runs)

    @cached_property
    def scatter(self) -> pd.DataFrame:
        """The frame of `stability`."""
        return stability(self.runs)

    @cached_property
    def front(self) -> pd.DataFrame:
        """The frame of `pareto`."""
        return pareto(self.runs)

    @cached_property
    def searched(self) -> bool:
        """Whether configurations come from a search, so that they differ by task."""
        return bool((self.runs["search"] != "").any())

    @property
    def tested(self) -> bool:
        """Whether there is anything to report on test; a file may have dev scores alone."""
        runs = self.runs
        return bool(runs["test"].notna().any() or (runs["outcome"] != "completed").all())

    @property
    def chosen_on_dev(self) -> bool:
        """Whether there are dev scores to select by."""
        return bool(len(self.best)) and bool(self.best["best_dev"].any())


Section = Callable[[ReportData], Iterable[Table | Drawing]]


def title(runs: pd.DataFrame) -> str:
    """The names of the studies in a frame of runs."""
    return ", ".join(sorted(runs["study"].dropna().unique()))


def _recommended(material: ReportData) -> Iterator[Table]:
    """Recommended configurations, if there are dev scores."""
    table = best_strategy_table(material.best)
    if len(material.best) and not material.chosen_on_dev:
        caption = (
            "No recommendation: no run has a dev score, and test scores are not used to select."
        )
        table = replace(table, notes=(caption,), method=(), body=())
    yield table


def _headline(runs: pd.DataFrame) -> Table:
    """Models at their best, without the tasks on which there are no dev scores to choose by."""
    table, undecided = headline_table(headline(runs)), unchosen(runs)
    if not undecided:
        return table
    few = ", ".join(undecided[:NAMED]) + (", …" if len(undecided) > NAMED else "")
    why = (
        f"No dev scores to choose a configuration by on {few}: nothing is given there; "
        "'Scores by configuration' has all configurations."
    )
    return replace(table, notes=(*(table.notes if table.body else ()), why))


def _wide(material: ReportData) -> Iterator[Table]:
    """Tables over several tasks, models or types of pretraining."""
    if not material.tested:
        return
    runs, best = material.runs, material.best
    tasks, models = runs["task"].nunique(), runs["model"].nunique()
    if tasks > 1 and models > 1:
        yield _headline(runs)
        if material.chosen_on_dev:
            yield strategy_table(best)
    if tasks > 1 and not unfit(runs):
        compared = "technique" if material.searched else "configuration"
        yield suite_table(suite_score(runs, by=("model", compared)))
    if tasks > 1:
        shown = chosen_or_all(runs, ("model", "technique"))[CELL].drop_duplicates()
        yield technique_table(material.cells.merge(shown))  # as `by_technique`, without its recount
    settings = pretraining(runs)
    if len(settings[SETTINGS].drop_duplicates()) > 1:
        yield pretraining_table(settings)


def _searched(material: ReportData) -> Iterator[Table | Drawing]:
    """Results of hyperparameter searches, if there were any."""
    rows: list[Any] = list(material.cells.itertuples())
    yield from search_tables(material.everything, {(r.task, r.model): r.scale for r in rows})
    found = best_of_k(material.everything).dropna(subset="dev")
    for number, ((task, model), part) in enumerate(found.groupby(BLOCK)):
        if part["k"].max() < 2 or number == PLOTTED:
            break
        from analysis.plots.search import plot_best_of_k

        block = material.cells[
            (material.cells["task"] == task) & (material.cells["model"] == model)
        ]
        yield Drawing(
            f"search{number}",
            f"{task}, {model}",
            "Expected dev score of the best of k configurations tried, up to half of the trials.",
            plot_best_of_k(part, block),
        )


def _compared(material: ReportData) -> Iterator[Table]:
    """Comparison with the other study."""
    if material.others is not None:
        names = title(material.runs), title(final(checked(material.others)))
        if names[0] == names[1]:
            names = f"{names[0]} (first)", f"{names[1]} (second)"
        yield against_table(against(material.runs, material.others), *names)


def _plots(material: ReportData) -> Iterator[Drawing]:
    """Figures per task and model with scores, for the first `PLOTTED`."""
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
            "Test scores by seed. Box: quartiles and median; whiskers: minimum and maximum.",
            cells.plot_scores(block, own),
        )
        yield Drawing(
            f"spread{number}",
            heading,
            "Mean and standard deviation over seeds with 95% confidence intervals; a hollow "
            "marker has none. Failed runs are included.",
            cells.plot_mean_and_sd(own),
        )
        if curves.empty:
            continue
        dev = curves[curves["key"].isin(block["key"]) & curves["name"].str.startswith("dev/")]
        if not dev.empty:
            yield Drawing(
                f"curves{number}",
                heading,
                "Dev score by epoch: mean over seeds; band: minimum to maximum; dashed: mean of "
                "the baseline; dagger: a run that stopped early.",
                cells.plot_curves(dev, own),
            )


def _trade_offs(material: ReportData) -> Iterator[Table | Drawing]:
    """Pareto fronts of mean, sd, failures, time and memory; how selection on dev holds on test."""
    if not material.chosen_on_dev or material.runs["configuration"].nunique() < 2:
        return
    yield pareto_table(material.front)
    if material.tested:
        yield transfer_table(transfer(material.runs))
        if len(material.best) > 1:
            yield groups_table(by_group(material.runs))
    from analysis.plots.pareto import plot_plane

    for number, ((task, model), part) in enumerate(material.front.groupby(BLOCK)):
        if number < PLOTTED and part["dev_sd"].notna().any():
            yield Drawing(
                f"front{number}",
                f"{task}, {model}",
                "Mean and sd on dev, numbered as in the legend. Filled: on the Pareto front of "
                "mean, sd, failures, time and memory; in parentheses: the share of bootstrap "
                "resamples in which it is on the front.",
                plot_plane(part),
            )


def _aggregated(frame: pd.DataFrame) -> Table:
    """Aggregates, or one sentence where no task can be normalised."""
    table = aggregates_table(frame)
    if frame["tasks"].any():
        return table
    notes = ("No task's scores can be normalised.", *dropped_notes(frame))
    return replace(table, notes=notes, method=(), body=())


def _over_tasks(material: ReportData) -> Iterator[Table | Drawing]:
    """Inference across tasks: ranks, aggregates, equivalence, performance profiles."""
    runs = material.runs
    if runs["task"].nunique() < 2 or not material.tested:
        return
    by: tuple[str, ...] = ("model", "technique" if material.searched else "configuration")
    if runs[by[1]].nunique() < 2:
        by = ("model",)  # compare the models instead
    if runs[by[-1]].nunique() < 2:
        return
    ranked, tests = ranks(runs, by=by), friedman(runs, by=by)
    yield ranks_table(ranked, tests)
    yield _aggregated(aggregates(runs, by=by))
    if by[-1] != "model":
        equal = rope(runs, by=by)
        if (equal["reason"] != "no_baseline").any():
            yield rope_table(equal)
    from analysis.plots.across_tasks import plot_profiles, plot_ranks

    curves = profiles(runs, by=by)
    within = list(by[:-1])
    for number, row in enumerate(tests.to_dict("records")[:PLOTTED]):
        heading = f"all tasks, {row['model']}" if within else "all tasks"
        pools = [f[f["model"] == row["model"]] if within else f for f in (ranked, curves)]
        if len(pools[0]) > 1:
            yield Drawing(
                f"ranks{number}",
                heading,
                "Critical-difference diagram: average ranks over tasks; bars connect groups that "
                "do not differ significantly (Nemenyi test).",
                plot_ranks(pools[0], row["critical_difference"]),
            )
        if len(pools[1]):
            yield Drawing(
                f"profiles{number}",
                heading,
                "Performance profile: share of runs above each normalised score, with 95% bands; "
                "in parentheses: the area under the profile.",
                plot_profiles(pools[1]),
            )


def _crossed(material: ReportData) -> Iterator[Table | Drawing]:
    """Variance components by seed stream, if seeds are crossed."""
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
                "Shares of the variance over seeds by stream; lines: 95% confidence intervals.",
                plot_sources(part),
            )


def _predictions(material: ReportData) -> Iterator[Table | Drawing]:
    """Agreement of seeds on single examples, if predictions were stored."""
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
                f"{row.recommended}: share of test examples on which each pair of seeds differs.",
                plot_disagreement(distances[cell]),
            )
        if len(own) and own["right"].notna().any():
            yield Drawing(
                f"flips{number}",
                heading,
                f"{row.recommended}: share of runs that are correct on each test example.",
                plot_flips(own),
            )


# The page's sections in order. Tables are also written as files; figures are grouped by heading.
SECTIONS: tuple[Section, ...] = (
    _recommended,
    _compared,
    _wide,
    _over_tasks,
    lambda m: [cells_table(m.cells)],
    lambda m: [stability_table(m.scatter)] if m.tested else [],
    _trade_offs,
    _crossed,
    _predictions,
    _plots,
    _searched,
)

# Tables that are only written as files, being too long for the page.
FILED: tuple[Section, ...] = (lambda m: [pairs_table(pairs(m.runs))] if m.tested else [],)
