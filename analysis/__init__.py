"""From the runs of a study to tables, plots and a report; loads neither torch nor ray."""

from analysis.across_tasks.aggregates import aggregates, aggregates_table, profiles
from analysis.across_tasks.chosen import chosen
from analysis.across_tasks.equivalence import rope, rope_table
from analysis.across_tasks.grids import (
    by_technique,
    pretraining,
    pretraining_table,
    technique_table,
)
from analysis.across_tasks.groups import by_group, groups_table
from analysis.across_tasks.ranks import friedman, ranks, ranks_table
from analysis.across_tasks.suite import (
    BLURB,
    headline,
    headline_table,
    suite_score,
    suite_table,
)
from analysis.frames.load import (
    load_curves,
    load_predictions,
    load_retained,
    load_runs,
    load_settings,
)
from analysis.frames.score_files import example_runs, read_scores
from analysis.per_example.agreement import (
    agreement,
    agreement_table,
    disagreements,
    flips,
    flips_table,
)
from analysis.per_example.ensembles import ensembles, ensembles_table
from analysis.per_example.resampling import seeds_and_examples, seeds_and_examples_table
from analysis.per_example.rescoring import METRICS, rescored
from analysis.per_task.best_strategy import best_strategy, best_strategy_table, strategy_table
from analysis.per_task.cells import cells, cells_table
from analysis.per_task.dev_to_test import transfer, transfer_table
from analysis.per_task.memory import memory, memory_table
from analysis.per_task.pairs import pairs, pairs_table
from analysis.per_task.pareto import pareto, pareto_table
from analysis.per_task.recommend import recommend
from analysis.per_task.retained import retained, retained_table
from analysis.per_task.search import best_of_k, importance, trials
from analysis.per_task.stability import stability, stability_table
from analysis.per_task.two_studies import against, against_table
from analysis.per_task.variance import sources, sources_table
from analysis.rendering.table import Table, to_csv, to_html, to_latex, to_markdown, to_text
from analysis.report.caveats import caveats
from analysis.report.findings import answer
from analysis.report.page import write_report
from analysis.report.paper_table import table

__all__ = [
    "BLURB",
    "METRICS",
    "Table",
    "against",
    "against_table",
    "aggregates",
    "aggregates_table",
    "agreement",
    "agreement_table",
    "answer",
    "best_of_k",
    "best_strategy",
    "best_strategy_table",
    "by_group",
    "by_technique",
    "caveats",
    "cells",
    "cells_table",
    "chosen",
    "disagreements",
    "ensembles",
    "ensembles_table",
    "example_runs",
    "flips",
    "flips_table",
    "friedman",
    "groups_table",
    "headline",
    "headline_table",
    "importance",
    "load_curves",
    "load_predictions",
    "load_retained",
    "load_runs",
    "load_settings",
    "memory",
    "memory_table",
    "pairs",
    "pairs_table",
    "pareto",
    "pareto_table",
    "pretraining",
    "pretraining_table",
    "profiles",
    "ranks",
    "ranks_table",
    "read_scores",
    "recommend",
    "rescored",
    "retained",
    "retained_table",
    "rope",
    "rope_table",
    "seeds_and_examples",
    "seeds_and_examples_table",
    "sources",
    "sources_table",
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
    "transfer",
    "transfer_table",
    "trials",
    "write_report",
]
