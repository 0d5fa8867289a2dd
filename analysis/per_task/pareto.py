"""Trade-offs: configurations that no other beats in score, scatter, failures, time and memory."""

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
from analysis.rendering.builder import RowTuple, n_note, table_of
from analysis.rendering.formatting import count_text, metric_text, score_text
from analysis.rendering.table import Table
from analysis.statistics.common import FloatArray, stream
from analysis.statistics.estimates import mean, sd
from analysis.statistics.intervals import wilson_interval
from analysis.statistics.pareto import on_front
from analysis.statistics.rank_uncertainty import resample, widened
from analysis.statistics.summary import Scores

GOALS = ("mean", "sd", "failures", "seconds", "memory")
SAME_COST = 0.02  # relative difference of time or memory that counts as none
RESAMPLES = 1_000  # that membership is counted over


def pareto(runs: pd.DataFrame) -> pd.DataFrame:
    """Who is on the front of mean, scatter, failures, time and memory; the scores are of dev.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per cell, those on the front first, then by falling dev mean: technique, tried
        (configurations that it was chosen from; 1 if the file states it), n, dev_mean and dev_sd,
        failed, failure_high (upper end of the Wilson interval), seconds (mean of a run), memory
        (the highest peak of a run, in bytes), on_front, membership (share of resamplings of the
        runs in which it is on the front; time and memory stay as measured),
        goals (those compared, joined by "; ": one that is not known of all cells with two runs is
        left out), test_mean, test_sd, and what a task fixes. Cells below two runs are not compared:
        NaN in on_front and membership. Differences count from half a standard error of the
        difference for mean and sd, and from 2 % for time and memory.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    rows: list[Row] = []
    for task, model, block in blocks(final(checked(runs))):
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
    if names:
        goals = np.stack([drawn[name] for name in names], axis=1)  # (draw, cell, goal)
        slack = _slack(goals)
        for goal in ("seconds", "memory"):
            known = np.array([costs[name][goal] for name in names])
            if (known > 0).all():
                logs = -np.log(np.broadcast_to(known, goals.shape[:2]))[:, :, None]
                goals = np.concatenate([goals, logs], axis=2)
                even = np.full((len(names), len(names), 1), np.log1p(SAME_COST))
                slack = np.concatenate([slack, even], axis=2)
                used.append(goal)
        front = on_front(goals, slack)
    places = {name: i for i, name in enumerate(names)}
    rows = []
    for label, cell in parts.items():
        own, test, i = dev[label], scores(cell, "test").all_floor, places.get(label)
        row: Row = {"task": task, "model": model, "configuration": label}
        row |= {"technique": cell["technique"].iloc[0], "tried": int(cell["tried"].max())}
        row |= task_facts(block)
        row |= {"n": own.all_floor.size, "finished": own.finished, "asked": len(cell)}
        row |= {"dev_mean": mean(own.all_floor), "dev_sd": sd(own.all_floor)}
        failed = int(own.failed.sum())
        row |= {"failed": failed, "failure_high": wilson_interval(failed, own.finished).high}
        row |= costs[label]
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
    """Mean seconds of a run and the highest peak of its memory in bytes; NaN if not known."""
    return {
        "seconds": float(cell["seconds"].mean()),
        "memory": float(pd.to_numeric(cell["peak_memory_bytes"]).max()),
    }


def _draws(own: Scores, sign: float, rng: np.random.Generator) -> FloatArray:
    """Mean, minus sd and minus failure limit: as they are, then resampled; (1 + RESAMPLES, 3)."""
    coded = sign * np.where(own.failed & np.isnan(own.values), own.floor, own.values)
    x, failed = coded[~np.isnan(coded)], own.failed[~np.isnan(coded)]
    which = np.concatenate([np.arange(x.size)[None], resample(x.size, rng, RESAMPLES)])
    means = x[which].mean(axis=1)
    means[1:] = widened(means[1:], means[0], x.size)
    spreads = x[which].std(axis=1, ddof=1)
    limits = np.array([wilson_interval(k, x.size).high for k in range(x.size + 1)])
    return np.stack([means, -spreads, -limits[failed[which].sum(axis=1)]], axis=1)


def _slack(goals: FloatArray) -> FloatArray:
    """Half the standard error of each difference of means and of sds; none for failures."""
    errors = goals[1:].std(axis=0) * [1, 1, 0]  # (cell, goal)
    return np.asarray(np.hypot(errors[:, None], errors[None]) / 2)  # (cell, other, goal)


def pareto_table(found: pd.DataFrame) -> Table:
    """The trade-offs, as `pareto` gives them."""
    columns: dict[str, Callable[[RowTuple], str]] = {
        "Task": lambda r: r.task,
        "Model": lambda r: r.model,
        "Metric": lambda r: metric_text(r.metric, r.higher_is_better, scale=r.scale),
        "Configuration": lambda r: r.configuration,
        "On the front": lambda r: {1.0: "yes", 0.0: "no"}.get(r.on_front, "one run"),
        "How often": lambda r: "–" if np.isnan(r.membership) else f"{r.membership:.0%}",
        "n": lambda r: count_text(r.finished, r.asked),
        "Dev mean": lambda r: score_text(r.dev_mean, r.scale),
        "Dev sd": lambda r: score_text(r.dev_sd, r.scale),
        "Failures below": lambda r: f"{r.failure_high:.0%}",
        "Seconds": lambda r: score_text(r.seconds, 1),
        "Memory, GB": lambda r: score_text(r.memory / 1e9, 1),
        "Test mean": lambda r: score_text(r.test_mean, r.scale),
        "Test sd": lambda r: score_text(r.test_sd, r.scale),
    }
    notes = [
        n_note(found),
        "On the front: no other configuration of the task and model is as good in all of dev mean, "
        "dev sd over seeds (n − 1), upper 95% limit of the failure rate, seconds of a run and peak "
        "memory, and better in one. Half a standard error of the difference in mean or sd, and 2% "
        "of time or memory, count as no difference.",
        "How often: share of resamplings of the runs in which it is on the front; time and memory "
        "stay as measured.",
        *_left_out(found),
    ]
    details = ["Test mean", "Test sd", "Memory, GB"]
    return table_of("pareto", "Trade-offs", found, columns, notes=notes, details=details)


def _left_out(found: pd.DataFrame) -> list[str]:
    goals = [set(text.split("; ")) for text in found["goals"]] if len(found) else []
    absent = [goal for goal in GOALS if not all(goal in own for own in goals)]
    if not absent:
        return []
    return [f"Not compared where it is not known of every configuration: {', '.join(absent)}."]
