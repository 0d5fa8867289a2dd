"""Normalised scores aggregated over tasks (IQM, mean, median), and performance profiles."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.across_tasks.pools import BY, Pool, View, pools, sorted_rows
from analysis.across_tasks.shared_runs import TOGETHER
from analysis.across_tasks.table_columns import (
    FAILED_NOTE,
    RUNS_NOTE,
    count_columns,
    dropped_notes,
    name_columns,
)
from analysis.frames.runs import Row
from analysis.rendering.builder import Columns, RowTuple, table_of
from analysis.rendering.formatting import interval_text, score_with_interval
from analysis.rendering.table import Table
from analysis.statistics.aggregate import Aggregate, Tasks, aggregate
from analysis.statistics.common import N_BOOT
from analysis.statistics.profiles import run_profile, task_profile

THRESHOLDS = np.linspace(0, 1, 101)  # of a performance profile, as normalised scores
BANDS = 2_000  # bootstrap resamples for the confidence band of a profile

OVER: tuple[Tasks, ...] = ("fixed", "resampled")
NORMALISED = (
    "Test scores normalised per task, (score − floor) / (perfect − floor), in points; higher is "
    "better: 0 is the constant predictor, 100 is perfect."
)


def aggregates(runs: pd.DataFrame, *, by: Sequence[str] = BY) -> pd.DataFrame:
    """Mean, median and interquartile mean of normalised scores over tasks, with intervals.

    Scores are normalised per task, (score - floor) / (perfect - floor): 0 is the constant
    predictor, 1 is perfect. The perfect score is 1 where scores are shares, 0 where lower is
    better.

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: The column compared, last, preceded by those it is compared within.

    Returns:
        One row per group, within a pool by iqm, highest first: the names of `by`; mean and median
        (over tasks, of the mean over runs) and iqm (over all runs, with equal weight per task) with
        95% intervals for new seeds on the same tasks, and for iqm also for new tasks
        (iqm_tasks_low, iqm_tasks_high; NaN below five tasks); clean_mean, clean_median and
        clean_iqm (without failed runs) with their intervals; shared (whether whole runs were
        resampled, since some were scored on several tasks; of these only runs with a score on
        every task count); is_baseline, compared, tasks, dropped
        and dropped_tasks (tasks without a score of every group, a floor or a perfect score), and on
        the remaining tasks n (fewest seeds), finished, asked and failed.

    Raises:
        ValueError: If `runs` or `by` is malformed.

    Source: Agarwal et al. 2021. In simulations with normal scores on six tasks the interval of the
        mean covered the truth in 87% at three seeds, 91% at five and 93% at ten, that of the
        interquartile mean one point more; for new tasks 84% and 89% at five tasks, 89% and 93%
        at ten.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task in ('cb', 'copa', 'rte')")
        >>> runs = runs.assign(test_floor=0.25)  # unknown for these runs; needed to normalise
        >>> aggregates(runs, by=("model",))[["model", "iqm", "iqm_low", "iqm_high"]].round(3)
                               model    iqm  iqm_low  iqm_high
        0  microsoft_deberta_v3_base  0.662    0.636     0.685
        1               roberta_base  0.551    0.530     0.565
        2            bert_base_cased  0.471    0.455     0.486
        3          bert_base_uncased  0.447    0.424     0.467
    """
    rows: list[Row] = []
    for pool in pools(runs, by):
        rows += sorted_rows(_aggregated(pool.normalised()), "iqm", falling=True)
    names = [*by, "iqm", "iqm_low", "iqm_high", "mean", "median", "tasks", "n"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)


def _aggregated(pool: Pool) -> list[Row]:
    used = pool.complete("all_floor")
    same_tasks, new_tasks = (_over_suite(pool, "all_floor", over) for over in OVER)
    clean = _over_suite(pool, "excluded", "fixed") if pool.failed() else same_tasks
    rows = []
    for i, name in enumerate(pool.names):
        row = pool.where | {pool.kind: name}
        for prefix, numbers in (("", same_tasks), ("clean_", clean)):
            for statistic in ("iqm", "mean", "median"):
                ends = getattr(numbers, statistic)[:, i]
                for end, value in zip(("", "_low", "_high"), ends, strict=True):
                    row[f"{prefix}{statistic}{end}"] = float(value)
        row["iqm_tasks_low"], row["iqm_tasks_high"] = map(float, new_tasks.iqm[1:, i])
        row |= {"is_baseline": name == pool.baseline, "compared": len(pool.names)}
        row["shared"] = pool.unit == "seed"
        rows.append(row | pool.counts(used, name) | pool.dropped(used))
    return rows


def _over_suite(pool: Pool, view: View, tasks: Tasks) -> Aggregate:
    x = pool.array(view)
    if not x.size:
        return Aggregate(*np.full((4, 3, len(pool.names)), np.nan))
    rng = pool.rng("aggregates")
    return aggregate(x, unit=pool.unit, tasks=tasks, resamples=N_BOOT, rng=rng)


def profiles(runs: pd.DataFrame, *, by: Sequence[str] = BY) -> pd.DataFrame:
    """Performance profiles: share of runs, and of tasks, that score above each threshold.

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: The column compared, last, preceded by those it is compared within.

    Returns:
        One row per group and threshold: the names of `by`, is_baseline, threshold (normalised as
        in `aggregates`, 0 to 1), runs (share of runs, with equal weight per task) and tasks_above
        (share of tasks by their mean over runs) with 95% bands, area (mean of the normalised
        scores clipped to [0, 1], the area under the profile of the runs), tasks, n and failed.
        Failed runs enter at their floor.

    Raises:
        ValueError: If `runs` or `by` is malformed.

    Source: Agarwal et al. 2021.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task in ('cb', 'copa', 'rte')")
        >>> runs = runs.assign(test_floor=0.25)  # unknown for these runs; needed to normalise
        >>> profile = profiles(runs, by=("model",)).query("threshold == 0.5")
        >>> profile[["model", "runs", "runs_low", "runs_high"]].round(2)
                                 model  runs  runs_low  runs_high
        50             bert_base_cased  0.37      0.27       0.47
        151          bert_base_uncased  0.28      0.20       0.35
        252  microsoft_deberta_v3_base  0.73      0.68       0.80
        353               roberta_base  0.65      0.62       0.67
    """
    parts = []
    for pool in pools(runs, by):
        parts += _profiled(pool.normalised())
    names = [*by, "is_baseline", "threshold", "runs", "runs_low", "runs_high", "area"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def _profiled(pool: Pool) -> list[pd.DataFrame]:
    x, used = pool.array("all_floor"), pool.complete("all_floor")
    if not x.size:
        return []
    bands = {
        name: profile(x, THRESHOLDS, unit=pool.unit, resamples=BANDS, rng=pool.rng("profiles"))
        for name, profile in (("runs", run_profile), ("tasks_above", task_profile))
    }
    area = np.nanmean(np.clip(x, 0, 1), axis=0).mean(axis=0)
    parts = []
    for i, name in enumerate(pool.names):
        columns: Row = pool.where | {pool.kind: name, "is_baseline": name == pool.baseline}
        columns |= {"threshold": THRESHOLDS}
        for label, band in bands.items():
            for end, values in zip(("", "_low", "_high"), band[:, i], strict=True):
                columns[f"{label}{end}"] = values
        counts = pool.counts(used, name)
        columns |= {"area": area[i]} | {key: counts[key] for key in ("tasks", "n", "failed")}
        parts.append(pd.DataFrame(columns))
    return parts


def aggregates_table(frame: pd.DataFrame) -> Table:
    """The table of `aggregates`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task in ('cb', 'copa', 'rte')")
        >>> runs = runs.assign(test_floor=0.25)  # unknown for these runs; needed to normalise
        >>> aggregates_table(aggregates(runs, by=("model",))).title
        'Normalised scores aggregated over tasks'
    """

    def text(row: RowTuple, name: str) -> str:
        value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
        return score_with_interval(value, low, high, scale=100)

    columns: Columns = name_columns(frame)
    columns |= {
        "IQM [95% CI]": lambda r: text(r, "iqm"),
        "Mean [95% CI]": lambda r: text(r, "mean"),
        "Median [95% CI]": lambda r: text(r, "median"),
        "95% CI of IQM, new tasks": lambda r: interval_text(
            r.iqm_tasks_low, r.iqm_tasks_high, scale=100
        ),
        "IQM without failed runs": lambda r: text(r, "clean_iqm"),
        "Mean without failed runs": lambda r: text(r, "clean_mean"),
        **count_columns(),
    }
    notes = [
        NORMALISED,
        "IQM: interquartile mean over all runs; mean and median: over tasks, of the mean over "
        "runs.",
        "95% bootstrap intervals resample the seeds of each task, for new seeds on the same tasks.",
        *dropped_notes(frame),
    ]
    method = [
        "Every task has the same weight, whatever its number of seeds.",
        "Intervals are slightly too narrow below ten seeds. 'New tasks' resamples the tasks as "
        "well; given from five tasks, too narrow below twenty.",
        *_shared_note(frame),
        FAILED_NOTE,
        RUNS_NOTE,
    ]
    details = ["95% CI of IQM, new tasks", "IQM without failed runs"]
    details += ["Mean without failed runs", "Runs"]
    title = "Normalised scores aggregated over tasks"
    return table_of(
        "aggregates", title, frame, columns, notes=notes, details=details, method=method
    )


def _shared_note(frame: pd.DataFrame) -> list[str]:
    if frame.empty or not frame["shared"].any():
        return []
    return [
        f"{TOGETHER} and resampled as a whole; a run without a score on every task is left out."
    ]
