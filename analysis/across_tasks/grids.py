"""One column per task: every technique, and how the models were pretrained."""

import pandas as pd

from analysis.across_tasks.chosen import chosen
from analysis.frames.runs import BASELINE, baseline_of, blocks, checked, final
from analysis.per_task.cells import cells
from analysis.rendering.builder import FAILED, Columns, grid_table, mean_and_sd_text
from analysis.rendering.table import Table

SETTINGS = ["whole_word_masking", "next_sentence", "objective", "vocabulary"]  # of pretraining
SCATTER = "Mean (sd) of test scores over seeds; the sd has divisor n − 1."


def by_technique(runs: pd.DataFrame) -> pd.DataFrame:
    """As `tables.cells`, of each technique the configuration recommended on dev."""
    return cells(chosen(runs, ("model", "technique")))


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


def pretraining(runs: pd.DataFrame) -> pd.DataFrame:
    """As `tables.cells`, of the baseline alone, with how each model was pretrained."""
    runs = final(checked(runs))
    parts = [b[b["configuration"] == baseline_of(b)] for _, _, b in blocks(runs)]
    base = pd.concat(parts, ignore_index=True) if parts else runs
    facts = base.groupby("model")[SETTINGS].first().fillna("")
    found = cells(base)
    found = found.assign(**{name: found["model"].map(facts[name]) for name in SETTINGS})
    return found.sort_values([*SETTINGS, "model", "task"], ignore_index=True)


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
