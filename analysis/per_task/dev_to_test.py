"""How well selection on dev transfers to test, by the number of seeds."""

import numpy as np
import pandas as pd

from analysis.frames.runs import (
    BLOCK,
    Row,
    blocks,
    by_seed,
    checked,
    final,
    orientation,
    task_facts,
)
from analysis.rendering.builder import Columns, table_of
from analysis.rendering.formatting import ALL_PAIRS, score_text
from analysis.rendering.table import Table
from analysis.statistics.common import DECIMALS, FloatArray, stream
from analysis.statistics.dev_to_test import transfer as transferred
from analysis.statistics.tie_set import tie_set

SIZES = (1, 2, 3, 5, 10, 15, 20, 50, 100, 200)  # seeds per configuration to select with


def transfer(runs: pd.DataFrame) -> pd.DataFrame:
    """Agreement, regret and optimism of selecting the best dev mean, by the number of seeds.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per task, model and number of seeds (`SIZES` up to the smallest n of the block, and
        that n): configurations (with scores on both splits), without_test (number of others),
        agreement (share of selections that have the best test mean over all seeds), chance
        (the same for a random selection), level (share that may be the best on test: none is
        significantly better, see `statistics.tie_set.tie_set`), regret and optimism in the
        metric's unit (how far the selected test mean is from the best; how far its dev mean over
        those seeds exceeds its dev mean over all), the same in standard deviations over seeds as
        `regret_sd` and `optimism_sd` (root mean variance over the configurations, of test and of
        dev), and scale.
        Tasks and models with fewer than two configurations have no rows.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> names = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(configuration=names, model="any", dev=runs["test"])
        >>> transfer(runs)[["seeds", "configurations", "agreement", "regret"]].round(2)
           seeds  configurations  agreement  regret
        0      1               4       0.77    0.02
        1      2               4       0.92    0.01
        2      3               4       0.96    0.00
        3      5               4       1.00    0.00
        4     10               4       1.00    0.00
        5     15               4       1.00    0.00
        6     20               4       1.00    0.00
    """
    rows: list[Row] = []
    for task, model, block in blocks(final(checked(runs))):
        rows += _block(task, model, block)
    columns = ["task", "model", "seeds", "configurations", "agreement", "level", "regret"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def _block(task: str, model: str, block: pd.DataFrame) -> list[Row]:
    sign = orientation(block)
    dev, test = (sign * by_seed(block, split).T.to_numpy("float64") for split in ("dev", "test"))
    scored = (~np.isnan(dev)).any(axis=1) & (~np.isnan(test)).any(axis=1)
    if scored.sum() < 2:
        return []
    dev, test = dev[scored], test[scored]
    names = [f"{number}" for number in range(len(test))]
    test_scores = {name: x[~np.isnan(x)] for name, x in zip(names, test, strict=True)}
    zeros = dict.fromkeys(names, 0)
    tied = tie_set(test_scores, failures=zeros, seconds=zeros)
    least = int((~np.isnan(dev)).sum(axis=1).min())
    sizes = [k for k in SIZES if k < least] + [least]
    means = np.nanmean(test, axis=1)
    by_size = transferred(
        dev,
        means,
        level=np.array([name in tied.members for name in names]),
        sizes=sizes,
        rng=stream(task, model, "transfer"),
    )
    best = np.round(means.max() - means, DECIMALS) == 0
    row: Row = {"task": task, "model": model, "configurations": len(test)}
    row |= {"without_test": int((~scored).sum()), "chance": float(best.mean())}
    row["scale"] = task_facts(block)["scale"]
    return [
        row
        | {"seeds": k, **{name: float(values[i]) for name, values in by_size._asdict().items()}}
        | {"regret_sd": _in_sds(by_size.regret[i], test)}
        | {"optimism_sd": _in_sds(by_size.optimism[i], dev)}
        for i, k in enumerate(sizes)
    ]


def _in_sds(value: float, scores: FloatArray) -> float:
    """The value in units of the root mean variance over seeds; NaN where the sd is 0."""
    several = scores[(~np.isnan(scores)).sum(axis=1) > 1]
    spread = np.sqrt(np.nanvar(several, axis=1, ddof=1).mean()) if len(several) else np.nan
    return float(value / spread) if spread > 10.0**-DECIMALS else np.nan


def transfer_table(frame: pd.DataFrame) -> Table:
    """The table of `transfer`: a line per number of seeds, averaged over tasks and models.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> names = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(configuration=names, model="any", dev=runs["test"])
        >>> transfer_table(transfer(runs)).body[0]
        ('1', '1', '77%', '25%', '77%', '0.3078', '0.4326')
    """
    columns: Columns = {
        "Seeds": lambda r: r.label,
        "Tasks and models": lambda r: f"{r.blocks}",
        "Best on dev is best on test": lambda r: f"{r.agreement:.0%}",
        "By chance": lambda r: f"{r.chance:.0%}",
        "Tied with best on test": lambda r: f"{r.level:.0%}",
        "Regret on test": lambda r: score_text(r.regret_sd, 1),
        "Optimism on dev": lambda r: score_text(r.optimism_sd, 1),
    }
    notes = [
        "The best on dev is selected by its mean over that many seeds; by chance: at random.",
        f"Tied: none is significantly better than these on test ({ALL_PAIRS}).",
        "Regret and optimism in standard deviations over seeds (n − 1), averaged over tasks and "
        "models; lower is better.",
    ]
    method = [
        "Seeds are resampled from all; the best on test is that by its mean over all seeds.",
        "Regret: test mean of the best on test minus that of the best on dev. Optimism: dev mean "
        "over the seeds used for selection minus the dev mean over all seeds. Both with the "
        "metric oriented so that higher is better.",
        "Only numbers of seeds that every task and model has are shown.",
    ]
    shown = _by_seeds(frame)
    return table_of(
        "transfer",
        "Selection on dev, performance on test",
        shown,
        columns,
        notes=notes,
        details=[],
        method=method,
        nothing="No task and model has two configurations with dev and test scores.",
    )


def _by_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over tasks and models for each number of seeds that all of them have, and for all."""
    if frame.empty:
        return frame
    numbers = ["agreement", "chance", "level", "regret_sd", "optimism_sd"]
    most = frame.groupby(BLOCK)["seeds"].transform("max")
    parts = [
        (str(k), part[numbers])
        for k, part in frame.groupby("seeds")
        if k in SIZES and k < most.min()
    ]
    low, high = most.min(), most.max()
    whole = f"all {low}" if low == high else f"all, {low} to {high}"
    parts.append((whole, frame.loc[frame["seeds"] == most, numbers]))
    return pd.DataFrame(
        [{"label": label, "blocks": len(part), **part.mean()} for label, part in parts]
    )
