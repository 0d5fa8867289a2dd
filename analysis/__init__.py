"""From the runs of a study to tables, plots and a report; loads neither torch nor ray."""

from analysis.answer import answer
from analysis.caveats import caveats
from analysis.load import load_curves, load_predictions, load_runs
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
from analysis.tables import best_strategy, cells, stability
from analysis.tuning import best_of_k, importance, trials

__all__ = [
    "Table",
    "answer",
    "best_of_k",
    "best_strategy",
    "best_strategy_table",
    "caveats",
    "cells",
    "cells_table",
    "importance",
    "load_curves",
    "load_predictions",
    "load_runs",
    "stability",
    "stability_table",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "to_text",
    "trials",
    "write_report",
]
