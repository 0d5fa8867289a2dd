"""The Pareto front of mean score, standard deviation, failure rate, time and memory."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from analysis.frames.runs import (
    CELL,
    Row,
    blocks,
    checked,
    configurations,
    final,
    orientation,
    scores,
    task_facts,
)
from analysis.per_task.memory import needed_memory
from analysis.per_task.retained import retained_columns, retained_notes, retained_of
from analysis.rendering.builder import NAMED, RowTuple, n_note, table_of
from analysis.rendering.formatting import count_text, metric_text, score_text, sd_text
from analysis.rendering.table import Table
from analysis.statistics.common import DECIMALS, FloatArray, IntArray, stream
from analysis.statistics.estimates import mean, sd
from analysis.statistics.intervals import wilson_interval
from analysis.statistics.pareto import on_front
from analysis.statistics.rank_uncertainty import resample, widened
from analysis.statistics.summary import Scores

GOALS = ("mean", "sd", "failures", "retained", "seconds", "memory")
SAME_COST = 0.02  # smaller relative differences of time or memory count as equal
RESAMPLES = 1_000  # for front membership


def pareto(runs: pd.DataFrame) -> pd.DataFrame:
    """Pareto front over mean, sd and failure rate on dev, skills retained, time and memory.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per cell, those on the front first, then by dev mean, best first: technique, tried
        (number of configurations that it was chosen from; 1 if it was not searched), n, dev_mean
        and dev_sd, failed, failure_rate (share of the runs with a score; a diverged run has that
        of the constant predictor), failure_high (upper end of the Wilson interval of all finished
        runs, not compared: it falls with n alone), seconds (mean per run), memory (the most of any
        run, in bytes, see `needed_memory`), on_front, membership (share of bootstrap resamples of
        the runs in which it is on the front; time and memory stay as measured), what it retained
        of other skills (see `retained_of`),
        goals (the objectives compared, joined by "; "; one that is unknown for a cell with two or
        more runs is left out), test_mean, test_sd, and the task's metric, higher_is_better and
        scale. Cells with fewer than two runs are not compared: NaN in on_front and membership.
        Differences below half their standard error (mean, sd, failure rate and retained), below
        one run of the cell with fewer runs (failure rate), or below 2% (time and memory) count as
        equal.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> names = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(configuration=names, model="any", dev=runs["test"])
        >>> pareto(runs)[["configuration", "dev_mean", "dev_sd", "on_front", "goals"]].round(3)
                       configuration  dev_mean  dev_sd  on_front               goals
        0  microsoft_deberta_v3_base     0.750   0.054       1.0  mean; sd; failures
        1               roberta_base     0.678   0.042       1.0  mean; sd; failures
        2          bert_base_uncased     0.644   0.100       0.0  mean; sd; failures
        3                   Standard     0.635   0.066       0.0  mean; sd; failures
    """
    runs = final(checked(runs))
    rows: list[Row] = []
    for task, model, block in blocks(runs.assign(needed_memory=needed_memory(runs))):
        rows += _block(task, model, block)
    columns = [*CELL, "technique", "tried", "n", "dev_mean", "dev_sd", "on_front", "membership"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def _block(task: str, model: str, block: pd.DataFrame) -> list[Row]:
    parts, sign = configurations(block), orientation(block)
    dev = {label: scores(cell, "dev") for label, cell in parts.items()}
    costs = {label: costs_of(cell) for label, cell in parts.items()}
    names = [label for label in dev if dev[label].all_floor.size > 1]
    drawn = {
        name: _draws(dev[name], sign, stream(task, model, name, "pareto")) for name in names
    }  # each (1 + RESAMPLES, 3)
    used, front = list(GOALS[:3]), np.empty((0, 0), dtype=bool)
    kept = {name: _kept(parts[name]) for name in names}
    if names:
        goals = np.stack([drawn[name] for name in names], axis=1)  # (draw, cell, goal)
        if all(kept[name].size > 1 for name in names):
            rngs = {name: stream(task, model, name, "retained") for name in names}
            which = {name: _observed_and_drawn(kept[name].size, rngs[name]) for name in names}
            means = [_means(kept[name], which[name]) for name in names]
            goals = np.concatenate([goals, np.stack(means, axis=1)[:, :, None]], axis=2)
            used.append("retained")
        slack = _slack(goals, np.array([dev[name].all_floor.size for name in names]))
        for goal in ("seconds", "memory"):
            known = np.array([costs[name][goal] for name in names])
            if (known > 0).all():  # logs, so that a relative difference is an absolute one
                logs = -np.log(np.broadcast_to(known, goals.shape[:2]))[:, :, None]
                goals = np.concatenate([goals, logs], axis=2)
                tolerance = np.full((len(names), len(names), 1), np.log1p(SAME_COST))
                slack = np.concatenate([slack, tolerance], axis=2)
                used.append(goal)
        front = on_front(goals, slack)
    indices = {name: i for i, name in enumerate(names)}
    rows = []
    for label, cell in parts.items():
        own, test, i = dev[label], scores(cell, "test").all_floor, indices.get(label)
        row: Row = {"task": task, "model": model, "configuration": label}
        row |= {"technique": cell["technique"].iloc[0], "tried": int(cell["tried"].max())}
        row |= task_facts(block)
        row |= {"n": own.all_floor.size, "finished": own.finished, "asked": len(cell)}
        row |= {"dev_mean": mean(own.all_floor), "dev_sd": sd(own.all_floor)}
        failed = int(own.failed.sum())
        rate = np.nan if i is None else abs(float(goals[0, i, 2]))  # not -0.0
        row |= {"failed": failed, "failure_rate": rate}
        row["failure_high"] = wilson_interval(failed, own.finished).high
        row |= {**costs[label], **retained_of(cell)}
        row["on_front"] = np.nan if i is None else float(front[0, i])
        row["membership"] = np.nan if i is None else float(front[1:, i].mean())
        row |= {"goals": "; ".join(used), "test_mean": mean(test), "test_sd": sd(test)}
        rows.append(row)
    return sorted(
        rows,
        key=lambda r: (
            r["on_front"] != 1,
            -np.nan_to_num(sign * r["dev_mean"]),
            r["configuration"],
        ),
    )


def costs_of(cell: pd.DataFrame) -> Mapping[str, float]:
    """Mean seconds per run, and of any run the most memory in bytes and the least retained.

    NaN if unknown, of any finished run too: a run that diverged has kept nothing to measure.
    """
    kept = _kept(cell)
    return {
        "seconds": float(cell["seconds"].mean()),
        "memory": float(cell["needed_memory"].max()),
        "retained": float(kept.min()) if kept.size else np.nan,
    }


def _draws(own: Scores, sign: float, rng: np.random.Generator) -> FloatArray:
    """Mean, -sd and -failure rate: observed, then resampled; shape (1 + RESAMPLES, 3)."""
    coded = sign * np.where(own.failed & np.isnan(own.values), own.floor, own.values)
    x, failed = coded[~np.isnan(coded)], own.failed[~np.isnan(coded)]
    which = _observed_and_drawn(x.size, rng)
    means, failures = (_means(each, which) for each in (x, -failed.astype(np.float64)))
    return np.stack([means, -x[which].std(axis=1, ddof=1), failures], axis=1)


def _kept(cell: pd.DataFrame) -> FloatArray:
    """What each finished run retained; empty if that is unknown of any."""
    kept = cell.loc[cell["outcome"] != "missing", "retained"]
    values: FloatArray = kept.to_numpy("float64") if kept.notna().all() else np.empty(0)
    return values


def _observed_and_drawn(n: int, rng: np.random.Generator) -> IntArray:
    """Which of n runs each draw has: all of them, then resamples; shape (1 + RESAMPLES, n)."""
    return np.concatenate([np.arange(n)[None], resample(n, rng, RESAMPLES)])


def _means(values: FloatArray, which: IntArray) -> FloatArray:
    """The mean observed, then those of resamples, widened; shape (1 + RESAMPLES,)."""
    means = values[which].mean(axis=1)
    means[1:] = widened(means[1:], means[0], values.size)
    return np.asarray(means)


def _slack(goals: FloatArray, n: IntArray) -> FloatArray:
    """Largest differences of means, sds and failure rates that count as none.

    Half the standard error of the difference. Failure rates must also differ by a whole run of the
    cell with fewer runs: 0 of 40 and 1 of 60 are not told apart by their numbers of runs.
    """
    errors = goals[1:].std(axis=0)  # (cell, goal)
    slack = np.hypot(errors[:, None], errors[None]) / 2  # (cell, other, goal)
    run = (1 - 10.0**-DECIMALS) / np.minimum(n[:, None], n)  # a whole run is a difference
    slack[..., 2] = np.maximum(slack[..., 2], run)
    return np.asarray(slack)


def pareto_table(frame: pd.DataFrame) -> Table:
    """The table of `pareto`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> names = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(configuration=names, model="any", dev=runs["test"])
        >>> pareto_table(pareto(runs)).title
        'Pareto front of score, stability and cost'
    """
    columns: dict[str, Callable[[RowTuple], str]] = {
        "Task": lambda r: r.task,
        "Model": lambda r: r.model,
        "Metric": lambda r: metric_text(r.metric, r.higher_is_better, scale=r.scale),
        "Configuration": lambda r: r.configuration,
        "On Pareto front": lambda r: {1.0: "yes", 0.0: "no"}.get(
            r.on_front, "n/a (n < 2)" if r.n else "n/a (no dev scores)"
        ),
        "Front membership": lambda r: "–" if np.isnan(r.membership) else f"{r.membership:.0%}",
        "n": lambda r: count_text(r.finished, r.asked),
        "Dev mean": lambda r: score_text(r.dev_mean, r.scale),
        "Dev sd": lambda r: sd_text(r.dev_sd, r.scale),
        "Failure rate (upper 95% limit)": _failure_rate,
        **retained_columns(frame),
        "Seconds": lambda r: score_text(r.seconds, 1),
        "Memory, GB": lambda r: score_text(r.memory / 1e9, 1),
        "Test mean": lambda r: score_text(r.test_mean, r.scale),
        "Test sd": lambda r: sd_text(r.test_sd, r.scale),
    }
    skills = "share retained, " if retained_columns(frame) else ""
    notes = [
        n_note(frame),
        "On Pareto front: no other configuration of the task and model is at least as good in all "
        f"of dev mean, dev sd over seeds (n − 1), failure rate, {skills}seconds per run and peak "
        "memory, and better in one.",
        *_left_out(frame),
        *_without_scatter(frame),
        *retained_notes(frame),
    ]
    method = [
        "Differences below half their standard error (mean, sd, failure rate), "
        "below one run of the configuration with fewer runs (failure rate) or below 2% (time, "
        "memory) count as equal. The upper limit of the failure rate is not compared, since it "
        "falls with n alone.",
        "Front membership: share of bootstrap resamples of the runs in which it is on the front; "
        "time and memory stay as measured.",
    ]
    details = ["Test mean", "Test sd", "Memory, GB"]
    return table_of(
        "pareto",
        "Pareto front of score, stability and cost",
        frame,
        columns,
        notes=notes,
        details=details,
        method=method,
    )


def _failure_rate(row: RowTuple) -> str:
    rate = "–" if np.isnan(row.failure_rate) else f"{row.failure_rate:.0%}"
    return f"{rate} ({row.failure_high:.0%})"


def _without_scatter(frame: pd.DataFrame) -> list[str]:
    names = list(dict.fromkeys(frame.loc[frame["dev_sd"] == 0, "configuration"]))
    if not names:
        return []
    some = ", ".join(names[:NAMED])
    some += f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [
        f"All dev scores equal, so that no other has a smaller sd: {some}. "
        "Seeds seem to change nothing there, which is no evidence of stability."
    ]


def _left_out(frame: pd.DataFrame) -> list[str]:
    goals = [set(text.split("; ")) for text in frame["goals"]] if len(frame) else []
    asked = [goal for goal in GOALS if goal != "retained" or retained_columns(frame)]
    absent = [goal for goal in asked if not all(goal in own for own in goals)]
    if not absent:
        return []
    return [f"Not compared, since unknown for some configurations: {', '.join(absent)}."]
