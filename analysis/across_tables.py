"""Tables of what is compared over several tasks; the numbers are of `across`."""

from collections.abc import Collection
from functools import partial

import numpy as np
import pandas as pd

from analysis.caveats import NAMED
from analysis.frame import BASELINE
from analysis.render import (
    DAGGER,
    ENTERS,
    NBSP,
    Row,
    Table,
    count_text,
    has_width,
    interval_text,
    p_text,
    score_text,
    table_of,
)
from analysis.wide import Texts

FAILED = f"A failed run {ENTERS}. 'Not failed' leaves all failed runs out."
RUNS = "Least n is the number of seeds of the task with the fewest; runs are those of all tasks."
WHY = {"no_baseline": "no baseline", "n_too_small": "too few tasks"}
NORMALISED = (
    "Test scores normalised per task, (score − floor) / (perfect − floor), in points: 0 is the "
    "constant answer, 100 is perfect."
)


def ranks_table(found: pd.DataFrame, tests: pd.DataFrame) -> Table:
    """Average ranks, as `across.ranks` gives them, with the tests of `across.friedman`."""
    tested: list[Row] = list(tests.itertuples())
    doubtful = {(getattr(r, "model", ""), r.best) for r in tested if r.sensitivity}
    reached = not found.empty and (found["p_reason"] == "").any()
    columns: Texts = _names(found, doubtful)
    columns |= {
        "Average rank, 95%": lambda r: _number(r.average_rank) + _ends(r.rank_low, r.rank_high),
        "Group": lambda r: r.group or "–",
    }
    if reached:
        columns |= {"p vs best": lambda r: p_text(r.p_best)}
        if found["p_baseline"].notna().any():
            columns |= {f"p vs {BASELINE}": lambda r: p_text(r.p_baseline)}
    columns |= {"Not failed": lambda r: _number(r.clean_rank), **_counts()}
    notes = [
        "Ranks of mean test scores within each task, 1 the best, averaged over tasks, so that a "
        "task counts once however many seeds it has; t interval over tasks.",
        "Configurations that share a group lie closer together than the critical difference "
        "(Nemenyi, 5%), which is not to say that they are equal.",
    ]
    if reached:
        notes.append("p: Wilcoxon's signed-rank test over tasks, Holm over all pairs.")
    notes += [FAILED, RUNS, *map(_tested, tested)]
    notes += [f"{DAGGER} {_of(r)}{r.sensitivity}" for r in tested if r.sensitivity]
    details = ["Not failed", "Runs"]
    return table_of("ranks", "Ranks over tasks", found, columns, notes=notes, details=details)


def aggregates_table(found: pd.DataFrame) -> Table:
    """Scores over all tasks, as `across.aggregates` gives them."""

    def text(row: Row, name: str) -> str:
        value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
        return score_text(value, 100) + _ends(low * 100, high * 100, digits=1)

    columns: Texts = _names(found)
    columns |= {
        "IQM, 95%": lambda r: text(r, "iqm"),
        "Mean, 95%": lambda r: text(r, "mean"),
        "Median, 95%": lambda r: text(r, "median"),
        "IQM on new tasks": lambda r: interval_text(r.iqm_tasks_low, r.iqm_tasks_high, scale=100),
        "IQM, not failed": lambda r: text(r, "clean_iqm"),
        "Mean, not failed": lambda r: text(r, "clean_mean"),
        **_counts(),
    }
    notes = [
        NORMALISED,
        "IQM: mean of the middle half of all runs; mean and median are over tasks, of the mean "
        "over runs. In all of them a task weighs the same however many seeds it has.",
        "Intervals resample the seeds of each task and say what new seeds would do on these tasks; "
        "they are a little short below ten seeds. 'On new tasks' resamples the tasks as well, from "
        "five of them, and is short below twenty.",
        FAILED,
        RUNS,
        *_dropped(found),
    ]
    details = ["IQM on new tasks", "IQM, not failed", "Mean, not failed", "Runs"]
    title = "Normalised scores over tasks"
    return table_of("aggregates", title, found, columns, notes=notes, details=details)


def rope_table(found: pd.DataFrame) -> Table:
    """Better, worse or practically equal, as `across.rope` gives it."""
    columns: Texts = _names(found)
    columns |= {
        f"Minus {BASELINE}, 95%": _difference,
        "P(worse)": lambda r: _number(r.worse),
        "P(equal)": lambda r: _number(r.same),
        "P(better)": lambda r: _number(r.better),
        "Verdict": lambda r: WHY.get(r.reason, r.verdict),
        "Not failed": lambda r: r.clean_verdict,
        **_counts(),
    }
    notes = [
        f"Mean over tasks of the mean test score minus {BASELINE}'s, in points, with a t interval "
        "over tasks.",
        "Bayesian signed-rank test over tasks: worse and better are by more than half a point, "
        "unless a task was given a width of its own; a verdict needs a probability of 0.95.",
        FAILED,
        RUNS,
        *_dropped(found),
    ]
    coarse = [] if found.empty else sorted(set("; ".join(found["coarse"]).split("; ")) - {""})
    if coarse:
        notes.append(f"One row of the test set weighs as much as the width on {', '.join(coarse)}.")
    details = ["Not failed", "Runs"]
    return table_of(
        "rope", "Better, worse or practically equal", found, columns, notes=notes, details=details
    )


def _names(found: pd.DataFrame, doubtful: Collection[tuple[str, str]] = ()) -> Texts:
    """A column per name of `by`; a dagger at the pool's best where that is doubtful."""
    names = [str(n) for n in found if n in ("model", "technique", "configuration")]

    def text(row: Row, name: str) -> str:
        pool = row.model if len(names) > 1 else ""
        best = name == names[-1] and (pool, getattr(row, name)) in doubtful
        return str(getattr(row, name)) + (DAGGER if best else "")

    return {name.capitalize(): partial(text, name=name) for name in names}


def _counts() -> Texts:
    return {
        "Tasks": lambda r: f"{r.tasks}",
        "Least n": lambda r: f"{r.n}",
        "Runs": lambda r: count_text(r.finished, r.asked),
        "Failed": lambda r: f"{r.failed}",
    }


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def _ends(low: float, high: float, *, digits: int = 2) -> str:
    if not has_width(low, high):
        return ""
    return f" [{low:.{digits}f},{NBSP}{high:.{digits}f}]".replace("-", "−")


def _difference(row: Row) -> str:
    if np.isnan(row.difference):
        return "–"
    ends = _ends(row.difference_low * 100, row.difference_high * 100, digits=1)
    return score_text(row.difference, 100, sign="+") + ends


def _of(row: Row) -> str:
    """Which pool a sentence is about; nothing where there is only one."""
    name = getattr(row, "model", "")
    return f"{name}: " if name else ""


def _tested(row: Row) -> str:
    groups = f"{row.compared} compared on {row.tasks} {'task' if row.tasks == 1 else 'tasks'}"
    if row.reason == "n_too_small":
        text = f"{groups}, too few for Friedman's test (three on two tasks)"
    elif row.reason == "all_tied":
        text = f"{groups}, and all score the same"
    else:
        text = f"{groups}, Friedman's chi-square {row.chi2:.1f} (p = {p_text(row.p)})"
        text = text.replace("= <", "< ")
    if np.isfinite(row.critical_difference):
        text += f"; critical difference {row.critical_difference:.2f}"
    if row.compared > 1 and row.tasks < row.least_tasks:
        text += (
            f"; Wilcoxon's test cannot reach 5% for any of so many pairs below {row.least_tasks} "
            "tasks"
        )
    return f"{_of(row)}{text}{_left_out(row.dropped_tasks, '; left out')}."


def _dropped(found: pd.DataFrame) -> list[str]:
    """Which tasks are not in it, said once for all rows that lack the same."""
    if found.empty:
        return []
    return [f"{_left_out(text, 'Left out')}." for text in found["dropped_tasks"].unique() if text]


def _left_out(dropped: str, lead: str) -> str:
    """Tasks that are not in it by reason, a few of them by name; nothing if there are none."""
    tasks: dict[str, list[str]] = {}
    for text in filter(None, dropped.split("; ")):
        task, _, why = text.partition(" (")
        tasks.setdefault(why.removesuffix(")"), []).append(task)
    parts = []
    for why, named in tasks.items():
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        parts.append(f"{', '.join(named[:NAMED])}{more} ({why})")
    return f"{lead}: {', '.join(parts)}" if parts else ""
