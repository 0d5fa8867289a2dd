"""What the runs do not allow one to say, in plain sentences."""

from collections.abc import Iterable

import pandas as pd

from analysis.frames.runs import BASELINE, CELL, baseline_of, blocks, checked, configurations, final
from analysis.per_task.stability import ENOUGH_FOR_SCATTER
from analysis.statistics.power import minimum_detectable_ratio

UNRELIABLE = 5  # seeds below which even a mean is a guess
COMFORTABLE = 20  # seeds from which a factor of two in scatter is usually seen
SMALL = 500  # rows of a dev or test set; below, one row is worth 0.2 points or more
NAMED = 3  # how many cells a sentence names before it only counts


def caveats(runs: pd.DataFrame) -> list[str]:
    """Everything a reader should know before believing a table of these runs.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        Sentences, the weightiest first; empty if the data demand none.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    runs = final(checked(runs))
    if runs.empty:
        return ["There are no runs yet, so nothing can be said."]
    finished = runs[runs["outcome"] != "missing"]
    return [
        *_missing(runs),
        *_seeds(runs),
        *_failures(runs),
        *_unscored(runs),
        *_unknown(runs),
        *_uneven(runs),
        *_streams(finished),
        *_baseline(runs),
        *_unequal(runs),
        *_mixtures(finished),
        *_small_sets(runs),
    ]


def _missing(runs: pd.DataFrame) -> list[str]:
    gone = runs["outcome"] == "missing"
    if not gone.any():
        return []
    cells = [f"{_label(cell)} ({n})" for cell, n in runs[gone].groupby(CELL).size().items()]
    return [f"{gone.sum()} of {_runs(len(runs))} {_are(gone.sum())} missing: {_some(cells)}."]


def _seeds(runs: pd.DataFrame) -> list[str]:
    counts = (runs["outcome"] != "missing").groupby([runs[c] for c in CELL]).sum()
    few = counts[counts < UNRELIABLE]
    found = []
    if len(few):
        cells = [f"{_label(cell)} ({n})" for cell, n in few.items()]
        found.append(
            f"Fewer than {UNRELIABLE} seeds: {_some(cells)}. Means, and all that is compared with "
            "them, are unreliable there."
        )
    least = int(counts.min())
    if least < ENOUGH_FOR_SCATTER:
        found.append(
            f"Some cells have fewer than {ENOUGH_FOR_SCATTER} seeds (the smallest has {least}): no "
            f"claim about scatter is made for them. {_detectable(least)}"
        )
    elif least < COMFORTABLE:
        found.append(f"The smallest cell has {least} seeds. {_detectable(least)}")
    return found


def _detectable(n: int) -> str:
    if n < 2:
        return "One seed shows no scatter at all."
    ratio = minimum_detectable_ratio(n)
    return f"With {n} seeds only a ratio of sds beyond {ratio:.1f} would usually be found."


def _failures(runs: pd.DataFrame) -> list[str]:
    diverged = runs["outcome"] == "diverged"
    found = []
    for failed, verb in ((diverged, "diverged"), (runs["collapsed"], "collapsed")):
        if failed.any():
            counts = runs[failed].groupby(CELL).size()
            cells = [f"{_label(cell)} ({n})" for cell, n in counts.items()]
            found.append(f"{_runs(int(counts.sum()))} {verb}: {_some(cells)}.")
    if found:
        found.append(
            "Failed runs count with their score, or with that of a constant answer if they have "
            "none; a mean and sd over such cells describe two kinds of run at once."
        )
    return found


def _unscored(runs: pd.DataFrame) -> list[str]:
    failed = (runs["outcome"] == "diverged") | runs["collapsed"]
    completed = runs["outcome"] == "completed"
    found = []
    for split, floor in (("dev", "dev_floor"), ("test", "test_floor")):
        unscored = runs[split].isna()
        never = unscored.groupby(runs["task"]).transform("all")  # said by task
        dropped = int((unscored & ~failed & completed & ~never).sum())
        if dropped:
            found.append(
                f"{_runs(dropped)} completed without a {split} score and {_are(dropped)} left out."
            )
        homeless = int((unscored & failed & runs[floor].isna()).sum())
        if homeless:
            found.append(
                f"{_runs(homeless)} failed without a {split} score, and the constant answer's is "
                "not known: leaving them out of means flatters their cells."
            )
    return found


def _unknown(runs: pd.DataFrame) -> list[str]:
    """Tasks of which scores from elsewhere do not say everything."""
    completed = runs[runs["outcome"] == "completed"]
    found = []
    for split, result in (
        ("dev", "nothing can be chosen there without looking at test, so nothing is recommended"),
        ("test", "nothing is reported there but what choices are made by"),
    ):
        known = completed.groupby("task")[split].count()
        if none := [str(task) for task, n in known.items() if n == 0]:
            found.append(f"No {split} scores at all: {_some(none)}; {result}.")
    floors = completed.groupby("task")[["dev_floor", "test_floor"]].count().sum(axis=1)
    if unknown := [str(task) for task, n in floors.items() if n == 0]:
        found.append(
            f"What a constant answer scores is not known: {_some(unknown)}; no run there could be "
            "told to have collapsed."
        )
    return found


def _uneven(runs: pd.DataFrame) -> list[str]:
    uneven = []
    for task, model, block in blocks(runs[runs["outcome"] != "missing"]):
        streams = ["head", "order", "noise"]
        seeds = {
            frozenset(cell[streams].itertuples(index=False, name=None))
            for cell in configurations(block).values()
        }
        if len(seeds) > 1:
            sizes = sorted({len(each) for each in seeds})
            n = f"n = {sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"n = {sizes[0]} each"
            uneven.append(f"{task}/{model} ({n})")
    if not uneven:
        return []
    return [f"Cells that are compared do not rest on the same seeds: {_some(uneven)}."]


def _streams(finished: pd.DataFrame) -> list[str]:
    found = []
    for stream in ("head", "order", "noise"):
        levels = finished.groupby(CELL)[stream].nunique()
        sizes = finished.groupby(CELL).size()
        if ((levels > 1) & (levels < sizes)).any():
            found.append(
                f"Runs of a cell share {stream} seeds, so they are not independent: intervals and "
                "p-values are too optimistic."
            )
        if ((levels == 1) & (sizes > 1)).any():
            found.append(
                f"Some cells hold the {stream} seed fixed: its share of scatter is not seen."
            )
    return found


def _baseline(runs: pd.DataFrame) -> list[str]:
    without = [f"{task}/{model}" for task, model, block in blocks(runs) if not baseline_of(block)]
    alone = [
        f"{task}/{model}" for task, model, block in blocks(runs) if len(configurations(block)) == 1
    ]
    found = []
    if without:
        found.append(f"No {BASELINE} to compare with: {_some(without)}.")
    if alone:
        found.append(f"Only one configuration, so nothing is compared: {_some(alone)}.")
    return found


def _unequal(runs: pd.DataFrame) -> list[str]:
    """Where configurations are compared with a baseline chosen from more or from fewer."""
    found = []
    for task, model, block in blocks(runs):
        tried = block.groupby("configuration")["tried"].max()
        base = baseline_of(block)
        if base and (tried != tried[base]).any():
            found.append(f"{task}/{model} ({tried.min()} to {tried.max()})")
    if not found:
        return []
    return [
        f"Configurations that are compared with {BASELINE} were not chosen from equally many: "
        f"{_some(found)}. A gain there can come from the search."
    ]


def _mixtures(finished: pd.DataFrame) -> list[str]:
    found = []
    for column, words in (
        ("device", "kinds of device"),
        ("versions", "sets of versions"),
        ("commit", "commits"),
    ):
        counts = (
            finished[column].fillna("unknown").replace("", "unknown").value_counts().sort_index()
        )
        if len(counts) > 1:
            shares = [f"{value} ({_runs(n)})" for value, n in counts.items()]
            found.append(f"The tables mix {len(counts)} {words}: {_some(shares)}.")
    dirty = int((finished["dirty"] == True).sum())  # noqa: E712  (unknown is neither)
    if dirty:
        found.append(
            f"{_runs(dirty)} of {len(finished)} came from a working tree with uncommitted changes: "
            "the commit does not say which code ran."
        )
    return found


def _small_sets(runs: pd.DataFrame) -> list[str]:
    found = []
    for split, use in (("dev", "Choosing on them"), ("test", "A score on them")):
        rows = runs.groupby("task")[f"{split}_rows"].max().dropna()
        small = [f"{task} ({n} rows)" for task, n in rows[rows < SMALL].items()]
        if small:
            found.append(
                f"Small {split} sets: {_some(small)}. {use} carries an uncertainty that more seeds "
                "do not lower and no interval here shows."
            )
    return found


def _label(cell: object) -> str:
    return "/".join(map(str, cell)) if isinstance(cell, tuple) else str(cell)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _runs(n: int) -> str:
    return f"{n} run" if n == 1 else f"{n} runs"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"
