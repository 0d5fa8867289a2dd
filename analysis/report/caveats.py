"""Caveats of a report: what limits the conclusions that the runs allow."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.frames.runs import (
    ASSUMED,
    BASELINE,
    BLOCK,
    CELL,
    DEFINED,
    baseline_of,
    blocks,
    checked,
    configurations,
    final,
    task_facts,
)
from analysis.frames.score_files import UNNAMED
from analysis.per_task.failures import why_collapsed
from analysis.per_task.recommend import FEWEST
from analysis.rendering.formatting import score_text
from analysis.statistics.collapse import COLLAPSED, POINT, two_groups
from analysis.statistics.common import constant
from analysis.statistics.power import minimum_detectable_ratio
from analysis.statistics.spread import ENOUGH_FOR_SPREAD

COMFORTABLE = 2  # ratio of sds that enough seeds show
SMALL = 500  # rows of a dev or test set; one row of fewer changes accuracy by 0.2 points or more
CUT = 0.01  # share of rows that lose tokens, from which a task is named
LEAST_GAIN = 0.005  # of a share, in the last epoch
GAIN = 0.1  # share of the gain of all epochs, from which training may have ended too early
GAIN_OF_SHARE = 0.02  # as much in the last epoch says so whatever the others gained
NAMED = 3  # cells that a sentence names; of the others it gives the count


def caveats(runs: pd.DataFrame, curves: pd.DataFrame | None = None) -> list[str]:
    """Caveats that a reader needs to interpret tables of these runs.

    Args:
        runs: One row per run, as returned by `load_runs`.
        curves: One row per run and epoch, as returned by `load_curves`; optional.

    Returns:
        Sentences, the most important first; empty if there are none.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Example:
        >>> from analysis import caveats, example_runs
        >>> runs = example_runs()
        >>> print(caveats(runs[runs["task"] == "rte"])[0])
        No dev scores at all: rte; selecting there requires test scores, so nothing is recommended.
    """
    runs = final(checked(runs))
    if runs.empty:
        return ["There are no runs yet."]
    finished = runs[runs["outcome"] != "missing"]
    found = [
        *_missing(runs),
        *_directions(runs),
        *_few_seeds(runs),
        *_without_scatter(finished),
        *_cut(finished),
        *_unfinished(finished, curves),
        *_small_sets(runs),
        *_failures(runs),
        *_variability(runs),
        *_unscored(runs),
        *_unknown(runs),
        *_collapse(runs),
        *_units(runs),
        *_uneven(runs),
        *_streams(finished),
        *_baseline(runs),
        *_unequal(runs),
        *_mixtures(finished),
    ]
    return [_without_shared_names(sentence, runs) for sentence in found]


def _without_shared_names(sentence: str, runs: pd.DataFrame) -> str:
    """A sentence whose cells are named without the model if there is one, and the task likewise."""
    tasks, models = (runs[name].unique() for name in BLOCK)
    if len(models) > 1:
        return sentence
    for cell in runs[CELL].drop_duplicates().itertuples(index=False):
        task, _, configuration = map(str, cell)
        short = configuration if len(tasks) == 1 else f"{task}/{configuration}"
        sentence = sentence.replace(_label(tuple(cell)), short)
    return sentence


def _missing(runs: pd.DataFrame) -> list[str]:
    gone = runs["outcome"] == "missing"
    if not gone.any():
        return []
    cells = [f"{_label(cell)} ({n})" for cell, n in runs[gone].groupby(CELL).size().items()]
    return [f"{gone.sum()} of {_runs(len(runs))} {_are(gone.sum())} missing: {_some(cells)}."]


def _directions(runs: pd.DataFrame) -> list[str]:
    assumed = runs[runs["direction_from"] == ASSUMED]
    if assumed.empty:
        return []
    return [
        f"No metric is named for {_some(assumed['task'].unique())}, so higher scores were taken as "
        "better. Name the metric with --metric, or say --lower-is-better score."
    ]


def _units(runs: pd.DataFrame) -> list[str]:
    facts = runs.groupby("task")[["unit", "metric", "higher_is_better"]].first()
    percent, own = facts[facts["unit"] == "percent"], facts[facts["unit"] == "own"]
    found = []
    if len(percent):
        found.append(
            f"Scores in per cent were divided by 100: {_some(percent.index)}. Tables print points, "
            "runs.csv has shares."
        )
    if len(own):
        tasks = [f"{task} ({metric})" for task, metric in own["metric"].items()]
        could = (runs["unit"] == "own") & (runs["direction_from"] != DEFINED)
        could &= runs["higher_is_better"] & (runs[["dev", "test"]].max(axis=1) > 1)
        hint = ""
        if could.any():
            hint = " Scores in per cent count as shares if --metric names one, such as accuracy."
        found.append(
            f"Scores are not shares: {_some(tasks)}; means over tasks, practical equivalence and "
            f"advice by group leave these tasks out.{hint}"
        )
    return found


def _finished_seeds(runs: pd.DataFrame) -> pd.Series:
    return (runs["outcome"] != "missing").groupby([runs[c] for c in CELL]).sum()


def _few_seeds(runs: pd.DataFrame) -> list[str]:
    counts = _finished_seeds(runs)
    cells = [f"{_label(cell)} ({n})" for cell, n in counts[counts < FEWEST].items()]
    if not cells:
        return []
    which = "in every cell" if len(cells) == len(counts) else _some(cells)
    return [
        f"Fewer than {FEWEST} seeds: {which}. Their means, and comparisons with them, are "
        "unreliable."
    ]


def _variability(runs: pd.DataFrame) -> list[str]:
    """Whether there are enough seeds for claims about variability."""
    least = int(_finished_seeds(runs).min())
    compared = [block for *_, block in blocks(runs) if baseline_of(block)]
    comparisons = max((len(configurations(block)) - 1 for block in compared), default=0)
    if least < ENOUGH_FOR_SPREAD:
        return [
            f"Some cells have fewer than {ENOUGH_FOR_SPREAD} seeds (the smallest has {least}): no "
            f"claim about variability is made for them. {_detectable(least, comparisons)}".rstrip()
        ]
    if comparisons and not minimum_detectable_ratio(least, comparisons) <= COMFORTABLE:
        return [f"The smallest cell has {least} seeds. {_detectable(least, comparisons)}"]
    return []


def _detectable(n: int, comparisons: int) -> str:
    """What the test of spread would miss, where each configuration is compared with another."""
    if n < 2:
        return "One seed gives no estimate of variability."
    if not comparisons:
        return ""
    ratio = minimum_detectable_ratio(n, comparisons)
    if np.isnan(ratio):
        return f"With {n} seeds no difference in sd is found reliably, however large."
    return (
        f"With {n} seeds, sds that differ by less than a factor of {ratio:.1f} are missed in more "
        "than 20% of studies."
    )


def _failures(runs: pd.DataFrame) -> list[str]:
    diverged = runs["outcome"] == "diverged"
    found = []
    if diverged.any():
        counts = runs[diverged].groupby(CELL).size()
        cells = [f"{_label(cell)} ({n})" for cell, n in counts.items()]
        found.append(f"{_runs(int(counts.sum()))} diverged: {_some(cells)}.")
    if runs["collapsed"].any():
        cells = [_best_collapsed(cell, own) for cell, own in runs[runs["collapsed"]].groupby(CELL)]
        found.append(
            f"{_runs(int(runs['collapsed'].sum()))} collapsed, {COLLAPSED}: {_some(cells)}."
        )
    if found:
        found.append(
            "A failed run counts with its score, or with that of a constant answer if it has none. "
            "Where some runs of a cell failed, its mean and sd mix two kinds of runs."
        )
    return found


def _cut(finished: pd.DataFrame) -> list[str]:
    """Tasks whose texts lost tokens to the maximum length, in `CUT` of their rows or more."""
    worst = finished[finished["cut_rows"] >= CUT].groupby(BLOCK)[["cut_rows", "cut_tokens"]].max()
    found = [
        f"{task}/{model} ({rows:.0%} of the rows, {tokens:.0%} of all tokens)"
        for (task, model), rows, tokens in worst.itertuples()
    ]
    if not found:
        return []
    return [f"Texts were cut at the maximum length: {_some(found)}."]


def _unfinished(finished: pd.DataFrame, curves: pd.DataFrame | None) -> list[str]:
    """Cells whose mean dev score still gained much in the last epoch.

    Much is `GAIN` of all that it gained, or `GAIN_OF_SHARE`: after a steep start two points are a
    small part.
    """
    if curves is None or curves.empty:
        return []
    found = []
    dev = curves[curves["name"].str.startswith("dev/")]
    learnt = finished[(finished["outcome"] == "completed") & ~finished["collapsed"]]
    for label, cell in learnt.groupby(CELL):
        facts = task_facts(cell)
        own = dev[dev["key"].isin(cell["key"])].pivot(index="key", columns="epoch", values="value")
        means = own.dropna().mean().to_numpy() * (1 if facts["higher_is_better"] else -1)
        gains = np.diff(means)
        share = facts["scale"] == 100
        rises = len(gains) > 1 and means[-1] == means.max() and means[0] == means.min()
        much = min(GAIN * gains.sum(), GAIN_OF_SHARE if share else np.inf)
        if rises and gains[-1] > (LEAST_GAIN if share else 0.0) and gains[-1] >= much:
            found.append(_label(label))
    if not found:
        return []
    return [
        f"Dev scores still improved in the last epoch: {_some(found)}. More epochs or a higher "
        "learning rate may change which is best."
    ]


def _best_collapsed(label: object, cell: pd.DataFrame) -> str:
    """The number of collapsed runs of a cell, and why the best of them is one."""
    facts = task_facts(cell)
    by_score = cell.sort_values("dev", ascending=not facts["higher_is_better"])
    why = why_collapsed(by_score.iloc[0].to_dict(), facts["scale"])
    return f"{_label(label)} ({f'{len(cell)}, the best' if len(cell) > 1 else '1'}: {why})"


def _without_scatter(finished: pd.DataFrame) -> list[str]:
    """Cells whose runs all have the same test score, or dev score where there is no other."""
    found = []
    for label, cell in finished.groupby(CELL):
        x = cell["test"] if cell["test"].notna().any() else cell["dev"]
        if x.notna().sum() > 1 and constant(x.dropna().to_numpy("float64")):
            found.append(f"{_label(label)} ({len(cell)} runs)")
    if not found:
        return []
    return [
        f"All runs scored the same: {_some(found)}. The task may be too easy, or have too few "
        "rows, to tell runs apart; or training is deterministic, or the seed does not reach it. An "
        "sd of 0 is no evidence of stability, and a test against such a cell takes its score for "
        "exact."
    ]


def _unscored(runs: pd.DataFrame) -> list[str]:
    failed = (runs["outcome"] == "diverged") | runs["collapsed"]
    completed = runs["outcome"] == "completed"
    found = []
    for split, floor in (("dev", "dev_floor"), ("test", "test_floor")):
        unscored = runs[split].isna()
        never = unscored.groupby(runs["task"]).transform("all")  # reported per task by `_unknown`
        dropped = int((unscored & ~failed & completed & ~never).sum())
        if dropped:
            found.append(
                f"{_runs(dropped)} completed without a {split} score and {_are(dropped)} left out."
            )
        no_floor = int((unscored & failed & runs[floor].isna()).sum())
        if no_floor:
            found.append(
                f"{_runs(no_floor)} failed without a {split} score, and that of a constant "
                "predictor is unknown: they are left out, which makes their cells look better."
            )
    return found


def _unknown(runs: pd.DataFrame) -> list[str]:
    """Tasks for which imported scores lack a split."""
    completed = runs[runs["outcome"] == "completed"]
    found = []
    for split, result in (
        ("dev", "selecting there requires test scores, so nothing is recommended"),
        ("test", "only the dev scores used for selection are reported there"),
    ):
        known = completed.groupby("task")[split].count()
        if none := [str(task) for task, n in known.items() if n == 0]:
            found.append(f"No {split} scores at all: {_some(none)}; {result}.")
    return found


def _collapse(runs: pd.DataFrame) -> list[str]:
    """How far collapsed runs of imported scores are known."""
    completed = runs[runs["outcome"] == "completed"]
    unknown, by_score, unsized = [], [], []
    for task, part in completed.groupby("task"):
        if not task_facts(part)["floor_known"]:
            unknown.append(str(task))
        elif (part["direction_from"] != DEFINED).all():
            by_score.append(str(task))
            split = "dev" if part["dev"].notna().any() else "test"
            unsized += [str(task)] if part[f"{split}_rows"].isna().any() else []
    found = []
    if unknown:
        found.append(
            f"The score of a constant predictor is unknown: {_some(unknown)}; collapsed runs "
            f"cannot be identified there.{_groups(completed[completed['task'].isin(unknown)])}"
        )
    if by_score:
        margin = "one point, or two standard errors of the floor if that is more"
        if unsized:
            margin += f" (one point where the number of examples is unknown: {_some(unsized)})"
        found.append(
            f"Collapsed runs were identified by their score alone: {_some(by_score)}. A run counts "
            f"as collapsed if its score is not above the constant predictor's by {margin}; for "
            "scores that are not shares, by 1% of it."
        )
    return found


def _groups(completed: pd.DataFrame) -> str:
    """Cells whose test scores form two groups; what that means is left to the reader."""
    seen = []
    for label, cell in completed.dropna(subset="test").groupby(CELL):
        x = cell["test"].sort_values().to_numpy("float64")
        scale = task_facts(cell)["scale"]
        unit = 1.0 if scale == 100 else abs(float(cell["test"].median()))
        if below := two_groups(x, least=POINT * unit):
            ends = [score_text(x[i], scale) for i in (0, below - 1, below, x.size - 1)]
            ranges = [f"{a} to {b}" if a != b else a for a, b in (ends[:2], ends[2:])]
            seen.append(
                f"{_label(label)} ({below} at {ranges[0]}, {x.size - below} at {ranges[1]})"
            )
    if not seen:
        return ""
    return (
        f" Test scores form two groups in {_some(seen)}: failed runs may be among them, and the "
        "intervals of such a cell are unreliable. A column or value named with --floor identifies "
        "collapsed runs."
    )


def _uneven(runs: pd.DataFrame) -> list[str]:
    uneven = []
    for task, model, block in blocks(runs[runs["outcome"] != "missing"]):
        streams = ["head", "order", "noise"]
        seeds = {
            frozenset(cell[streams].itertuples(index=False, name=None))
            for cell in configurations(block).values()
        }
        if len(seeds) > 1:
            sizes = sorted({len(cell) for cell in seeds})
            n = f"n = {sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"n = {sizes[0]} each"
            uneven.append(f"{task}/{model} ({n})")
    if not uneven:
        return []
    return [f"Compared cells do not share the same seeds: {_some(uneven)}."]


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
                f"Some cells hold the {stream} seed fixed: its contribution to the variance is not "
                "measured."
            )
    return found


def _baseline(runs: pd.DataFrame) -> list[str]:
    without = [f"{task}/{model}" for task, model, block in blocks(runs) if not baseline_of(block)]
    alone = [
        f"{task}/{model}" for task, model, block in blocks(runs) if len(configurations(block)) == 1
    ]
    found = []
    if without:
        found.append(
            f"No baseline ({BASELINE}) to compare with: {_some(without)}. For a file of scores, "
            "--baseline names it."
        )
    if alone:
        found.append(f"Only one configuration, so no comparison: {_some(alone)}.")
    return found


def _unequal(runs: pd.DataFrame) -> list[str]:
    """Comparisons in which configuration and baseline had different search budgets."""
    found = []
    for task, model, block in blocks(runs):
        tried = block.groupby("configuration")["tried"].max()
        base = baseline_of(block)
        if base and (tried != tried[base]).any():
            found.append(f"{task}/{model} ({tried.min()} to {tried.max()})")
    if not found:
        return []
    return [
        f"Search budgets (configurations tried) differ from that of {BASELINE}: {_some(found)}. "
        "A gain there can result from the larger search."
    ]


def _mixtures(finished: pd.DataFrame) -> list[str]:
    found = []
    for column, words in (
        ("device", "types of device"),
        ("versions", "sets of package versions"),
        ("commit", "commits"),
    ):
        counts = (
            finished[column].fillna("unknown").replace("", "unknown").value_counts().sort_index()
        )
        if len(counts) > 1:
            shares = [f"{value} ({_runs(n)})" for value, n in counts.items()]
            found.append(f"The tables combine runs from {len(counts)} {words}: {_some(shares)}.")
    dirty = int((finished["dirty"] == True).sum())  # noqa: E712  (may be missing)
    if dirty:
        found.append(
            f"{_runs(dirty)} of {len(finished)} came from a working tree with uncommitted changes: "
            "the commit does not identify the code."
        )
    return found


def _small_sets(runs: pd.DataFrame) -> list[str]:
    found = []
    for split, use in (("dev", "Selection on them"), ("test", "A score on them")):
        rows = runs.groupby("task")[f"{split}_rows"].max().dropna()
        metrics = dict(runs.groupby("task")["metric"].first())
        small = [
            f"{task} ({n} rows{_standard_error(metrics[task], int(n))})"
            for task, n in rows[rows < SMALL].items()
        ]
        if small:
            found.append(
                f"Small {split} sets: {_some(small)}. {use} has a sampling error that more "
                "seeds do not reduce and that the intervals here do not include."
            )
    return found


def _standard_error(metric: str, rows: int) -> str:
    """How far off so few rows leave a score, in points; empty where that is not simple.

    Source: binomial for shares, largest at one half; 1 / sqrt(n - 1) for correlations of
    independent variables.
    """
    if metric in ("accuracy", "exact_match", "squad_em"):
        return f", standard error up to {50 / rows**0.5:.1f} points"
    if metric in ("pearson", "spearman") and rows > 1:
        return f", standard error about {100 / (rows - 1) ** 0.5:.0f} points near 0"
    return ""


def _label(cell: object) -> str:
    names = cell if isinstance(cell, tuple) else (cell,)
    return "/".join(str(name) for name in names if name != UNNAMED)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _runs(n: int) -> str:
    return f"{n} run" if n == 1 else f"{n} runs"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"
