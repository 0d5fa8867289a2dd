"""Pools: groups compared with each other over tasks, with their common tasks and scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from analysis.across_tasks.chosen import choose
from analysis.across_tasks.shared_runs import run_ids
from analysis.frames.runs import BASELINE, Row, baseline_of, checked, final, scores, task_facts
from analysis.statistics.aggregate import Unit
from analysis.statistics.common import DECIMALS, FloatArray, stream
from analysis.statistics.estimates import mean
from analysis.statistics.summary import Scores

View = Literal["all_floor", "excluded"]  # failed runs at their floor, or excluded

BY = ("model", "configuration")
VIEWS: dict[str, View] = {"": "all_floor", "clean_": "excluded"}  # by column prefix


@dataclass(frozen=True)
class Pool:
    """Groups that are compared with each other over tasks; higher scores are better.

    Attributes:
        where: Values that all groups share, by the leading names of `by`.
        kind: The column compared, the last name of `by`.
        names: The groups, sorted.
        cells: Test scores by task and group.
        baseline: The group that is the baseline; empty if there is none.
        facts: By task, `higher_is_better`, `scale` and `test_rows` (NaN if unknown).
        left_out: By task, the reason why it is left out.
        runs: By task and group, the id of each run of `cells`; rows of several tasks with the same
            id are one run (`shared_runs.run_ids`).
    """

    where: Row
    kind: str
    names: tuple[str, ...]
    cells: Mapping[tuple[str, str], Scores]
    baseline: str
    facts: Mapping[str, Row]
    left_out: Mapping[str, str]
    runs: Mapping[tuple[str, str], Sequence[str]]

    @property
    def unit(self) -> Unit:
        """What the bootstrap draws: `seed`, whole runs, if some were scored on several tasks."""
        owners: dict[tuple[str, str], set[str]] = {}
        for (task, name), ids in self.runs.items():
            for run in ids:
                owners.setdefault((name, run), set()).add(task)
        return "seed" if any(len(tasks) > 1 for tasks in owners.values()) else "cell"

    @property
    def tasks(self) -> list[str]:
        """The tasks that any group was run on, and those left out."""
        return sorted({task for task, _ in self.cells} | set(self.left_out))

    def rng(self, purpose: str) -> np.random.Generator:
        """A random stream that does not depend on the names of the groups."""
        return stream(purpose, *self.where.values())

    def of(self, task: str, name: str, view: View) -> FloatArray:
        """Scores of one cell, sorted; empty where it was not run."""
        cell = self.cells.get((task, name))
        if cell is None:
            return np.empty(0)
        return cell.all_floor if view == "all_floor" else cell.excluded

    def complete(self, view: View, names: Sequence[str] = ()) -> list[str]:
        """The tasks on which all groups, or those named, have a score."""
        return [
            task
            for task in self.tasks
            if task not in self.left_out
            and all(self.of(task, name, view).size for name in names or self.names)
        ]

    def dropped(self, used: Sequence[str], names: Sequence[str] = ()) -> Row:
        """Columns with the number of tasks not used, and why."""
        reasons = []
        for task in (task for task in self.tasks if task not in used):
            lack = [n for n in names or self.names if not self.of(task, n, "all_floor").size]
            groups = f"{lack[0]} has" if len(lack) == 1 else f"{len(lack)} {self.kind}s have"
            reasons.append(f"{task} ({self.left_out.get(task) or f'{groups} no score'})")
        return {"dropped": len(reasons), "dropped_tasks": "; ".join(reasons)}

    def means(self, view: View) -> FloatArray:
        """Mean over runs on the complete tasks, shape (n_tasks, n_groups)."""
        tasks = self.complete(view)
        rows = [[mean(self.of(task, name, view)) for name in self.names] for task in tasks]
        return np.array(rows, dtype=np.float64).reshape(len(tasks), len(self.names))

    def array(self, view: View) -> FloatArray:
        """Every run on the complete tasks, shape (n_runs, n_tasks, n_groups), NaN-padded.

        If `unit` is `seed`, a row of a group is one run.
        """
        tasks, shared = self.complete(view), self.unit == "seed"
        columns: dict[tuple[int, int], FloatArray] = {}
        for k, name in enumerate(self.names):
            rows = sorted({run for task in tasks for run in self.runs[task, name]})
            for t, task in enumerate(tasks):
                x = self.of(task, name, view)
                if shared:
                    x = np.full(len(rows), np.nan)
                    x[np.searchsorted(rows, self.runs[task, name])] = self._by_run(task, name, view)
                columns[t, k] = x
        longest = max((x.size for x in columns.values()), default=0)
        scores = np.full((longest, len(tasks), len(self.names)), np.nan)
        for (t, k), x in columns.items():
            scores[: x.size, t, k] = x
        return scores

    def _by_run(self, task: str, name: str, view: View) -> FloatArray:
        cell = self.cells[task, name]
        return cell.coded if view == "all_floor" else np.where(cell.failed, np.nan, cell.values)

    def failed(self) -> bool:
        """Whether any run failed."""
        return any(cell.failed.any() for cell in self.cells.values())

    def counts(self, used: Sequence[str], name: str) -> Row:
        """Columns with the numbers of tasks, seeds (the fewest) and runs behind a row."""
        own = [self.cells[task, name] for task in used]
        return {
            "tasks": len(own),
            "n": min((cell.all_floor.size for cell in own), default=0),
            "finished": sum(cell.finished for cell in own),
            "asked": sum(cell.values.size for cell in own),
            "failed": sum(int(cell.failed.sum()) for cell in own),
        }

    def normalised(self) -> "Pool":
        """The pool with scores normalised: 0 is the constant predictor's score, 1 is perfect."""
        left_out, cells = dict(self.left_out), {}
        for (task, name), cell in self.cells.items():
            perfect = _perfect(self.facts[task])
            if np.isnan(perfect):
                left_out[task] = "no perfect score is known"
            elif not perfect > cell.floor:
                left_out[task] = "no constant predictor below the perfect score is known"
            else:
                span = perfect - cell.floor
                values = (cell.values - cell.floor) / span
                cells[task, name] = replace(cell, values=values, floor=0.0)
        return replace(self, cells={**self.cells, **cells}, left_out=left_out)

    def shares(self) -> "Pool":
        """The pool without the tasks whose scores are not shares."""
        wrong = {task: "its scores are not shares" for task in self.tasks if not self._share(task)}
        return replace(self, left_out={**self.left_out, **wrong})

    def _share(self, task: str) -> bool:
        return bool(self.facts[task]["scale"] == 100)


def pools(runs: pd.DataFrame, by: Sequence[str]) -> Iterator[Pool]:
    """The pools of a study, in the order of their names.

    Args:
        runs: One row per run, as `load_runs` gives them.
        by: The column compared, last, preceded by those it is compared within.

    Raises:
        ValueError: If `runs` or `by` is malformed; see `across_tasks.chosen.chosen`.
    """
    whole = final(checked(runs))
    runs, unchosen = choose(whole, by)
    undecided = dict.fromkeys(unchosen, "no dev scores to choose a configuration by")
    facts: dict[str, Row] = {}
    for of, block in whole.groupby("task"):
        facts[str(of)] = task_facts(block) | {
            "test_rows": float(block["test_rows"].astype("float64").min())  # NA becomes NaN
        }
    *within, kind = by
    named = run_ids(runs)
    for where, part in runs.groupby(list(within)) if within else [((), runs)]:
        cells, ids = {}, {}
        for label, cell in part.groupby(["task", kind]):
            task, name = map(str, label)
            cells[task, name] = _oriented(scores(cell, "test"), facts[task])
            ids[task, name] = list(named[cell.index])
        yield Pool(
            where=dict(zip(within, map(str, where), strict=True)),
            kind=kind,
            names=tuple(sorted({name for _, name in cells})),
            cells=cells,
            baseline=_baseline(part, kind),
            facts=facts,
            left_out=undecided,
            runs=ids,
        )


def _oriented(cell: Scores, facts: Row) -> Scores:
    if facts["higher_is_better"]:
        return cell
    return replace(cell, values=-cell.values, floor=-cell.floor)


def _perfect(facts: Row) -> float:
    """The best possible score, oriented so that higher is better; NaN if unknown."""
    if not facts["higher_is_better"]:
        return 0.0
    return 1.0 if facts["scale"] == 100 else np.nan


def _baseline(part: pd.DataFrame, kind: str) -> str:
    if kind == "configuration":
        return baseline_of(part)
    return BASELINE if kind == "technique" and (part["technique"] == BASELINE).any() else ""


def average_ranks(ranks: FloatArray) -> FloatArray:
    """Average rank of each group; NaN without tasks."""
    return ranks.mean(axis=0) if len(ranks) else np.full(ranks.shape[1], np.nan)


def best_ranked(pool: Pool, average: FloatArray) -> str:
    """The group with the best average rank, ties broken by name; empty if there is none."""
    known = np.isfinite(average).any()
    return pool.names[int(np.nanargmin(np.round(average, DECIMALS)))] if known else ""


def sorted_rows(rows: list[Row], column: str, *, falling: bool = False) -> list[Row]:
    """The rows of a pool sorted by one column, NaN last; the sort is stable."""

    def order(row: Row) -> tuple[bool, float]:
        value = round(float(row[column]), DECIMALS)
        return (bool(np.isnan(value)), -value if falling else value)

    return sorted(rows, key=order)
