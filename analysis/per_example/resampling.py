"""Gain over the baseline with both seeds and test examples resampled (multi-bootstrap)."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.frames.predictions import Predicted, predicted
from analysis.frames.runs import CELL, Row, baseline_of, checked, final
from analysis.rendering.builder import CELL_COLUMNS, POINTS, Columns, RowTuple, table_of
from analysis.rendering.formatting import (
    interval_text,
    p_text,
    score_text,
)
from analysis.rendering.table import Table
from analysis.statistics.common import FloatArray, stream
from analysis.statistics.multibootstrap import mean_of, multibootstrap
from analysis.statistics.multiplicity import holm

_SOURCES = ("seeds", "examples", "both")


def seeds_and_examples_table(frame: pd.DataFrame) -> Table:
    """The table of `seeds_and_examples`.

    Example:
        >>> import numpy as np
        >>> import pandas as pd
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> labels = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(model="any", technique=labels, configuration=labels)
        >>> names = ["key", "task", "model", "configuration", "stage", "seed"]
        >>> examples = pd.DataFrame({"id": [*"abcd"], "split": "test", "label": "yes"})
        >>> predictions = runs[names].merge(examples, how="cross").assign(logit_no=0)
        >>> predictions["logit_yes"] = np.random.default_rng(0).normal(1, 1, len(predictions))
        >>> seeds_and_examples_table(seeds_and_examples(predictions, runs)).header[-5:]
        ('Difference', '95% CI, seeds', '95% CI, examples', '95% CI, both', 'p')
    """

    def ends(name: str) -> Callable[[RowTuple], str]:
        return lambda r: interval_text(
            getattr(r, f"{name}_low"), getattr(r, f"{name}_high"), scale=POINTS
        )

    columns: Columns = {
        **CELL_COLUMNS,
        "Baseline": lambda r: r.baseline,
        "n": lambda r: f"{r.n}, {r.n_baseline}" + (" paired" if r.paired else ""),
        "Examples": lambda r: f"{r.examples}",
        "Difference": lambda r: score_text(r.difference, POINTS, sign="+"),
        "95% CI, seeds": ends("seeds"),
        "95% CI, examples": ends("examples"),
        "95% CI, both": ends("both"),
        "p": lambda r: p_text(r.p_holm),
    }
    notes = [
        "Difference: mean test accuracy minus the baseline's, in points; higher is better.",
        "n: runs of the configuration and of the baseline.",
        "p: one-sided test of no gain, for new seeds and examples; Holm-adjusted over the "
        "configurations of a task and model.",
    ]
    method = [
        "95% t intervals with bootstrap standard errors, for new seeds on the same examples, for "
        "new examples with the same runs, and for both; from two runs on each side.",
    ]
    return table_of(
        "seeds_and_examples",
        "Gain over the baseline, seeds and examples resampled",
        frame,
        columns,
        notes=notes,
        details=["Baseline", "Examples"],
        method=method,
        nothing="No configuration and its baseline both have predictions of a classification task.",
    )


def seeds_and_examples(predictions: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Difference in test accuracy from the baseline, resampling seeds and examples.

    Args:
        predictions: One row per run and example, as `load_predictions` gives them.
        runs: One row per run, as `load_runs` gives them, to identify the baseline and the seeds.

    Returns:
        One row per cell of a classification task other than the baseline: task, model,
        configuration, baseline, n and n_baseline (runs), paired (by seed, if both sides have the
        same seeds), examples (with a label and an answer of every run of both), left_out,
        difference (accuracy minus the baseline's), 95% intervals (seeds_low, seeds_high,
        examples_low, examples_high, both_low, both_high; those of new seeds are NaN if a side has
        one run), p (one-sided, of a difference of at most
        0, resampling both) and p_holm (over the configurations of a task and model).

    Raises:
        ValueError: If `runs` or `predictions` is malformed; see `checked` and `predicted`.

    Source: Sellam et al. 2022.

    Example:
        >>> import numpy as np
        >>> import pandas as pd
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> labels = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(model="any", technique=labels, configuration=labels)
        >>> names = ["key", "task", "model", "configuration", "stage", "seed"]
        >>> examples = pd.DataFrame({"id": [*"abcd"], "split": "test", "label": "yes"})
        >>> predictions = runs[names].merge(examples, how="cross").assign(logit_no=0)
        >>> predictions["logit_yes"] = np.random.default_rng(0).normal(1, 1, len(predictions))
        >>> columns = ["configuration", "n", "examples", "difference", "both_low", "both_high"]
        >>> seeds_and_examples(predictions, runs)[columns].round(2)
                       configuration   n  examples  difference  both_low  both_high
        0          bert_base_uncased  20         4       -0.06     -0.25       0.13
        1  microsoft_deberta_v3_base  20         4       -0.08     -0.26       0.11
        2               roberta_base  20         4       -0.03     -0.18       0.13
    """
    known = final(checked(runs))
    streams = known[["key", "head", "order", "noise"]].itertuples(index=False)
    seeds = {key: f"{head} {order} {noise}" for key, head, order, noise in streams}
    blocks: dict[tuple[str, str], dict[str, Predicted]] = {}
    for cell in predicted(predictions, "test"):
        if cell.kind == "class":
            blocks.setdefault(cell.cell[:2], {})[cell.cell[2]] = cell
    rows: list[Row] = []
    for (task, model), cells in blocks.items():
        base = baseline_of(known[(known["task"] == task) & (known["model"] == model)])
        block: list[Row] = []
        for label, ours in cells.items():
            if base in cells and label != base:
                row: Row = {"task": task, "model": model, "configuration": label}
                block.append(row | {"baseline": base} | _versus(ours, cells[base], seeds))
        adjusted = holm(np.array([row["p"] for row in block]))
        rows += [row | {"p_holm": float(p)} for row, p in zip(block, adjusted, strict=True)]
    columns = [*CELL, "baseline", "n", "n_baseline", "paired", "difference", "p", "p_holm"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def _versus(ours: Predicted, theirs: Predicted, seeds: dict[str, str]) -> Row:
    own, other = ([seeds.get(key, key) for key in side.keys] for side in (ours, theirs))
    paired = sorted(own) == sorted(other)
    usable = [pd.Index(side.ids[side.complete]) for side in (ours, theirs)]
    common = usable[0].intersection(usable[1])
    row: Row = {"n": len(own), "n_baseline": len(other), "paired": paired}
    row |= {"examples": len(common), "left_out": len({*ours.ids, *theirs.ids}) - len(common)}
    if common.empty:
        ends = [f"{name}_{end}" for name in _SOURCES for end in ("low", "high")]
        return row | dict.fromkeys(["difference", *ends, "p"], np.nan)
    right = [_right(ours, common, own), _right(theirs, common, other)]
    rng = stream(*ours.cell, "seeds_and_examples")
    resampled = multibootstrap(right[0], right[1], mean_of, paired=paired, rng=rng)
    row["difference"] = resampled.estimate
    single = min(len(own), len(other)) < 2  # says nothing about other seeds
    for name in _SOURCES:
        part = getattr(resampled, name)
        low, high = (np.nan,) * 2 if single and name != "examples" else (part.low, part.high)
        row |= {f"{name}_low": low, f"{name}_high": high}
    return row | {"p": np.nan if single else resampled.both.p}


def _right(side: Predicted, examples: pd.Index, seeds: list[str]) -> FloatArray:
    """Correctness of each run, sorted by seed, shape (n_runs, n_examples)."""
    columns = pd.Index(side.ids).get_indexer(examples)
    rows = np.argsort(np.array(seeds), kind="stable")
    right = side.answers[rows][:, columns] == side.gold[columns]
    return np.asarray(right, dtype=np.float64)
