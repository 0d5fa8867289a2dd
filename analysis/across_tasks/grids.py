"""Tables as papers print them, with a column per task; the numbers are of `suite` and `tables`."""

import pandas as pd

from analysis.frames.runs import BASELINE
from analysis.rendering.builder import (
    FAILED,
    Columns,
    RowTuple,
    grid_table,
    mean_and_sd_text,
    versus_text,
)
from analysis.rendering.table import Table

SCATTER = "Mean (sd) of test scores over seeds; the sd has divisor n − 1."


def technique_table(found: pd.DataFrame) -> Table:
    """Models and techniques by tasks, as `suite.by_technique` gives them."""
    labels = found.groupby("technique")["configuration"].unique().to_dict()
    rows: Columns = {
        "Model": lambda r: r.model,
        "Technique": lambda r: (
            labels[r.technique][0] if len(labels[r.technique]) == 1 else r.technique
        ),
    }
    several = any(len(each) > 1 for each in labels.values())
    choice = "A technique's settings are those recommended on dev, for each task and model."
    notes = [SCATTER, *([choice] if several else []), FAILED]
    return grid_table(
        ("by_technique", "Techniques by task"),
        found,
        rows,
        lambda r: r.task,
        text=mean_and_sd_text,
        notes=notes,
    )


def strategy_table(found: pd.DataFrame) -> Table:
    """The recommended configuration of tasks by models, as `tables.best_strategy` gives it."""
    found = found.sort_values(["family", "model", "task"])

    def text(row: RowTuple) -> str:
        if not row.recommended:
            return "–"
        tied = len(row.tied.split("; ")) if row.tied else 0
        gain = "" if row.reason == "is_baseline" else f" {versus_text(row)}"
        return f"{row.recommended}{gain}" + (f", {tied} level" if tied else "")

    notes = [
        f"Chosen on dev; the gain over {BASELINE} is of test means over seeds, with its 95% Welch "
        "interval, not adjusted for the number of comparisons.",
        "Level: how many other configurations a Welch test does not tell from the best on dev.",
    ]
    return grid_table(
        ("strategies", "Best strategy by model family"),
        found,
        {"Task": lambda r: r.task},
        lambda r: f"{r.family}: {r.model}" if r.family else r.model,
        text=text,
        notes=notes,
    )


def pretraining_table(found: pd.DataFrame) -> Table:
    """How models were pretrained by tasks, as `suite.pretraining` gives it."""
    rows: Columns = {
        "Whole-word masking": lambda r: r.whole_word_masking or "–",
        "Next sentence": lambda r: r.next_sentence or "–",
        "Objective": lambda r: r.objective or "–",
        "Vocabulary": lambda r: r.vocabulary or "–",
        "Model": lambda r: r.model,
    }
    return grid_table(
        ("pretraining", "Pretraining settings"),
        found,
        rows,
        lambda r: r.task,
        text=mean_and_sd_text,
        notes=[f"All by {BASELINE}; a dash where a setting is not known.", SCATTER, FAILED],
    )
