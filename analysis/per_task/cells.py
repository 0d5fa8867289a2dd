"""Summary statistics of every cell: location, spread and failures over seeds."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from analysis.frames.runs import (
    CELL,
    Row,
    Split,
    blocks,
    checked,
    configurations,
    final,
    scores,
    task_facts,
)
from analysis.per_task.failures import failed_text
from analysis.per_task.retained import retained_columns, retained_notes, retained_of
from analysis.rendering.builder import (
    SHARED_COLUMNS,
    Columns,
    RowTuple,
    by_dev_note,
    floor_notes,
    n_note,
    table_of,
    tried_columns,
    tried_notes,
)
from analysis.rendering.formatting import (
    ENTERS,
    count_text,
    interval_text,
    mean_sd_text,
    pair_text,
    percent_text,
    possible,
    score_text,
    sd_interval_text,
)
from analysis.rendering.table import Table
from analysis.statistics.collapse import COLLAPSED
from analysis.statistics.common import DECIMALS
from analysis.statistics.summary import summarise

SPLITS: tuple[Split, ...] = ("test", "dev")
WORST_AND_BEST = "Expected worst and best of 3 runs"
OF_SPLIT: dict[Split, tuple[str, ...]] = {  # columns of `cells_table`
    "test": (
        *("Test mean ± sd", "95% CI of mean", "95% CI of sd", "Median", "IQM", "Quartiles"),
        *("Min, max", WORST_AND_BEST, "CV", "Without failed runs"),
    ),
    "dev": ("Dev mean ± sd", "Dev median", "Dev IQM", "Dev min, max"),
}


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Summary statistics of each cell.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per cell of the final stage: task, model, configuration, technique, tried
        (number of configurations that it was chosen from; 1 if it was not searched), metric,
        higher_is_better, scale (factor by which tables multiply scores), asked (runs that the
        study asks for), finished (completed or diverged), seconds (mean per run), retained_mean
        with retained_low, retained_high and retained_sd (see `retained_of`), missing,
        diverged, collapsed, failure rate with its interval, and the fields of
        `statistics.summary.Statistics` of all finished runs as `test_*` and `dev_*`, of those that
        did not fail as `test_clean_*` and `dev_clean_*`, in the metric's own unit. Sorted by task,
        model, dev mean (best first) and name. Empty if there are no runs.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb' and model.str.startswith('bert')")
        >>> cells(runs)[["model", "test_n", "test_mean", "test_sd"]].round(3)
                       model  test_n  test_mean  test_sd
        0    bert_base_cased      20      0.635    0.066
        1  bert_base_uncased      20      0.644    0.100
    """
    rows: list[Row] = []
    for task, model, block in blocks(final(checked(runs))):
        for label, cell in configurations(block).items():
            row: Row = {"task": task, "model": model, "configuration": label}
            row["technique"] = cell["technique"].iloc[0]
            row["tried"] = int(cell["tried"].max())
            row |= task_facts(block)
            both = {split: summarise(scores(cell, split)) for split in SPLITS}
            # Imported scores may cover one split alone; a run with either score has finished.
            counts = asdict(min(both.values(), key=lambda summary: summary.missing))
            row |= {"asked": len(cell), "finished": len(cell) - counts["missing"]}
            row["seconds"] = float(cell["seconds"].mean())
            row |= retained_of(cell)
            for split, summary in both.items():
                whole, clean = asdict(summary.whole), asdict(summary.clean)
                row |= {f"{split}_{field}": value for field, value in whole.items()}
                row |= {f"{split}_clean_{field}": value for field, value in clean.items()}
            row |= {name: counts[name] for name in counts if name not in ("whole", "clean")}
            rows.append(row)
    if not rows:
        return pd.DataFrame(
            columns=[*CELL, "technique", "finished", "test_mean", "test_sd", "dev_mean"]
        )
    frame = pd.DataFrame(rows)
    rank = (frame["dev_mean"] * np.where(frame["higher_is_better"], -1, 1)).round(DECIMALS)
    return (
        frame.assign(rank=rank)
        .sort_values(["task", "model", "rank", "configuration"], ignore_index=True)
        .drop(columns="rank")
    )


def cells_table(frame: pd.DataFrame) -> Table:
    """The table of `cells`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb' and model == 'roberta_base'")
        >>> table = cells_table(cells(runs))
        >>> dict(zip(table.header, table.body[0]))["Min, max"].split()
        ['51.8,', '73.2']
    """
    columns: Columns = {
        **SHARED_COLUMNS,
        "Configuration": lambda r: r.configuration,
        **tried_columns(frame),
        "n": lambda r: count_text(r.finished, r.asked),
        "Failed": _failed,
        "Test mean ± sd": lambda r: mean_sd_text(r.test_mean, r.test_sd, r.scale),
        "95% CI of mean": _interval_of_mean,
        "95% CI of sd": lambda r: sd_interval_text(r.test_sd_low, r.test_sd_high, scale=r.scale),
        "Median": lambda r: score_text(r.test_median, r.scale),
        "IQM": lambda r: score_text(r.test_iqm, r.scale),
        "Quartiles": lambda r: pair_text(r.test_q25, r.test_q75, r.scale),
        "Min, max": lambda r: pair_text(r.test_minimum, r.test_maximum, r.scale),
        WORST_AND_BEST: _worst_and_best,
        "CV": lambda r: percent_text(r.test_cv, digits=1),
        "Without failed runs": lambda r: mean_sd_text(r.test_clean_mean, r.test_clean_sd, r.scale),
        "Dev mean ± sd": lambda r: mean_sd_text(r.dev_mean, r.dev_sd, r.scale),
        "Dev median": lambda r: score_text(r.dev_median, r.scale),
        "Dev IQM": lambda r: score_text(r.dev_iqm, r.scale),
        "Dev min, max": lambda r: pair_text(r.dev_minimum, r.dev_maximum, r.scale),
        "Seconds": lambda r: "–" if np.isnan(r.seconds) else f"{r.seconds:.3g}",
        **retained_columns(frame),
    }
    for split in SPLITS:
        if not frame.empty and frame[f"{split}_mean"].isna().all() and frame["finished"].any():
            columns = {head: text for head, text in columns.items() if head not in OF_SPLIT[split]}
    notes = [
        n_note(frame),
        "± is the standard deviation over seeds (n − 1).",
        *([f"Collapsed: {COLLAPSED}."] if not frame.empty and frame["collapsed"].any() else []),
        *(floor_notes(frame[frame["finished"] > 0]) if not frame.empty else []),
        *_splits_notes(frame),
        *tried_notes(frame),
        *retained_notes(frame),
    ]
    method = [
        f"A failed run {ENTERS}{_left_out(frame)}.",
        "'Without failed runs' excludes all of them.",
        "95% confidence intervals: t for the mean, chi-square for the sd; where runs failed, the "
        "sd has a BCa bootstrap interval from 20 seeds and none below; none where all scores are "
        "equal. IQM: interquartile mean.",
        f"{WORST_AND_BEST}: expected values for three new runs. CV: coefficient of variation "
        "(sd/mean); not given where 0 lies within the range of "
        "the scores or is the constant predictor's score.",
        "Seconds: mean per run.",
    ]
    details = ["95% CI of sd", "Median", "IQM", "Quartiles", "Min, max", WORST_AND_BEST, "CV"]
    details += ["Without failed runs"]
    details += ["Dev median", "Dev IQM", "Dev min, max", "Seconds"]
    return table_of(
        "cells",
        "Scores by configuration",
        frame,
        columns,
        notes=notes,
        details=details,
        method=method,
    )


def _splits_notes(frame: pd.DataFrame) -> list[str]:
    """How rows are sorted, and which split has no scores."""
    if frame.empty:
        return []
    test = [] if frame["test_mean"].notna().any() else ["There are no test scores."]
    return [*test, by_dev_note(frame["dev_mean"], "mean")]


def _worst_and_best(row: RowTuple) -> str:
    ends = (row.test_lowest_of_3, row.test_highest_of_3)
    return pair_text(*(ends if row.higher_is_better else ends[::-1]), row.scale)


def _left_out(frame: pd.DataFrame) -> str:
    """Says that test means use fewer runs than n, where they do."""
    unknown = not frame.empty and (frame["test_mean_reason"] == "non_finite").any()
    return "; some were excluded here, so test statistics use fewer than n runs" if unknown else ""


def _interval_of_mean(row: RowTuple) -> str:
    low, high = possible(row.test_mean_low, row.test_mean_high, metric=row.metric, scale=row.scale)
    return interval_text(low, high, scale=row.scale)


def _failed(row: RowTuple) -> str:
    return failed_text(row.diverged, row.collapsed) or "0"
