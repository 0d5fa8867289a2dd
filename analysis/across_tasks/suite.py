"""Suite scores: means over the tasks of a benchmark such as BLURB, chosen on dev per task."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.across_tasks.chosen import chosen, chosen_cells, unfit
from analysis.across_tasks.shared_runs import TOGETHER, on_several_tasks, run_ids
from analysis.frames.runs import (
    Row,
    Split,
    checked,
    scores,
)
from analysis.rendering.builder import (
    FAILED,
    Columns,
    RowTuple,
    by_dev_note,
    failed_mark,
    grid_table,
    table_of,
)
from analysis.rendering.formatting import (
    ENTERS,
    count_text,
    interval_text,
    score_text,
    score_with_interval,
)
from analysis.rendering.table import Table
from analysis.statistics.common import DECIMALS, FloatArray
from analysis.statistics.estimates import mean
from analysis.statistics.intervals import weighted_mean_interval

BLURB = {  # task: type; a contract test holds it against the catalogue of `study`
    **dict.fromkeys(("bc5_chem", "bc5_disease", "ncbi_disease", "bc2gm", "jnlpba"), "NER"),
    "ebm_pico": "PICO",
    **dict.fromkeys(("chemprot", "ddi", "gad"), "relation extraction"),
    "biosses": "sentence similarity",
    "hoc": "document classification",
    **dict.fromkeys(("pubmedqa", "bioasq"), "question answering"),
}

Scored = dict[str, tuple[FloatArray, list[str]]]  # by task: the scores, and the runs they are of
INTERVAL = "95% t intervals of means over tasks are for new seeds on the same tasks"
SEPARATE = f"{INTERVAL}; each run was scored on one task."
SHARED = f"{INTERVAL}. {TOGETHER}, which the intervals allow for."


def suite_score(
    runs: pd.DataFrame,
    types: Mapping[str, str] | None = None,
    *,
    by: Sequence[str] = ("model", "configuration"),
) -> pd.DataFrame:
    """Suite score: mean over seeds, then over the tasks of a type, then over types.

    Args:
        runs: One row per run, as `load_runs` gives them.
        types: Type by task, for all tasks of the suite; a task without one is its own type, so
            that `{}` gives the plain mean of GLUE. None uses the types in the frame.
        by: Columns that identify a group. With `("model", "technique")` or `("model",)` each task
            enters with the configuration recommended for it on dev.

    Returns:
        One row per group, within a model by dev score, highest first: label (the name of the
        score, which says if it covers only part of the suite), test and dev with their intervals
        as `test_low` and so on, both over the tasks with a test score; tasks and types (their
        numbers), absent (tasks of the suite without a score, joined by "; "), n (fewest seeds of a
        task), finished, asked and failed (runs), shared (whether a run was scored on several
        tasks), metrics (of its tasks, joined by "; ") and scale. A failed run enters as it does in
        `cells`. Intervals are for new seeds on the same tasks, each at the configuration chosen
        here; NaN where a task has a single seed.

    Raises:
        ValueError: If `runs` or `by` is malformed, or a metric is not a share.

    Source: Gu et al. 2021, BLURB's macro average over task types; Wang et al. 2019, GLUE's over
        tasks. Interval: `statistics.intervals.weighted_mean_interval`; `shared_runs.run_ids` says
        which runs count as shared. With normal scores it covers the truth in 95% from three seeds,
        whether runs are shared or not.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task in ('cb', 'copa', 'rte')")
        >>> suite_score(runs)[["model", "label", "test", "test_low", "test_high"]].round(3)
                               model            label   test  test_low  test_high
        0            bert_base_cased  mean over tasks  0.594     0.582      0.607
        1          bert_base_uncased  mean over tasks  0.579     0.562      0.597
        2  microsoft_deberta_v3_base  mean over tasks  0.719     0.706      0.732
        3               roberta_base  mean over tasks  0.630     0.618      0.641
    """
    _refuse(unfit(runs))
    runs = chosen(runs, by)
    suite, own = _suite(runs, types)
    rows: list[Row] = []
    for key, part in runs.groupby(list(by)):
        test, dev = _scored(part, "test"), _scored(part, "dev")
        covered = {task: own[task] for task in test}
        present = {*covered, *map(_whole, covered)}
        tests = [scores(cell, "test") for _, cell in part.groupby("task")]
        shared = on_several_tasks(part)
        row: Row = dict(zip(by, key, strict=True)) | {"label": _label(covered, suite)}
        row |= _mean(test, own, name="test")
        row |= _mean({t: dev[t] for t in test if test.keys() <= dev.keys()}, own, name="dev")
        row |= {"tasks": len(covered), "types": len(set(covered.values()))}
        row |= {"absent": "; ".join(task for task in suite if task not in present)}
        row |= {"n": min(x.all_floor.size for x in tests)}
        row["finished"] = sum(x.finished for x in tests)
        row |= {"asked": len(part), "failed": sum(int(x.failed.sum()) for x in tests)}
        row["metrics"] = "; ".join(sorted(part["metric"].unique()))
        rows.append(row | {"shared": shared, "scale": 100.0})
    if not rows:
        return pd.DataFrame(columns=[*by, "label", "test", "test_low", "test_high", "absent"])
    table = pd.DataFrame(rows)
    order = table.assign(rank=-table["dev"].round(DECIMALS))
    return order.sort_values(["model", "rank", *by], ignore_index=True).drop(columns="rank")


def type_means(runs: pd.DataFrame, types: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Mean test score over the tasks of each type, per model at its choices on dev.

    Args:
        runs: One row per run, as `load_runs` gives them.
        types: As for `suite_score`.

    Returns:
        One row per model and type with several tasks: task_type, label (which says if tasks
        have no score), test with its interval, shared (as for `suite_score`) and scale.

    Raises:
        ValueError: If `runs` is malformed, or a metric is not a share.
    """
    _refuse(unfit(runs))
    runs = chosen(runs)
    suite, own = _suite(runs, types)
    counts = Counter(own.values())
    rows: list[Row] = []
    for model, part in runs.groupby("model"):
        scored, shared = _scored(part, "test"), on_several_tasks(part)
        for name, whole in Counter(suite.values()).items():
            tasks = {task: x for task, x in scored.items() if own[task] == name}
            if counts[name] > 1:
                few = f" ({len(tasks)} of {whole})" if len(tasks) < whole else ""
                row: Row = {"model": model, "task_type": name, "label": f"{name} mean{few}"}
                row |= _mean(tasks, own, name="test")
                rows.append(row | {"shared": shared, "scale": 100.0})
    columns = ["model", "task_type", "label", "test", "test_low", "test_high", "shared", "scale"]
    return pd.DataFrame(rows, columns=columns)


def headline(runs: pd.DataFrame, types: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Every model at its best configuration per task, chosen on dev and reported on test.

    Args:
        runs: One row per run, as `load_runs` gives them.
        types: As for `suite_score`.

    Returns:
        One row per model and score: part (`task`, `type` or `suite`), name, label, test,
        test_low, test_high, and the other columns of `chosen_cells`, `type_means` or `suite_score`.
        Tasks are grouped by type, each type followed by its mean; the suite score comes last. No
        means where a metric is not a share; see `across_tasks.chosen.unfit`.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task in ('cb', 'copa', 'rte')")
        >>> best = headline(runs.query("model == 'roberta_base'"))
        >>> best[["part", "name", "test", "test_low", "test_high"]].round(3)
            part         name   test  test_low  test_high
        0   task           cb  0.678     0.658      0.698
        1   task         copa  0.487     0.459      0.515
        2   task          rte  0.724     0.714      0.734
        3  suite  suite score  0.630     0.618      0.641
    """
    frame = chosen_cells(runs).rename(
        columns={f"test_mean{end}": f"test{end}" for end in ("", "_low", "_high")}
    )
    suite, own = _suite(checked(runs), types)
    position = {name: number for number, name in enumerate(dict.fromkeys(suite.values()))}
    parts = [frame.assign(part="task", name=frame["task"], label=frame["task"])]
    parts[0]["place"] = [position[own[task]] for task in frame["task"]]
    if not frame.empty and not unfit(runs):
        means = type_means(runs, types).assign(part="type")
        means["name"], means["place"] = (
            means["task_type"] + " mean",
            means["task_type"].map(position),
        )
        total = suite_score(runs, types, by=("model",))
        parts += [means, total.assign(part="suite", name="suite score", place=len(position))]
    together = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    together["last"] = together["part"] != "task"  # the mean of a type follows its tasks
    order = together.sort_values(["model", "place", "last", "name"], ignore_index=True)
    return order.drop(columns=["place", "last"])


def _refuse(wrong: Mapping[str, str]) -> None:
    if wrong:
        named = ", ".join(f"{task} ({metric})" for task, metric in wrong.items())
        raise ValueError(
            "a mean over tasks needs scores that are shares (at most 1, higher is better), which "
            f"these are not: {named}. Leave the tasks out, or score them by another metric."
        )


def _scored(part: pd.DataFrame, split: Split) -> Scored:
    """The scores of each task that has one, and the runs that they are of."""
    found: Scored = {}
    ids = run_ids(part)
    for task, cell in part.groupby("task"):
        x = scores(cell, split).coded
        known = ~np.isnan(x)
        if known.any():
            found[str(task)] = x[known], list(ids[cell.index][known])
    return found


def _mean(scored: Scored, types: Mapping[str, str], *, name: str) -> Row:
    """Mean over the tasks of a type, then over types, with its interval; NaN without tasks."""
    if not scored:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan)
    sizes = Counter(types[task] for task in scored)
    weights = [1 / (len(sizes) * sizes[types[task]]) for task in scored]
    values, runs = zip(*scored.values(), strict=True)
    found = weighted_mean_interval(values, runs, weights)
    centre = sum(w * mean(x) for w, x in zip(weights, values, strict=True))
    return {name: float(centre), f"{name}_low": found.low, f"{name}_high": found.high}


def _suite(
    runs: pd.DataFrame, types: Mapping[str, str] | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Type by task, of the whole suite and of the tasks that were run."""
    known = runs.groupby("task")["task_type"].first() if types is None else types
    own = {str(task): known.get(task) or str(task) for task in sorted(runs["task"].unique())}
    if types is not None:
        return {**types, **own}, own
    blurb = all(BLURB.get(_whole(task)) == name for task, name in own.items())
    return (BLURB if blurb and own else own), own


def _whole(task: str) -> str:
    """The task that a subset such as `gad@256` was drawn from."""
    return task.split("@")[0]


def _label(covered: Mapping[str, str], suite: Mapping[str, str]) -> str:
    """The name of a mean over the covered tasks."""
    k, m = len(set(covered.values())), len(set(suite.values()))
    words = "tasks" if m == len(suite) else "task types"
    if covered == suite:
        return "BLURB score" if covered == BLURB else f"mean over {words}"
    few = f", {len(covered)} of {len(suite)} tasks" if k == m and len(covered) < len(suite) else ""
    return f"mean over covered {words} ({k} of {m}{few})"


def suite_table(frame: pd.DataFrame) -> Table:
    """The table of `suite_score`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task in ('cb', 'copa', 'rte')")
        >>> suite_table(suite_score(runs)).body[0][:3]
        ('bert_base_cased', 'Standard', '59.4')
    """
    labels = frame["label"].unique()
    same = len(labels) == 1
    dev = frame["dev"] if "dev" in frame else pd.Series(dtype="float64")  # there are no runs
    columns: Columns = {"Model": lambda r: r.model}
    if "technique" in frame:
        columns["Technique"] = lambda r: r.technique
    if "configuration" in frame:
        columns["Configuration"] = lambda r: r.configuration
    if not same:
        columns["Score"] = lambda r: r.label
    columns |= {
        f"Test {labels[0]}" if same else "Test": lambda r: score_text(r.test, r.scale),
        "95% CI of test": lambda r: interval_text(r.test_low, r.test_high, scale=r.scale),
        **({"Dev": lambda r: score_text(r.dev, r.scale)} if dev.notna().any() else {}),
        "Tasks": lambda r: f"{r.tasks}",
        "Min n": lambda r: f"{r.n}",
        "Runs": lambda r: count_text(r.finished, r.asked),
        "Failed": lambda r: f"{r.failed}",
    }
    if frame["absent"].any():
        columns["No score on"] = lambda r: r.absent.replace("; ", ", ") or "–"
    notes = [
        "In points, higher is better: mean over seeds, then over the tasks of a type, then over "
        "types.",
        "Min n: number of seeds on the task with the fewest.",
        *_metrics_note(frame),
        by_dev_note(dev, "score"),
    ]
    method = [f"A failed run {ENTERS}.", _interval_note(frame)]
    return table_of("suite", "Suite scores", frame, columns, notes=notes, details=[], method=method)


def _interval_note(frame: pd.DataFrame) -> str:
    return SHARED if "shared" in frame and (frame["shared"] == True).any() else SEPARATE  # noqa: E712  (NaN for single tasks)


def _metrics_note(frame: pd.DataFrame) -> list[str]:
    """A sentence where a mean over tasks mixes metrics, such as accuracy with a correlation."""
    if "metrics" not in frame:
        return []
    mixed = sorted({text for text in frame["metrics"].dropna() if ";" in text})
    return [
        f"Means over tasks mix metrics as they stand: {text.replace('; ', ', ')}." for text in mixed
    ]


def headline_table(frame: pd.DataFrame) -> Table:
    """The table of `headline`: models by tasks, types and the suite.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task in ('cb', 'copa', 'rte')")
        >>> headline_table(headline(runs)).header
        ('Model', 'cb', 'copa', 'rte', 'mean over tasks')
    """
    labels = frame.groupby("name")["label"].unique().to_dict()

    def text(row: RowTuple) -> str:
        shown = score_text(row.test, row.scale)
        if row.part == "task":
            return shown + failed_mark(row)
        if row.part == "suite":
            shown = score_with_interval(row.test, row.test_low, row.test_high, scale=row.scale)
        rest = row.label.removeprefix(row.name).strip()
        return f"{shown}, {rest}" if len(labels[row.name]) > 1 and rest else shown

    notes = ["Each task at the configuration recommended on dev. Means of test scores over seeds."]
    means = (frame["part"] == "suite").any()
    notes += (
        _metrics_note(frame) if means else ["No mean over tasks, since not all metrics are shares."]
    )
    return grid_table(
        ("headline", "Models at their best configurations"),
        frame,
        {"Model": lambda r: r.model},
        lambda r: labels[r.name][0] if len(labels[r.name]) == 1 else r.name,
        text=text,
        notes=notes,
        method=[*([_interval_note(frame)] if means else []), FAILED],
    )
