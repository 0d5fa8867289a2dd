"""Average ranks over tasks, with Friedman's test and its post-hoc tests.

Here and in `aggregates` and `equivalence`, `by` ends with the column that is compared, after those
it is compared within: `("model", "configuration")` compares the configurations of each model,
`("model", "technique")` each technique at its configuration recommended on dev per task, and
`("model",)` the models at theirs. Scores are test scores; nothing is chosen by them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.across_tasks.pools import BY, Pool, average_ranks, best_ranked, pools, sorted_rows
from analysis.across_tasks.table_columns import (
    FAILED_NOTES,
    RUNS_NOTES,
    count_columns,
    dropped_notes,
    name_columns,
)
from analysis.frames.runs import BASELINE, Row
from analysis.rendering.builder import Columns, RowTuple, table_of
from analysis.rendering.formatting import (
    DAGGER,
    number_text,
    number_with_interval,
    p_sentence,
    p_text,
)
from analysis.rendering.table import Table
from analysis.statistics.common import ALPHA
from analysis.statistics.intervals import mean_interval
from analysis.statistics.ranks import (
    critical_difference,
    iman_davenport,
    least_tasks,
    maximal_groups,
    wilcoxon_holm,
)
from analysis.statistics.ranks import friedman as friedman_test
from analysis.statistics.ranks import ranks as places_of


def ranks(runs: pd.DataFrame, *, by: Sequence[str] = BY) -> pd.DataFrame:
    """Average rank of each group over tasks, with post-hoc tests.

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: The column compared, last, preceded by those it is compared within.

    Returns:
        One row per group, within a pool (the rows compared with each other) by average rank: the
        names of `by`, average_rank (1 is best; of the mean test scores on each task) with its t
        interval over tasks (rank_low, rank_high, rank_reason), group (numbers of its bars in a
        critical-difference diagram, joined by ", "), p_best and p_baseline (Wilcoxon's signed-rank
        test against the group with the best average rank and against the baseline, Holm-adjusted
        over all pairs of the pool; NaN against itself, without a baseline, and where p_reason is
        `n_too_small`: too few tasks to reach 5%), clean_rank and clean_tasks (without failed
        runs), is_baseline, compared (number of groups in the pool), tasks (those with a score of
        every group; `friedman` names the others), and on these n (fewest seeds), finished, asked
        and failed.

    Raises:
        ValueError: If `runs` or `by` is malformed.

    Source: Demšar 2006. Every task counts once, whatever its number of seeds.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs()
        >>> ranks(runs, by=("model",))[["model", "average_rank", "group", "p_best"]].round(4)
                               model  average_rank group  p_best
        0  microsoft_deberta_v3_base        1.2857     1     NaN
        1               roberta_base        1.9524     1  0.0005
        2          bert_base_uncased        3.1905     2  0.0000
        3            bert_base_cased        3.5714     2  0.0000
    """
    rows: list[Row] = []
    for pool in pools(runs, by):
        rows += sorted_rows(_ranked(pool), "average_rank")
    names = [*by, "average_rank", "rank_low", "rank_high", "group", "p_best", "tasks", "n"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)


def _ranked(pool: Pool) -> list[Row]:
    used, k = pool.complete("all_floor"), len(pool.names)
    table, without = pool.means("all_floor"), pool.means("excluded")
    places = places_of(table)
    average, clean = average_ranks(places), average_ranks(places_of(without))
    groups = maximal_groups(average, critical_difference(tasks=len(used), techniques=k))
    _, p = wilcoxon_holm(table)
    reachable = k > 1 and len(used) >= least_tasks(k * (k - 1) // 2)
    against = {"p_best": best_ranked(pool, average), "p_baseline": pool.baseline}
    rows = []
    for i, name in enumerate(pool.names):
        ends = mean_interval(places[:, i])
        row = pool.where | {pool.kind: name, "average_rank": average[i]}
        row |= {"rank_low": max(ends.low, 1.0), "rank_high": min(ends.high, float(k))}
        row |= {"rank_reason": ends.reason}
        row["group"] = ", ".join(str(g) for g, each in enumerate(groups, 1) if i in each)
        for column, other in against.items():
            known = reachable and other != ""
            row[column] = p[i, pool.names.index(other)] if known else np.nan
        row["p_reason"] = "" if reachable else "n_too_small"
        row |= {"clean_rank": clean[i], "clean_tasks": len(without)}
        row |= {"is_baseline": name == pool.baseline, "compared": k}
        rows.append(row | pool.counts(used, name))
    return rows


def friedman(runs: pd.DataFrame, *, by: Sequence[str] = BY) -> pd.DataFrame:
    """Friedman's test of equal ranks over tasks, with Nemenyi's critical difference.

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: The column compared, last, preceded by those it is compared within.

    Returns:
        One row per pool: the leading names of `by`, compared, tasks and dropped (numbers),
        dropped_tasks (which and why, joined by "; "), chi2 with its p (corrected for ties),
        Iman and Davenport's f with f_p, reason (why there is no p), critical_difference (Nemenyi's,
        5%), least_tasks (with fewer, Wilcoxon's test of all pairs cannot reach 5%), n (fewest
        seeds of a cell), best (best average rank), clean_p and clean_best (without failed runs),
        and sensitivity, a sentence if leaving out failed runs changes the conclusion.

    Raises:
        ValueError: If `runs` or `by` is malformed.

    Source: Friedman 1937, Iman & Davenport 1980, Nemenyi 1963; Demšar 2006.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs()
        >>> friedman(runs, by=("model",))[["tasks", "chi2", "critical_difference"]].round(2)
           tasks   chi2  critical_difference
        0     21  42.83                 1.02
    """
    rows: list[Row] = []
    for pool in pools(runs, by):
        used, k = pool.complete("all_floor"), len(pool.names)
        table, without = pool.means("all_floor"), pool.means("excluded")
        test, clean = friedman_test(table), friedman_test(without)
        f = iman_davenport(test.statistic, tasks=len(used), techniques=k)
        row: Row = pool.where | {"compared": k, "tasks": len(used)} | pool.dropped(used)
        row |= {"chi2": test.statistic, "p": test.p, "reason": test.reason}
        row |= {"f": f.statistic, "f_p": f.p}
        row |= {"critical_difference": critical_difference(tasks=len(used), techniques=k)}
        row |= {"least_tasks": least_tasks(max(1, k * (k - 1) // 2))}
        row |= {"n": min(pool.counts(used, name)["n"] for name in pool.names)}
        row |= {"best": best_ranked(pool, average_ranks(places_of(table))), "clean_p": clean.p}
        row |= {"clean_best": best_ranked(pool, average_ranks(places_of(without)))}
        rows.append(row | {"sensitivity": _sensitivity(row)})
    names = [*by[:-1], "compared", "tasks", "chi2", "p", "critical_difference"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)


def _sensitivity(row: Row) -> str:
    """A sentence on what leaving out the failed runs would change; empty if nothing."""
    changes = []
    if row["clean_best"] != row["best"]:
        best = row["clean_best"] or "nothing"
        changes.append(f"{best}, not {row['best']}, has the best average rank")
    before, after = row["p"] < ALPHA, row["clean_p"] < ALPHA
    if before != after:
        changes.append(f"Friedman's test is {'' if after else 'not '}significant")
    return f"Without failed runs {', and '.join(changes)}." if changes else ""


def ranks_table(frame: pd.DataFrame, tests: pd.DataFrame) -> Table:
    """The table of `ranks`, with the tests of `friedman` in its caption.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs()
        >>> by = ("model",)
        >>> ranks_table(ranks(runs, by=by), friedman(runs, by=by)).header[:4]
        ('Model', 'Average rank [95% CI]', 'Group', 'p vs best')
    """
    tested: list[RowTuple] = list(tests.itertuples())
    doubtful = {(getattr(r, "model", ""), r.best) for r in tested if r.sensitivity}
    reached = not frame.empty and (frame["p_reason"] == "").any()
    columns: Columns = name_columns(frame, doubtful)
    columns |= {
        "Average rank [95% CI]": lambda r: number_with_interval(
            r.average_rank, r.rank_low, r.rank_high
        ),
        "Group": lambda r: r.group or "–",
    }
    if reached:
        columns |= {"p vs best": lambda r: p_text(r.p_best)}
        if frame["p_baseline"].notna().any():
            columns |= {f"p vs {BASELINE}": lambda r: p_text(r.p_baseline)}
    columns |= {"Rank without failed runs": lambda r: number_text(r.clean_rank), **count_columns()}
    notes = [
        "Ranks of mean test scores within each task (1 is best), averaged, with a 95% t interval "
        "over tasks.",
        "Group: average ranks that differ by less than the critical difference (Nemenyi, 5%).",
    ]
    if reached:
        notes.append("p: Wilcoxon's signed-rank test over tasks, Holm-adjusted over all pairs.")
    notes += map(_tested, tested)
    notes += [f"{DAGGER} {_of(r)}{r.sensitivity}" for r in tested if r.sensitivity]
    details = ["Rank without failed runs", "Runs"]
    return table_of(
        "ranks",
        "Average ranks over tasks",
        frame,
        columns,
        notes=notes,
        details=details,
        method=[
            "Tasks have equal weight. Being in the same group does not show that two are equal.",
            *FAILED_NOTES,
            *RUNS_NOTES,
            *dropped_notes(tests),
        ],
    )


def _of(row: RowTuple) -> str:
    """The name of the pool a sentence is about; empty where there is only one."""
    name = getattr(row, "model", "")
    return f"{name}: " if name else ""


def _tested(row: RowTuple) -> str:
    groups = f"{row.compared} compared on {row.tasks} {'task' if row.tasks == 1 else 'tasks'}"
    if row.reason == "n_too_small":
        text = f"{groups}, too few for Friedman's test (at least three on two tasks)"
    elif row.reason == "all_tied":
        text = f"{groups}, and all score the same"
    else:
        text = f"{groups}, Friedman's chi-square {row.chi2:.1f} ({p_sentence(row.p)})"
    if np.isfinite(row.critical_difference):
        text += f"; critical difference {row.critical_difference:.2f}"
    if row.compared > 1 and row.tasks < row.least_tasks:
        text += (
            f"; Wilcoxon's test, adjusted for so many pairs, cannot reach 5% below "
            f"{row.least_tasks} tasks"
        )
    return f"{_of(row)}{text}."
