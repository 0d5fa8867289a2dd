"""Configurations over several tasks: average ranks, aggregate scores, profiles, equivalence.

In all of these `by` names what is compared, last, and what it is compared within, before that:
`("model", "configuration")` compares the configurations of each model, `("model", "technique")`
each technique at the configuration recommended on dev for each task, `("model",)` the models at
theirs. Scores are those on test; nothing here is a choice.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.pools import Pool, Row, View, pools
from analysis.statistics.aggregate import Aggregate, Tasks, aggregate
from analysis.statistics.bayes import Posterior, bayes_signed_rank
from analysis.statistics.common import ALPHA, DECIMALS, N_BOOT, FloatArray
from analysis.statistics.estimates import mean
from analysis.statistics.intervals import mean_interval
from analysis.statistics.profiles import run_profile, task_profile
from analysis.statistics.ranks import (
    critical_difference,
    iman_davenport,
    least_tasks,
    maximal_groups,
    wilcoxon_holm,
)
from analysis.statistics.ranks import friedman as friedman_test
from analysis.statistics.ranks import ranks as places_of

ROPE = 0.005  # half a point: differences of means below it are practically none
SURE = 0.95  # probability from which a verdict is given
SAMPLES = 20_000  # draws from a posterior
THRESHOLDS = np.linspace(0, 1, 101)  # of a performance profile, in normalised scores
BANDS = 2_000  # resamples for the band of a profile

BY = ("model", "configuration")

OVER: tuple[Tasks, ...] = ("fixed", "resampled")
VIEWS: dict[str, View] = {"": "all_floor", "clean_": "excluded"}  # by prefix of a column


def ranks(runs: pd.DataFrame, *, by: Sequence[str] = BY) -> pd.DataFrame:
    """Average rank over tasks, and what cannot be told apart by it.

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: What is compared, and within what.

    Returns:
        One row per group, within a pool (the rows compared with each other) by average rank: the
        names of `by`, average_rank (1 is best; of the mean test scores of each task) with its t
        interval over tasks (rank_low, rank_high, rank_reason), group (numbers of the bars of a
        critical-difference diagram that it stands in, joined by ", "), p_best and p_baseline
        (Wilcoxon's signed-rank test against the group with the best average rank and against the
        baseline, Holm over all pairs of the pool; NaN against itself, without a baseline, and where
        p_reason is `n_too_small`: so few tasks could not reach 5 %), clean_rank and clean_tasks
        (without failed runs), is_baseline, compared (groups of the pool), tasks that it rests on
        (those with a score of every group; `friedman` names the others), and on these n (fewest
        seeds), finished, asked and failed.

    Raises:
        ValueError: If `runs` or `by` is malformed.

    Source: Demšar 2006. A task counts once, however many seeds it has.
    """
    rows: list[Row] = []
    for pool in pools(runs, by):
        rows += _sorted(_ranked(pool), "average_rank")
    names = [*by, "average_rank", "rank_low", "rank_high", "group", "p_best", "tasks", "n"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)


def _ranked(pool: Pool) -> list[Row]:
    used, k = pool.complete("all_floor"), len(pool.names)
    table, without = pool.means("all_floor"), pool.means("excluded")
    places = places_of(table)
    average, clean = _average(places), _average(places_of(without))
    groups = maximal_groups(average, critical_difference(tasks=len(used), techniques=k))
    _, p = wilcoxon_holm(table)
    reachable = k > 1 and len(used) >= least_tasks(k * (k - 1) // 2)
    against = {"p_best": _first(pool, average), "p_baseline": pool.baseline}
    rows = []
    for i, name in enumerate(pool.names):
        ends = mean_interval(places[:, i])
        row = pool.where | {pool.kind: name, "average_rank": average[i]}
        row |= {"rank_low": max(ends.low, 1.0), "rank_high": min(ends.high, float(k))}
        row |= {"rank_reason": ends.reason}
        row["group"] = ", ".join(str(g) for g, each in enumerate(groups, 1) if i in each)
        for column, other in against.items():
            known = reachable and other != ""
            row[column] = p[i, pool.names.index(other)] if known else np.nan
        row["p_reason"] = "" if reachable else "n_too_small"
        row |= {"clean_rank": clean[i], "clean_tasks": len(without)}
        row |= {"is_baseline": name == pool.baseline, "compared": k}
        rows.append(row | pool.counts(used, name))
    return rows


def friedman(runs: pd.DataFrame, *, by: Sequence[str] = BY) -> pd.DataFrame:
    """Do the groups rank alike over tasks, and by how much must average ranks differ?

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: What is compared, and within what.

    Returns:
        One row per pool: the first names of `by`, compared, tasks and dropped (how many),
        dropped_tasks (which and why, joined by "; "), chi2 with its p (corrected for ties),
        Iman and Davenport's f with f_p, reason (why there is no p), critical_difference (Nemenyi's,
        5 %), least_tasks (below which Wilcoxon's test of all pairs cannot reach 5 %), n (fewest
        seeds of a cell), best (best average rank); clean_p and clean_best of the same without
        failed runs, and sensitivity, a sentence where that changes something.

    Raises:
        ValueError: If `runs` or `by` is malformed.

    Source: Friedman 1937, Iman & Davenport 1980, Nemenyi 1963; Demšar 2006.
    """
    rows: list[Row] = []
    for pool in pools(runs, by):
        used, k = pool.complete("all_floor"), len(pool.names)
        table, without = pool.means("all_floor"), pool.means("excluded")
        found, clean = friedman_test(table), friedman_test(without)
        f = iman_davenport(found.statistic, tasks=len(used), techniques=k)
        row: Row = pool.where | {"compared": k, "tasks": len(used)} | pool.dropped(used)
        row |= {"chi2": found.statistic, "p": found.p, "reason": found.reason}
        row |= {"f": f.statistic, "f_p": f.p}
        row |= {"critical_difference": critical_difference(tasks=len(used), techniques=k)}
        row |= {"least_tasks": least_tasks(max(1, k * (k - 1) // 2))}
        row |= {"n": min(pool.counts(used, name)["n"] for name in pool.names)}
        row |= {"best": _first(pool, _average(places_of(table))), "clean_p": clean.p}
        row |= {"clean_best": _first(pool, _average(places_of(without)))}
        rows.append(row | {"sensitivity": _sensitivity(row)})
    names = [*by[:-1], "compared", "tasks", "chi2", "p", "critical_difference"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)


def aggregates(runs: pd.DataFrame, *, by: Sequence[str] = BY) -> pd.DataFrame:
    """Normalised scores over all tasks: mean, median and interquartile mean with intervals.

    Scores are normalised per task, (score - floor) / (perfect - floor): 0 is the constant answer,
    1 is perfect (1 where scores are shares, 0 where lower is better).

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: What is compared, and within what.

    Returns:
        One row per group, within a pool by falling interquartile mean: the names of `by`; mean,
        median (over tasks of the mean over runs) and iqm (of all runs, every task weighing the
        same) with the ends of their intervals for new seeds on the same tasks, and of iqm for new
        tasks as well (iqm_tasks_low, iqm_tasks_high; none below five tasks); clean_mean,
        clean_median and clean_iqm (without failed runs) with theirs; is_baseline, compared, tasks,
        dropped and dropped_tasks (those without a score of every group, a floor or a perfect
        score), and on the tasks left n (fewest seeds), finished, asked and failed.

    Raises:
        ValueError: If `runs` or `by` is malformed.

    Source: Agarwal et al. 2021. With normal scores on six tasks the interval of the mean held the
        truth in 87 % of simulations at three seeds, 91 % at five and 93 % at ten, that of the
        interquartile mean in a point more; for new tasks 84 % and 89 % at five tasks, 89 % and 93 %
        at ten.
    """
    rows: list[Row] = []
    for pool in pools(runs, by):
        rows += _sorted(_aggregated(pool.normalised()), "iqm", falling=True)
    names = [*by, "iqm", "iqm_low", "iqm_high", "mean", "median", "tasks", "n"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)


def _aggregated(pool: Pool) -> list[Row]:
    used = pool.complete("all_floor")
    found, anew = (_over_suite(pool, "all_floor", over) for over in OVER)
    clean = _over_suite(pool, "excluded", "fixed") if pool.failed() else found
    rows = []
    for i, name in enumerate(pool.names):
        row = pool.where | {pool.kind: name}
        for prefix, numbers in (("", found), ("clean_", clean)):
            for statistic in ("iqm", "mean", "median"):
                ends = getattr(numbers, statistic)[:, i]
                for end, value in zip(("", "_low", "_high"), ends, strict=True):
                    row[f"{prefix}{statistic}{end}"] = float(value)
        row |= {"iqm_tasks_low": float(anew.iqm[1, i]), "iqm_tasks_high": float(anew.iqm[2, i])}
        row |= {"is_baseline": name == pool.baseline, "compared": len(pool.names)}
        rows.append(row | pool.counts(used, name) | pool.dropped(used))
    return rows


def _over_suite(pool: Pool, view: View, tasks: Tasks) -> Aggregate:
    x = pool.array(view)
    if not x.size:
        return Aggregate(*np.full((4, 3, len(pool.names)), np.nan))
    rng = pool.rng("aggregates")
    return aggregate(x, unit="cell", tasks=tasks, resamples=N_BOOT, rng=rng)


def profiles(runs: pd.DataFrame, *, by: Sequence[str] = BY) -> pd.DataFrame:
    """Performance profiles: which share of runs, and of tasks, scores above each threshold.

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: What is compared, and within what.

    Returns:
        One row per group and threshold: the names of `by`, is_baseline, threshold (normalised as
        in `aggregates`, 0 to 1), runs (share of runs, every task weighing the same) and tasks_above
        (share of tasks by their mean over runs) with the ends of their bands, area (mean of the
        normalised scores cut to [0, 1], what lies below the profile of the runs), tasks, n and
        failed. Failed runs enter at their floor.

    Raises:
        ValueError: If `runs` or `by` is malformed.

    Source: Agarwal et al. 2021.
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
        name: profile(x, THRESHOLDS, resamples=BANDS, rng=pool.rng("profiles"))
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


def rope(
    runs: pd.DataFrame, *, by: Sequence[str] = BY, widths: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Is a group better than the baseline over tasks, worse, or practically equal?

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: What is compared, and within what.
        widths: By task, the difference of means below which two are practically equal, in the
            metric's unit; half a point for the others.

    Returns:
        One row per group: the names of `by`; difference (mean over tasks of its mean test score
        minus the baseline's) with its t interval over tasks; the probabilities worse, same and
        better (adding up to 1) and verdict (`worse`, `practically equal` or `better` where one of
        them is at least 0.95, else `undecided`; `baseline`, or `–` where reason says why:
        `n_too_small` below five tasks, `no_baseline`); all of these as `clean_*` without failed
        runs; is_baseline, tasks that both have scores on, dropped and
        dropped_tasks, coarse (tasks where one row of the test set weighs as much as the width,
        joined by "; "), and on the tasks used n (fewest seeds of either), finished, asked and
        failed. Within a pool by falling difference. Only tasks whose scores are shares enter.

    Raises:
        ValueError: If `runs` or `by` is malformed, or a width is not positive.

    Source: Benavoli et al. 2014, 2017.
    """
    widths = widths or {}
    wrong = [f"{task}: {width}" for task, width in widths.items() if not width > 0]
    if wrong:
        raise ValueError(f"a width must be above 0: {', '.join(wrong)}.")
    rows: list[Row] = []
    for pool in map(Pool.shares, pools(runs, by)):
        found = [
            pool.where | {pool.kind: name} | _against_baseline(pool, name, widths)
            for name in pool.names
        ]
        rows += _sorted(found, "difference", falling=True)
    names = [*by, "difference", "worse", "same", "better", "verdict", "tasks", "n"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=names)


def _average(places: FloatArray) -> FloatArray:
    """Average rank of each group; NaN of no tasks."""
    return places.mean(axis=0) if len(places) else np.full(places.shape[1], np.nan)


def _first(pool: Pool, average: FloatArray) -> str:
    """The group with the best average rank, by name among equals; empty if there is none."""
    known = np.isfinite(average).any()
    return pool.names[int(np.nanargmin(np.round(average, DECIMALS)))] if known else ""


def _sensitivity(row: Row) -> str:
    """What leaving out the failed runs would change, as a sentence."""
    changes = []
    if row["clean_best"] != row["best"]:
        best = row["clean_best"] or "nothing"
        changes.append(f"{best}, not {row['best']}, has the best average rank")
    before, after = row["p"] < ALPHA, row["clean_p"] < ALPHA
    if before != after:
        changes.append(f"Friedman's test is {'' if after else 'not '}significant")
    return f"Without failed runs {', and '.join(changes)}." if changes else ""


def _against_baseline(pool: Pool, name: str, widths: Mapping[str, float]) -> Row:
    both = [name, pool.baseline] if pool.baseline else [name]
    used = pool.complete("all_floor", both)
    counts = [pool.counts(used, each) for each in both]
    size = {task: widths.get(task, ROPE) for task in used}
    rows = {task: pool.facts[task]["test_rows"] for task in used}
    coarse = [task for task in used if size[task] <= 1 / rows[task]]  # NaN: not known
    row: Row = {}
    for prefix, view in VIEWS.items():
        row |= {f"{prefix}{key}": x for key, x in _posterior(pool, name, widths, view).items()}
    row["is_baseline"] = name == pool.baseline
    return (
        row
        | counts[0]
        | {"n": min(each["n"] for each in counts), "coarse": "; ".join(coarse)}
        | pool.dropped(used, both)
    )


def _posterior(pool: Pool, name: str, widths: Mapping[str, float], view: View) -> Row:
    numbers = ("difference", "difference_low", "difference_high", "worse", "same", "better")
    row: Row = dict.fromkeys(numbers, np.nan) | {"verdict": "–", "reason": "no_baseline"}
    if not pool.baseline:
        return row
    if name == pool.baseline:
        return row | {"verdict": "baseline", "reason": "is_baseline"}
    used = pool.complete(view, [name, pool.baseline])
    own, base = ([mean(pool.of(task, n, view)) for task in used] for n in (name, pool.baseline))
    gaps = np.array(own) - np.array(base)
    size = np.array([widths.get(task, ROPE) for task in used])
    rng = pool.rng("rope")
    found = bayes_signed_rank(gaps / size, rope=1.0, samples=SAMPLES, rng=rng)
    ends = mean_interval(gaps)
    row |= {"difference": mean(gaps), "difference_low": ends.low, "difference_high": ends.high}
    row |= {"worse": found.worse, "same": found.same, "better": found.better}
    return row | {"verdict": _verdict(found), "reason": found.reason}


def _verdict(found: Posterior) -> str:
    if found.reason:
        return "–"
    words = ("worse", "practically equal", "better")
    sure = [word for word, p in zip(words, found[:3], strict=True) if p >= SURE]
    return sure[0] if sure else "undecided"


def _sorted(rows: list[Row], column: str, *, falling: bool = False) -> list[Row]:
    """The rows of a pool by one number, unknown ones last, equals in the order they have."""

    def place(row: Row) -> tuple[bool, float]:
        value = round(float(row[column]), DECIMALS)
        return (bool(np.isnan(value)), -value if falling else value)

    return sorted(rows, key=place)
