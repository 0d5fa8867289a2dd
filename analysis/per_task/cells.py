"""Frames of numbers: every cell, the best strategy per task and model, scatter against baseline."""

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
from analysis.rendering.builder import (
    SHARED_COLUMNS,
    Columns,
    RowTuple,
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
    score_text,
)
from analysis.rendering.table import Table
from analysis.statistics.common import DECIMALS
from analysis.statistics.summary import summarise

SPLITS: tuple[Split, ...] = ("test", "dev")


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """What is known of each cell.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per cell of the final stage: task, model, configuration, technique, tried
        (configurations that it was chosen from; 1 if the file states it), metric,
        higher_is_better, scale (what rendering multiplies scores by), asked (runs the study asks
        for), finished (completed or diverged), seconds (mean of a run), missing, diverged,
        collapsed, failure rate with its interval, and the fields of `View` of all finished runs
        as `test_*` and `dev_*`, of those that did not fail as `test_clean_*` and `dev_clean_*`, in
        the metric's own unit. Within a task and model by falling dev mean, then
        name. Empty for no runs.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    rows: list[Row] = []
    for task, model, block in blocks(final(checked(runs))):
        for label, cell in configurations(block).items():
            row: Row = {"task": task, "model": model, "configuration": label}
            row["technique"] = cell["technique"].iloc[0]
            row["tried"] = int(cell["tried"].max())
            row |= task_facts(block)
            both = {split: summarise(scores(cell, split)) for split in SPLITS}
            # Scores from elsewhere may be of one split alone, where a run has finished as well.
            counts = asdict(min(both.values(), key=lambda summary: summary.missing))
            row |= {"asked": len(cell), "finished": len(cell) - counts["missing"]}
            row["seconds"] = float(cell["seconds"].mean())
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
    found = pd.DataFrame(rows)
    rank = (found["dev_mean"] * np.where(found["higher_is_better"], -1, 1)).round(DECIMALS)
    return (
        found.assign(rank=rank)
        .sort_values(["task", "model", "rank", "configuration"], ignore_index=True)
        .drop(columns="rank")
    )


def cells_table(found: pd.DataFrame) -> Table:
    """The cells, as `tables.cells` gives them."""
    columns: Columns = {
        **SHARED_COLUMNS,
        "Configuration": lambda r: r.configuration,
        **tried_columns(found),
        "n": lambda r: count_text(r.finished, r.asked),
        "Failed": _failed,
        "Test mean ± sd": lambda r: mean_sd_text(r.test_mean, r.test_sd, r.scale),
        "95% of mean": lambda r: interval_text(r.test_mean_low, r.test_mean_high, scale=r.scale),
        "95% of sd": lambda r: interval_text(r.test_sd_low, r.test_sd_high, scale=r.scale),
        "Median": lambda r: score_text(r.test_median, r.scale),
        "IQM": lambda r: score_text(r.test_iqm, r.scale),
        "Quartiles": lambda r: pair_text(r.test_q25, r.test_q75, r.scale),
        "Min, max": lambda r: pair_text(r.test_minimum, r.test_maximum, r.scale),
        "Lowest, highest of 3": lambda r: pair_text(
            r.test_lowest_of_3, r.test_highest_of_3, r.scale
        ),
        "CV": lambda r: percent_text(r.test_cv, digits=1),
        "Not failed": lambda r: mean_sd_text(r.test_clean_mean, r.test_clean_sd, r.scale),
        "Dev mean ± sd": lambda r: mean_sd_text(r.dev_mean, r.dev_sd, r.scale),
        "Dev median": lambda r: score_text(r.dev_median, r.scale),
        "Dev IQM": lambda r: score_text(r.dev_iqm, r.scale),
        "Dev min, max": lambda r: pair_text(r.dev_minimum, r.dev_maximum, r.scale),
        "Seconds": lambda r: "–" if np.isnan(r.seconds) else f"{r.seconds:.3g}",
    }
    notes = [
        n_note(found),
        "± is the standard deviation over seeds (n − 1).",
        f"A failed run {ENTERS}{_left_out(found)}. 'Not failed' leaves all failed runs out.",
        "Intervals: t for the mean and chi-square for the sd; where runs failed, BCa bootstrap "
        "for the sd from 20 seeds and none below; none where all scores are equal. IQM is the mean "
        "of the middle half.",
        "Lowest, highest of 3: expected of three new runs. CV is sd over mean; none where 0 is a "
        "score like others, or what a constant answer gets.",
        "By falling dev mean; seconds are per run.",
        *tried_notes(found),
    ]
    details = ["Median", "IQM", "Quartiles", "Min, max", "Lowest, highest of 3", "CV"]
    details += ["Not failed"]
    details += ["Dev median", "Dev IQM", "Dev min, max", "Seconds"]
    return table_of("cells", "All cells", found, columns, notes=notes, details=details)


def _left_out(found: pd.DataFrame) -> str:
    """That means of `tables.cells` rest on fewer runs than n, where they do."""
    unknown = not found.empty and (found["test_mean_reason"] == "non_finite").any()
    return ", as here, so that test scores rest on fewer runs than n" if unknown else ""


def _failed(row: RowTuple) -> str:
    parts = [
        f"{count} {word}"
        for count, word in ((row.diverged, "diverged"), (row.collapsed, "collapsed"))
        if count
    ]
    return ", ".join(parts) or "0"
