"""From the runs of a study to tables, plots and a report; loads neither torch nor ray."""

from analysis.against import against, against_table
from analysis.answer import answer
from analysis.caveats import caveats
from analysis.foreign import example_runs, read_scores
from analysis.load import load_curves, load_predictions, load_runs
from analysis.paper import table
from analysis.render import (
    Table,
    best_strategy_table,
    cells_table,
    stability_table,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_text,
)
from analysis.report import write_report
from analysis.suite import BLURB, by_technique, chosen, headline, pretraining, suite_score
from analysis.tables import best_strategy, cells, stability
from analysis.tuning import best_of_k, importance, trials
from analysis.wide import (
    headline_table,
    pretraining_table,
    strategy_table,
    suite_table,
    technique_table,
)

__all__ = [
    "BLURB",
    "Table",
    "against",
    "against_table",
    "answer",
    "best_of_k",
    "best_strategy",
    "best_strategy_table",
    "by_technique",
    "caveats",
    "cells",
    "cells_table",
    "chosen",
    "example_runs",
    "headline",
    "headline_table",
    "importance",
    "load_curves",
    "load_predictions",
    "load_runs",
    "pretraining",
    "pretraining_table",
    "read_scores",
    "stability",
    "stability_table",
    "strategy_table",
    "suite_score",
    "suite_table",
    "table",
    "technique_table",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "to_text",
    "trials",
    "write_report",
]
