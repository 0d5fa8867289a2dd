"""From the runs of a study to tables, plots and a report; loads neither torch nor ray."""

from analysis.across import aggregates, friedman, profiles, ranks, rope
from analysis.across_tables import aggregates_table, ranks_table, rope_table
from analysis.against import against, against_table
from analysis.agreement import agreement, disagreements, flips
from analysis.answer import answer
from analysis.caveats import caveats
from analysis.foreign import example_runs, read_scores
from analysis.groups import by_group, groups_table
from analysis.inside import (
    agreement_table,
    ensembles_table,
    flips_table,
    seeds_and_examples_table,
    sources_table,
)
from analysis.load import load_curves, load_predictions, load_runs
from analysis.pairs import pairs, pairs_table
from analysis.paper import table
from analysis.pareto import pareto, pareto_table
from analysis.recommend import recommend
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
from analysis.sources import sources
from analysis.stored import METRICS, ensembles, rescored, seeds_and_examples
from analysis.suite import BLURB, by_technique, chosen, headline, pretraining, suite_score
from analysis.tables import best_strategy, cells, stability
from analysis.transfer import transfer, transfer_table
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
    "load_runs",
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
