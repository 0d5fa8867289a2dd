"""How well choices on dev hold on test, by the number of seeds."""

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
from analysis.rendering.formatting import score_text
from analysis.rendering.table import Table
from analysis.statistics.common import DECIMALS, FloatArray, stream
from analysis.statistics.dev_to_test import transfer as transferred
from analysis.statistics.tie_set import tie_set

SIZES = (1, 2, 3, 5, 10, 15, 20, 50, 100, 200)  # seeds per configuration that a choice is made with


def transfer(runs: pd.DataFrame) -> pd.DataFrame:
    """What choosing the highest dev mean gives on test, with few seeds and with all.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per task, model and number of seeds (`SIZES` up to the smallest n of the block, and
        that n): configurations (with a score), without_test (others, that test has no score of),
        agreement (share of choices that have the highest test mean over all seeds), chance
        (the same if one chose blindly), level (share that a Welch test on test does not tell from
        the highest, Holm-adjusted), regret and optimism in the metric's unit (how far the choice's
        test mean is below the highest; how far its dev mean over those seeds is above that over
        all), the same in standard deviations over seeds as `regret_sd` and `optimism_sd`
        (root mean variance over the configurations, of test and dev), and scale. Blocks with fewer
        than two configurations have no rows.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    rows: list[Row] = []
    for task, model, block in blocks(final(checked(runs))):
        rows += _block(task, model, block)
    columns = ["task", "model", "seeds", "configurations", "agreement", "level", "regret"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def _block(task: str, model: str, block: pd.DataFrame) -> list[Row]:
    sign = orientation(block)
    dev, test = (sign * by_seed(block, split).T.to_numpy("float64") for split in ("dev", "test"))
    there = (~np.isnan(dev)).any(axis=1) & (~np.isnan(test)).any(axis=1)
    if there.sum() < 2:
        return []
    dev, test = dev[there], test[there]
    names = [f"{number}" for number in range(len(test))]
    scored = {name: x[~np.isnan(x)] for name, x in zip(names, test, strict=True)}
    nothing = dict.fromkeys(names, 0)
    tied = tie_set(scored, failures=nothing, seconds=nothing)
    least = int((~np.isnan(dev)).sum(axis=1).min())
    sizes = [k for k in SIZES if k < least] + [least]
    means = np.nanmean(test, axis=1)
    found = transferred(
        dev,
        means,
        level=np.array([name in tied.members for name in names]),
        sizes=sizes,
        rng=stream(task, model, "transfer"),
    )
    top = np.round(means.max() - means, DECIMALS) == 0
    row: Row = {"task": task, "model": model, "configurations": len(test)}
    row |= {"without_test": int((~there).sum()), "chance": float(top.mean())}
    row["scale"] = task_facts(block)["scale"]
    return [
        row
        | {"seeds": k, **{name: float(values[i]) for name, values in found._asdict().items()}}
        | {"regret_sd": _in_sds(found.regret[i], test)}
        | {"optimism_sd": _in_sds(found.optimism[i], dev)}
        for i, k in enumerate(sizes)
    ]


def _in_sds(value: float, scores: FloatArray) -> float:
    """The value in units of the root mean variance over seeds; NaN where nothing scatters."""
    several = scores[(~np.isnan(scores)).sum(axis=1) > 1]
    spread = np.sqrt(np.nanvar(several, axis=1, ddof=1).mean()) if len(several) else np.nan
    return float(value / spread) if spread > 10.0**-DECIMALS else np.nan


def transfer_table(found: pd.DataFrame) -> Table:
    """A line per number of seeds, over all tasks and models; of what `transfer` gives."""
    columns: Columns = {
        "Seeds": lambda r: r.label,
        "Tasks and models": lambda r: f"{r.blocks}",
        "Dev winner is test winner": lambda r: f"{r.agreement:.0%}",
        "By chance": lambda r: f"{r.chance:.0%}",
        "Level with it on test": lambda r: f"{r.level:.0%}",
        "Lost on test": lambda r: score_text(r.regret_sd, 1),
        "Dev too high by": lambda r: score_text(r.optimism_sd, 1),
    }
    notes = [
        "The dev winner has the highest dev mean over so many seeds of each configuration, drawn "
        "many times from those there are; the test winner has the highest test mean over all. "
        "By chance: if one chose blindly.",
        "Level: not told from the test winner by a Welch test on test (Holm, 5%).",
        "Lost: by how much the dev winner's test mean is below the test winner's. Too high: its "
        "dev mean over those seeds minus its dev mean over all. Both in standard deviations over "
        "seeds (n − 1), and means over tasks and models.",
        "Only numbers of seeds that every task and model has.",
    ]
    shown = _by_seeds(found)
    return table_of("transfer", "From dev to test", shown, columns, notes=notes, details=[])


def _by_seeds(found: pd.DataFrame) -> pd.DataFrame:
    """Means over tasks and models, for numbers of seeds that all of them have, and for all."""
    if found.empty:
        return found
    numbers = ["agreement", "chance", "level", "regret_sd", "optimism_sd"]
    most = found.groupby(BLOCK)["seeds"].transform("max")
    parts = [
        (str(k), part[numbers])
        for k, part in found.groupby("seeds")
        if k in SIZES and k < most.min()
    ]
    low, high = most.min(), most.max()
    whole = f"all {low}" if low == high else f"all, {low} to {high}"
    parts.append((whole, found.loc[found["seeds"] == most, numbers]))
    return pd.DataFrame(
        [{"label": label, "blocks": len(part), **part.mean()} for label, part in parts]
    )
