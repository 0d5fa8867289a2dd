"""One column per task: every technique, and how the models were pretrained."""

import pandas as pd

from analysis.across_tasks.chosen import chosen_cells
from analysis.frames.runs import BASELINE, baseline_of, blocks, checked, final
from analysis.per_task.cells import cells
from analysis.rendering.builder import FAILED, Columns, grid_table, mean_and_sd_text
from analysis.rendering.table import Table

SETTINGS = ["whole_word_masking", "next_sentence", "objective", "vocabulary"]  # of pretraining
SCATTER = "Mean (sd) of test scores over seeds; the sd has divisor n − 1."


def by_technique(runs: pd.DataFrame) -> pd.DataFrame:
    """As `chosen_cells`, for each technique's configuration recommended on dev.

    Where there are no dev scores to choose by, all configurations are kept.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> by_technique(runs)[["model", "technique", "test_mean"]].round(3)
                               model technique  test_mean
        0            bert_base_cased  Standard      0.635
        1          bert_base_uncased  Standard      0.644
        2  microsoft_deberta_v3_base  Standard      0.750
        3               roberta_base  Standard      0.678
    """
    return chosen_cells(runs, ("model", "technique"), undecided=True)


def technique_table(frame: pd.DataFrame) -> Table:
    """The table of `by_technique`: models and techniques by tasks.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task in ('cb', 'copa') and model == 'roberta_base'")
        >>> technique_table(by_technique(runs)).header
        ('Technique', 'cb', 'copa')
    """
    labels = frame.groupby("technique")["configuration"].unique().to_dict()
    undecided = frame.duplicated(["task", "model", "technique"]).any()
    rows: Columns = {
        "Model": lambda r: r.model,
        "Technique": lambda r: (
            r.configuration if undecided or len(labels[r.technique]) == 1 else r.technique
        ),
    }
    several = any(len(each) > 1 for each in labels.values())
    choice = (
        "All settings are shown where there are no dev scores to choose by."
        if undecided
        else "Each technique's settings are those recommended on dev, per task and model."
    )
    notes = [SCATTER, *([choice] if several else [])]
    return grid_table(
        ("by_technique", "Techniques by task"),
        frame,
        rows,
        lambda r: r.task,
        text=mean_and_sd_text,
        notes=notes,
        method=[FAILED],
    )


def pretraining(runs: pd.DataFrame) -> pd.DataFrame:
    """As `cells`, for the baseline alone, with the pretraining settings of each model.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> is_bert = runs["model"].str.startswith("bert")
        >>> runs = runs.assign(next_sentence=is_bert.map({True: "yes", False: "no"}))
        >>> pretraining(runs)[["next_sentence", "model", "test_mean"]].round(3)
          next_sentence                      model  test_mean
        0            no  microsoft_deberta_v3_base      0.750
        1            no               roberta_base      0.678
        2           yes            bert_base_cased      0.635
        3           yes          bert_base_uncased      0.644
    """
    runs = final(checked(runs))
    parts = [b[b["configuration"] == baseline_of(b)] for _, _, b in blocks(runs)]
    base = pd.concat(parts, ignore_index=True) if parts else runs
    facts = base.groupby("model")[SETTINGS].first().fillna("")
    frame = cells(base)
    frame = frame.assign(**{name: frame["model"].map(facts[name]) for name in SETTINGS})
    return frame.sort_values([*SETTINGS, "model", "task"], ignore_index=True)


def pretraining_table(frame: pd.DataFrame) -> Table:
    """The table of `pretraining`: pretraining settings and models by tasks.

    Example:
        >>> from analysis import example_runs
        >>> pretraining_table(pretraining(example_runs().query("task == 'cb'"))).title
        'Scores by pretraining settings'
    """
    rows: Columns = {
        "Whole-word masking": lambda r: r.whole_word_masking or "–",
        "Next sentence": lambda r: r.next_sentence or "–",
        "Objective": lambda r: r.objective or "–",
        "Vocabulary": lambda r: r.vocabulary or "–",
        "Model": lambda r: r.model,
    }
    return grid_table(
        ("pretraining", "Scores by pretraining settings"),
        frame,
        rows,
        lambda r: r.task,
        text=mean_and_sd_text,
        notes=[
            f"All fine-tuned with {BASELINE}; a dash where a setting is unknown.",
            SCATTER,
        ],
        method=[FAILED],
    )
