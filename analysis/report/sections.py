"""Sections of the report: functions from the runs to panels of a table and its figures."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

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
from analysis.frames.runs import CELL, checked, final
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
from analysis.per_task.memory import memory, memory_table
from analysis.per_task.pairs import pairs, pairs_table
from analysis.per_task.pareto import pareto, pareto_table
from analysis.per_task.retained import retained, retained_table
from analysis.per_task.search import best_of_k, search_tables
from analysis.per_task.stability import stability, stability_table
from analysis.per_task.two_studies import against, against_table
from analysis.per_task.variance import sources, sources_table
from analysis.rendering.builder import NAMED
from analysis.rendering.table import Table
from analysis.report import drawings
from analysis.report.drawings import PLOTTED, Drawing
from analysis.report.provenance import Extras


@dataclass(frozen=True)
class Panel:
    """A part of the page: a table with the figures that belong to it; either may be missing.

    Attributes:
        name: Anchor, unique on the page.
        title: Heading.
        table: The table, or None.
        drawings: The figures.
    """

    name: str
    title: str
    table: Table | None
    drawings: tuple[Drawing, ...]


def panel(table: Table, drawn: Iterable[Drawing] = ()) -> Panel:
    """A panel with the name and the title of its table."""
    return Panel(table.name, table.title, table, tuple(drawn))


class ReportData:
    """Data of all sections; each derived frame is computed once.

    Attributes:
        everything: Checked runs of all stages.
        runs: Checked runs of the final stage.
        curves: One row per run and epoch; may be empty.
        predictions: One row per run and example; may be empty.
        others: Runs of another study to compare with, or None.
        extras: What a store knows beyond these.
    """

    def __init__(
        self,
        runs: pd.DataFrame,
        curves: pd.DataFrame,
        predictions: pd.DataFrame,
        others: pd.DataFrame | None = None,
        extras: Extras | None = None,
    ) -> None:
        self.everything = checked(runs)
        self.runs = final(self.everything)
        self.curves, self.predictions, self.others = curves, predictions, others
        self.extras = extras or Extras()

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
    def pairs(self) -> pd.DataFrame:
        """The frame of `pairs`; empty without test scores."""
        return pairs(self.runs) if self.tested else pd.DataFrame()

    @cached_property
    def front(self) -> pd.DataFrame:
        """The frame of `pareto`."""
        return pareto(self.runs)

    @property
    def by(self) -> tuple[str, ...]:
        """What is compared over tasks, last, and within what; empty if there are no two of it."""
        if self.runs["task"].nunique() < 2 or not self.tested:
            return ()
        kind = "technique" if self.searched else "configuration"
        if self.runs[kind].nunique() > 1:
            return ("model", kind)
        return ("model",) if self.runs["model"].nunique() > 1 else ()

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """The frame of `ranks`; empty if nothing is compared over tasks."""
        return ranks(self.runs, by=self.by) if self.by else pd.DataFrame()

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


Section = Callable[[ReportData], Iterable[Panel]]


def title(runs: pd.DataFrame) -> str:
    """The names of the studies in a frame of runs."""
    return ", ".join(sorted(runs["study"].dropna().unique()))


def _recommended(material: ReportData) -> Iterator[Panel]:
    """Recommended configurations, if there are dev scores."""
    table = best_strategy_table(material.best)
    if len(material.best) and not material.chosen_on_dev:
        caption = (
            "No recommendation: no run has a dev score, and test scores are not used to select."
        )
        table = replace(table, notes=(caption,), method=(), body=())
    yield panel(table)


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


def _wide(material: ReportData) -> Iterator[Panel]:
    """Tables over several tasks, models or types of pretraining."""
    if not material.tested:
        return
    runs, best = material.runs, material.best
    tasks, models = runs["task"].nunique(), runs["model"].nunique()
    if tasks > 1 and models > 1:
        yield panel(_headline(runs))
        if material.chosen_on_dev:
            yield panel(strategy_table(best))
    if tasks > 1 and not unfit(runs):
        compared = "technique" if material.searched else "configuration"
        yield panel(suite_table(suite_score(runs, by=("model", compared))))
    if tasks > 1:
        shown = chosen_or_all(runs, ("model", "technique"))[CELL].drop_duplicates()
        # As `by_technique`, without its recount.
        yield panel(technique_table(material.cells.merge(shown)))
    settings = pretraining(runs)
    if len(settings[SETTINGS].drop_duplicates()) > 1:
        yield panel(pretraining_table(settings))


def _searched(material: ReportData) -> Iterator[Panel]:
    """Results of hyperparameter searches, if there were any."""
    rows: list[Any] = list(material.cells.itertuples())
    scales = {(r.task, r.model): r.scale for r in rows}
    for table in search_tables(material.everything, scales):
        yield panel(
            table,
            drawings.best_of_k_curves(best_of_k(material.everything), material.cells)
            if table.name == "best_of_k"
            else (),
        )


def _compared(material: ReportData) -> Iterator[Panel]:
    """Comparison with the other study."""
    if material.others is not None:
        names = title(material.runs), title(final(checked(material.others)))
        if names[0] == names[1]:
            names = f"{names[0]} (first)", f"{names[1]} (second)"
        own, other = material.extras.settings, material.extras.other_settings
        settings = None if own is None or other is None else (own, other)
        table = against_table(against(material.runs, material.others, settings), *names)
        yield panel(table)


def _scores(material: ReportData) -> Iterator[Panel]:
    """The scores of all seeds, drawn for the first `PLOTTED` tasks and models."""
    yield panel(cells_table(material.cells), drawings.seeds(material.runs, material.cells))


def _stable(material: ReportData) -> Iterator[Panel]:
    """Spread over seeds and failure rates."""
    if not material.tested:
        return
    yield panel(stability_table(material.scatter), drawings.spreads(material.runs, material.cells))


def _learning(material: ReportData) -> Iterator[Panel]:
    """Dev score and training loss by epoch, if curves were stored."""
    figures = tuple(drawings.curves(material.runs, material.cells, material.curves))
    if figures:
        yield Panel("curves", "Learning curves", None, figures)


def _trade_offs(material: ReportData) -> Iterator[Panel]:
    """Pareto fronts of mean, sd, failures, time and memory; how selection on dev holds on test."""
    if not material.chosen_on_dev or material.runs["configuration"].nunique() < 2:
        return
    yield panel(pareto_table(material.front), drawings.planes(material.front))
    if material.tested:
        yield panel(transfer_table(transfer(material.runs)))
        if len(material.best) > 1:
            yield panel(groups_table(by_group(material.runs)))


def _retained(material: ReportData) -> Iterator[Panel]:
    """What runs retained of other skills, if the study measured any."""
    found = retained(material.extras.retained)
    if not found.empty:
        yield panel(retained_table(found), drawings.retained(material.runs, material.cells))


def _memory(material: ReportData) -> Iterator[Panel]:
    """Where the memory of a step goes, if it was measured."""
    found = memory(material.runs)
    if not found.empty:
        yield panel(memory_table(found))


def _trained(material: ReportData) -> Iterator[Panel]:
    """Which layers were trained when, of techniques that choose them step by step."""
    figures = tuple(drawings.trained(material.runs, material.cells, material.curves))
    if figures:
        yield Panel("trained", "Layers in training", None, figures)


def _aggregated(frame: pd.DataFrame) -> Table:
    """Aggregates, or one sentence where no task can be normalised."""
    table = aggregates_table(frame)
    if frame["tasks"].any():
        return table
    notes = ("No task's scores can be normalised.", *dropped_notes(frame))
    return replace(table, notes=notes, method=(), body=())


def _ranked(material: ReportData) -> Iterator[Panel]:
    """Average ranks over tasks."""
    if not material.by:
        return
    found, tests = material.ranks, friedman(material.runs, by=material.by)
    yield panel(ranks_table(found, tests), drawings.rank_diagrams(found, tests))


def _over_tasks(material: ReportData) -> Iterator[Panel]:
    """Normalised scores, performance profiles and practical equivalence over tasks."""
    by = material.by
    if not by:
        return
    yield panel(
        _aggregated(aggregates(material.runs, by=by)),
        drawings.profile_curves(profiles(material.runs, by=by)),
    )
    if by[-1] != "model":
        equal = rope(material.runs, by=by)
        if (equal["reason"] != "no_baseline").any():
            yield panel(rope_table(equal))


def _crossed(material: ReportData) -> Iterator[Panel]:
    """Variance components by seed stream, if seeds are crossed."""
    found = sources(material.runs)
    if (found["source"] == "").all():
        return
    yield panel(sources_table(found), drawings.shares(found))


def _predictions(material: ReportData) -> Iterator[Panel]:
    """Agreement of seeds on single examples, if predictions were stored."""
    predictions = material.predictions
    if predictions.empty:
        return
    flipped = flips(predictions)
    yield panel(
        agreement_table(agreement(predictions, material.runs)),
        drawings.disagreement_maps(disagreements(predictions), material.best),
    )
    yield panel(seeds_and_examples_table(seeds_and_examples(predictions, material.runs)))
    yield panel(ensembles_table(ensembles(predictions)))
    yield panel(
        flips_table(flipped, material.extras.texts),
        drawings.flip_charts(flipped, material.best),
    )


def opened(material: ReportData) -> tuple[Section, ...]:
    """The sections that answer: scores and curves, or over many tasks the ranks."""
    if len(material.best) > PLOTTED and material.by:
        return (_compared, _ranked)
    return (_compared, _scores, _retained, _learning)


# The page's sections in order; all but those that `opened` names are collapsed. Tables are also
# written as files.
SECTIONS: tuple[Section, ...] = (
    _compared,
    _scores,
    _learning,
    _recommended,
    _stable,
    _wide,
    _ranked,
    _over_tasks,
    _trade_offs,
    _retained,
    _memory,
    _trained,
    _crossed,
    _predictions,
    _searched,
)

# Tables that are only written as files, being too long for the page.
FILED: tuple[Section, ...] = (lambda m: [panel(pairs_table(m.pairs))] if m.tested else [],)
