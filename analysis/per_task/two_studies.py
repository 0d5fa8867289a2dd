"""Two studies side by side, or a study and published runs: the cells that both have."""

import re

import numpy as np
import pandas as pd

from analysis.frames.runs import CELL, Row, ScoreFileError, checked, final, scores, task_facts
from analysis.rendering.builder import SHARED_COLUMNS, table_of
from analysis.rendering.formatting import (
    DAGGER,
    ENTERS,
    NBSP,
    interval_text,
    mean_sd_text,
    number_with_interval,
    p_text,
    score_text,
)
from analysis.rendering.table import Table
from analysis.statistics.common import stream
from analysis.statistics.estimates import mean, sd
from analysis.statistics.location import mean_difference, welch
from analysis.statistics.multiplicity import holm
from analysis.statistics.spread import brown_forsythe, sd_ratio, sd_ratio_bootstrap
from analysis.statistics.summary import Scores


def against(runs: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Each cell of one study beside the same cell of another, on test.

    Args:
        runs: One row per run, as `load_runs` or `read_scores` give them.
        others: Likewise; the runs to compare with.

    Returns:
        One row per task, model and configuration of the final stage in either: where (`both`,
        `first` or `second`), settings (`same` or `other`, by the keys of the two cells; empty where
        one has none, as scores from elsewhere), metric, higher_is_better, scale; of each side n,
        missing, failed, mean and sd (`other_n` and so on of the second); and of cells in both the
        difference (first minus second) with its Welch interval, p (Welch's, or of a permutation
        test where a run failed: `method`), p_holm (over the cells in both), ratio (of sds, first
        over second) with its interval, spread_p (Brown-Forsythe) and spread_p_holm,
        `clean_difference` and `clean_p` without failed runs, and `reason` why something of that is
        NaN.

    Raises:
        ScoreFileError: If either is; or with every task that they score by another metric, in
            another direction or on another scale.
    """
    sides = [final(checked(each)) for each in (runs, others)]
    tasks = [{str(task): part for task, part in side.groupby("task")} for side in sides]
    facts = [{task: task_facts(part) for task, part in side.items()} for side in tasks]
    _refuse(facts)
    cells = [dict(iter(side.groupby(CELL))) for side in sides]
    rows: list[Row] = []
    for label in sorted({*cells[0], *cells[1]}):
        first, second = (scores(c[label], "test") if label in c else None for c in cells)
        task = str(label[0])
        row: Row = dict(zip(CELL, label, strict=True)) | facts[0].get(task, facts[1].get(task, {}))
        row["where"] = "both" if first and second else "first" if first else "second"
        row["settings"] = _settings(*(c[label]["cell"].iloc[0] for c in cells if label in c))
        row |= _side(first, "") | _side(second, "other_")
        row |= versus(first, second, key=("against", *map(str, label)))
        rows.append(row)
    if not rows:
        return pd.DataFrame(columns=[*CELL, "where", "settings", "metric", "n", "other_n"])
    found = pd.DataFrame(rows)
    for name in ("p", "spread_p"):
        found[f"{name}_holm"] = holm(found[name].to_numpy("float64"))
    return found


def versus(first: Scores | None, second: Scores | None, *, key: tuple[str, ...]) -> Row:
    """Two cells compared: the difference of their means, and the ratio of their sds.

    Args:
        first: Scores of a cell, or None where it was not run.
        second: Likewise.
        key: Names the stream that resamples are drawn from.

    Returns:
        The columns of `against` from `difference` to `reason`, without those adjusted by Holm.
    """
    if first is None or second is None:
        return _NOTHING
    a, b = first.all_floor, second.all_floor
    gap, method = mean_difference(first, second)
    if first.failed.any() or second.failed.any():
        ratio = sd_ratio_bootstrap(a, b, rng=stream(*key, "sd_ratio"))
    else:
        ratio = sd_ratio(a, b)
    clean = welch(first.excluded, second.excluded)
    return {
        "difference": gap.estimate,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "p": gap.p,
        "method": method,
        "ratio": ratio.estimate,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "spread_p": brown_forsythe(a, b).p,
        "clean_difference": clean.estimate,
        "clean_p": clean.p,
        "reason": gap.reason or ratio.reason,
    }


_NUMBERS = ["difference", "difference_low", "difference_high", "p", "ratio", "ratio_low"]
_NUMBERS += ["ratio_high", "spread_p", "clean_difference", "clean_p"]
_NOTHING: Row = dict.fromkeys(_NUMBERS, np.nan) | {"method": "", "reason": "unpaired"}


def against_table(found: pd.DataFrame, name: str, other: str) -> Table:
    """The cells that both studies have, as `against` gives them.

    Args:
        found: As `against` gives it.
        name: What the first study is called.
        other: What the second is called.
    """
    both = found[found["where"] == "both"]
    columns = {
        **SHARED_COLUMNS,
        "Configuration": lambda r: r.configuration + (DAGGER if r.settings == "other" else ""),
        "n": lambda r: f"{r.n},{NBSP}{r.other_n}",
        "Failed": lambda r: f"{r.failed},{NBSP}{r.other_failed}",
        "Missing": lambda r: f"{r.missing},{NBSP}{r.other_missing}",
        name: lambda r: mean_sd_text(r.mean, r.sd, r.scale),
        other: lambda r: mean_sd_text(r.other_mean, r.other_sd, r.scale),
        "Difference, 95%": lambda r: (
            f"{score_text(r.difference, r.scale, sign='+')} "
            f"{interval_text(r.difference_low, r.difference_high, scale=r.scale)}"
        ),
        "p": lambda r: p_text(r.p_holm) + ("*" if r.method == "permutation" else ""),
        "sd ratio": lambda r: number_with_interval(r.ratio, r.ratio_low, r.ratio_high),
        "p sd": lambda r: p_text(r.spread_p_holm),
    }
    notes = [
        f"Cells that {name} and {other} both have; n, failed and missing are of the one, then of "
        "the other.",
        f"Mean ± standard deviation of test scores over seeds (n − 1). A failed run {ENTERS}.",
        f"Difference and ratio: {name} against {other}, unpaired; Welch interval. p is of Welch's "
        "test (*: of a permutation test, where runs failed), p sd of Brown–Forsythe's, both "
        "Holm-adjusted over the rows.",
        *_only(found, name, other),
    ]
    if (both["settings"] == "other").any():
        notes.append(f"{DAGGER} The same label with other settings, data or weights: keys differ.")
    table = table_of(
        "against", f"{name} against {other}", both, columns, notes=notes, details=["Missing"]
    )
    if both.empty and len(found):
        caption = f"No cell is in both {name} and {other}. {' '.join(_only(found, name, other))}"
        return Table(table.name, table.title, caption, table.header, (), (), found)
    return table


def _only(found: pd.DataFrame, name: str, other: str) -> list[str]:
    """Which cells have nothing to be compared with, in sentences."""
    sentences = []
    for where, who in (("first", name), ("second", other)):
        labels = ["/".join(each) for each in found.loc[found["where"] == where, CELL].to_numpy()]
        if labels:
            more = f" and {len(labels) - 6} more" if len(labels) > 6 else ""
            sentences.append(f"Only in {who}: {', '.join(labels[:6])}{more}.")
    return sentences


def _settings(*keys: str) -> str:
    """Whether two cells are the same one; a key is 12 hex digits."""
    if len(keys) < 2 or not all(re.fullmatch("[0-9a-f]{12}", key) for key in keys):
        return ""
    return "same" if keys[0] == keys[1] else "other"


def _side(own: Scores | None, prefix: str) -> Row:
    if own is None:
        return {f"{prefix}{name}": 0 for name in ("n", "missing", "failed")} | {
            f"{prefix}{name}": np.nan for name in ("mean", "sd")
        }
    return {
        f"{prefix}n": own.all_floor.size,
        f"{prefix}missing": own.values.size - own.finished,
        f"{prefix}failed": int(own.failed.sum()),
        f"{prefix}mean": mean(own.all_floor),
        f"{prefix}sd": sd(own.all_floor),
    }


def _refuse(facts: list[dict[str, Row]]) -> None:
    """Scores that only share a name are not compared."""
    mistakes = []
    for task in sorted(facts[0].keys() & facts[1].keys()):
        one, other = facts[0][task], facts[1][task]
        if one["metric"] != other["metric"]:
            mistakes.append(
                f"task {task!r} is scored by {one['metric']} in the one and by {other['metric']} "
                "in the other."
            )
        elif one["higher_is_better"] != other["higher_is_better"]:
            mistakes.append(f"task {task!r}: higher {one['metric']} is better in only one of them.")
        elif one["scale"] != other["scale"]:
            mistakes.append(
                f"task {task!r}: {one['metric']} is a share in the one and above 1 in the other; "
                "divide percentages by 100."
            )
    if mistakes:
        raise ScoreFileError(mistakes)
