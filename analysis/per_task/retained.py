"""What fine-tuning forgets: the share of other skills that the runs of a cell retained."""

import numpy as np
import pandas as pd

from analysis.frames.metric_names import meaning
from analysis.frames.runs import CELL, Row
from analysis.rendering.builder import CELL_COLUMNS, POINTS, Columns, RowTuple, table_of
from analysis.rendering.formatting import mean_sd_text, score_text, score_with_interval
from analysis.rendering.table import Table
from analysis.statistics.common import LEVEL, FloatArray
from analysis.statistics.estimates import mean, sd
from analysis.statistics.intervals import mean_interval

FIELDS = ("retained_mean", "retained_low", "retained_high", "retained_sd")
RETAINED = (
    "Retained: share of the untouched checkpoint's score that a run still has on the other task "
    "that lost most, mean over seeds with its 95% t interval; at 100% nothing is lost."
)


def retained(skills: pd.DataFrame) -> pd.DataFrame:
    """What the runs of each cell retained of each skill.

    Args:
        skills: One row per run and skill, as `load_retained` gives them.

    Returns:
        One row per cell and skill: task, model, configuration, skill, metric, scale (100 where
        scores are proportions, else 1), n (runs), before, after_mean and after_sd in the metric's
        own unit, and retained_mean, retained_low, retained_high and retained_sd, see `retained_of`.
        Most retained first within a task, model and skill. Empty if nothing was measured.

    Example:
        >>> import pandas as pd
        >>> cell = {"task": "sft", "model": "smol", "configuration": "LoRA", "stage": "final"}
        >>> skill = {"skill": "wiki", "metric": "perplexity", "before": 20.0}
        >>> runs = pd.DataFrame(
        ...     [
        ...         {**cell, **skill, "seed": 0, "after": 25.0, "retained": 0.8},
        ...         {**cell, **skill, "seed": 1, "after": 20.0, "retained": 1.0},
        ...     ]
        ... )
        >>> retained(runs)[["skill", "n", "after_mean", "retained_mean"]]
          skill  n  after_mean  retained_mean
        0  wiki  2        22.5            0.9
    """
    names = [*CELL, "skill", "metric", "scale", "n", "before", "after_mean", "after_sd", *FIELDS]
    final = skills[skills["stage"] == "final"] if len(skills) else skills
    if final.empty:
        return pd.DataFrame(columns=names)
    rows: list[Row] = []
    for (*cell, skill), part in final.groupby([*CELL, "skill"]):
        metric, after = str(part["metric"].iloc[0]), part["after"].to_numpy("float64")
        scores = final.loc[final["skill"] == skill, ["before", "after"]].to_numpy()
        share = meaning(metric).direction != "lower" and (np.abs(scores) <= 1).all()
        row: Row = dict(zip(CELL, cell, strict=True)) | {"skill": skill, "metric": metric}
        row |= {"scale": 100.0 if share else 1.0, "n": len(part)}
        row |= {"before": float(part["before"].iloc[0]), "after_mean": mean(after)}
        row |= {"after_sd": sd(after)} | retained_of(part)
        rows.append(row)
    frame = pd.DataFrame(rows, columns=names)
    return frame.sort_values(
        ["task", "model", "skill", "retained_mean", "configuration"],
        ascending=[True, True, True, False, True],
        ignore_index=True,
    )


def retained_of(cell: pd.DataFrame, level: float = LEVEL) -> Row:
    """Mean share retained over the runs of a cell, its t interval at this level, and the sd.

    Args:
        cell: Rows with a column `retained`; runs where it is NaN are left out.
        level: Coverage.

    Returns:
        retained_mean, retained_low, retained_high and retained_sd, as shares; NaN where undefined.
    """
    values: FloatArray = cell["retained"].dropna().to_numpy("float64")
    interval = mean_interval(values, level)
    return dict(zip(FIELDS, (mean(values), interval.low, interval.high, sd(values)), strict=True))


def retained_text(row: RowTuple) -> str:
    """The mean share retained with its interval, in per cent."""
    return score_with_interval(row.retained_mean, row.retained_low, row.retained_high, scale=POINTS)


def retained_columns(frame: pd.DataFrame) -> Columns:
    """A column with the share retained, if it is known for any row."""
    known = "retained_mean" in frame and frame["retained_mean"].notna().any()
    return {"Retained, %": retained_text} if known else {}


def retained_notes(frame: pd.DataFrame) -> list[str]:
    """The note for the column of `retained_columns`, if there is one."""
    return [RETAINED] if retained_columns(frame) else []


def retained_table(frame: pd.DataFrame) -> Table:
    """The table of `retained`.

    Example:
        >>> retained_table(retained(pd.DataFrame())).title
        'Skills retained'
    """
    columns: Columns = {
        **CELL_COLUMNS,
        "Skill": lambda r: f"{r.skill} ({r.metric})",
        "n": lambda r: f"{r.n}",
        "Before": lambda r: score_text(r.before, r.scale),
        "After": lambda r: mean_sd_text(r.after_mean, r.after_sd, r.scale),
        "Retained, %": retained_text,
    }
    notes = [
        "Scores on tasks that no run trained on, of the untouched checkpoint (before) and of the "
        "runs' models (after, mean ± sd over seeds).",
        "Retained: after over before, or where lower is better before over after; mean over seeds "
        "with its 95% t interval. At 100% nothing is lost.",
    ]
    method = [
        "Of a perplexity the share retained is that of the probability per token (geometric mean). "
        "Intervals are over seeds, not over what else might have been measured.",
    ]
    if not frame.empty and (lost := sorted(set(frame.loc[frame["before"] <= 0, "skill"]))):
        notes.append(f"The checkpoint scores nothing on {', '.join(lost)}: no share is defined.")
    return table_of(
        "retained",
        "Skills retained",
        frame,
        columns,
        notes=notes,
        details=["n"],
        method=method,
    )
