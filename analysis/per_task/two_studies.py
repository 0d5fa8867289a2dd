"""Comparison of two studies, or of a study and published runs, cell by cell."""

import re
from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd

from analysis.frames.columns import FACTS, RUN_COUNTS
from analysis.frames.runs import CELL, Row, ScoreFileError, checked, final, scores, task_facts
from analysis.rendering.builder import SHARED_COLUMNS, starred_notes, table_of
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
from analysis.statistics.spread import sd_ratio, sd_ratio_bootstrap, spread_test
from analysis.statistics.summary import Scores

COMPLETE = 10  # fields of a recipe; fewer are those that were set


def against(
    runs: pd.DataFrame,
    others: pd.DataFrame,
    settings: tuple[pd.DataFrame, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Compare each cell of one study with the same cell of another, on test.

    Args:
        runs: One row per run, as `load_runs` or `read_scores` give them.
        others: Likewise; the runs to compare with.
        settings: Of each of the two, as `load_settings` gives them; None if unknown.

    Returns:
        One row per task, model and configuration of the final stage in either: where (`both`,
        `first` or `second`), settings (`same` or `other`, by the keys of the two cells; empty where
        one has none, as imported scores), differs (what differs between cells in both, of the
        numbers of rows, facts of the model, device, versions and `settings`: such as `recipe.lr
        0.0001, 0.0002`, the first study's value first, joined by "; "), metric, higher_is_better,
        scale; of each side n, missing, failed, mean and sd (`other_n` and so on for the second);
        and for cells in both the difference (first minus second) with its Welch interval, p
        (Welch's, or of a permutation test where a run failed: `method`), p_holm (over the cells in
        both), ratio (of sds, first over second) with its interval, spread_p (Brown-Forsythe) and
        spread_p_holm, `clean_difference` and `clean_p` without failed runs, and `reason` why any of
        these is NaN.

    Raises:
        ScoreFileError: If either frame is malformed, or if the two score a task by different
            metrics, in different directions or on different scales; it lists all of them.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb' and model == 'roberta_base'")
        >>> frame = against(runs, runs.head(10))
        >>> frame[["where", "n", "other_n", "difference"]].round(3)
          where   n  other_n  difference
        0  both  20       10      -0.004
    """
    sides = [final(checked(frame)) for frame in (runs, others)]
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
        row["differs"] = ""
        if first and second:
            found = _differing(*(_known(c[label]) for c in cells), absent="")
            stored = [_of_cell(side, label) for side in settings or ()]
            if stored and all(stored):
                found += _differing(*_comparable(*stored), absent="default")
            row["differs"] = "; ".join(found)
        row |= _side(first, "") | _side(second, "other_")
        row |= versus(first, second, key=("against", *map(str, label)))
        rows.append(row)
    if not rows:
        return pd.DataFrame(
            columns=[*CELL, "where", "settings", "differs", "metric", "n", "other_n"]
        )
    frame = pd.DataFrame(rows)
    for name in ("p", "spread_p"):
        frame[f"{name}_holm"] = holm(frame[name].to_numpy("float64"))
    return frame


def versus(first: Scores | None, second: Scores | None, *, key: tuple[str, ...]) -> Row:
    """Compare two cells: difference of means and ratio of standard deviations.

    Args:
        first: Scores of a cell, or None where it was not run.
        second: Likewise.
        key: Names the random stream for resampling.

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
        "spread_p": spread_test(a, b).p,
        "clean_difference": clean.estimate,
        "clean_p": clean.p,
        "reason": gap.reason or ratio.reason,
    }


_NUMBERS = ["difference", "difference_low", "difference_high", "p", "ratio", "ratio_low"]
_NUMBERS += ["ratio_high", "spread_p", "clean_difference", "clean_p"]
_NOTHING: Row = dict.fromkeys(_NUMBERS, np.nan) | {"method": "", "reason": "unpaired"}


def against_table(frame: pd.DataFrame, name: str, other: str) -> Table:
    """The table of `against`: the cells that both studies have.

    Args:
        frame: As returned by `against`.
        name: Name of the first study.
        other: Name of the second study.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb' and model == 'roberta_base'")
        >>> against_table(against(runs, runs.head(10)), "all", "first ten").title
        'all against first ten'
    """
    both = frame[frame["where"] == "both"]
    columns = {
        **SHARED_COLUMNS,
        "Configuration": lambda r: r.configuration + (DAGGER if r.settings == "other" else ""),
        "n": lambda r: f"{r.n},{NBSP}{r.other_n}",
        "Failed": lambda r: f"{r.failed},{NBSP}{r.other_failed}",
        "Missing": lambda r: f"{r.missing},{NBSP}{r.other_missing}",
        name: lambda r: mean_sd_text(r.mean, r.sd, r.scale),
        other: lambda r: mean_sd_text(r.other_mean, r.other_sd, r.scale),
        "Difference [95% CI]": lambda r: (
            f"{score_text(r.difference, r.scale, sign='+')} "
            f"{interval_text(r.difference_low, r.difference_high, scale=r.scale)}"
        ),
        "p": lambda r: p_text(r.p_holm) + ("*" if r.method == "permutation" else ""),
        "sd ratio [95% CI]": lambda r: number_with_interval(r.ratio, r.ratio_low, r.ratio_high),
        "p (sd)": lambda r: p_text(r.spread_p_holm),
    }
    notes = [
        f"Cells in both {name} and {other}; n, failed and missing: first of {name}, then of "
        f"{other}.",
        "Mean ± standard deviation of test scores over seeds (n − 1).",
        f"Difference: {name} minus {other}, unpaired, with its 95% Welch interval; sd ratio: "
        f"{name} over {other}.",
        "p: Welch's test; p (sd): Brown–Forsythe test; both Holm-adjusted over the rows.",
        *starred_notes(both),
        *_only(frame, name, other),
        *_differences(both, name, other),
    ]
    method = [f"A failed run {ENTERS}."]
    if (both["settings"] == "other").any():
        notes.append(f"{DAGGER} Same label but different settings, data or weights: keys differ.")
    table = table_of(
        "against",
        f"{name} against {other}",
        both,
        columns,
        notes=notes,
        details=["Missing"],
        method=method,
    )
    if both.empty and len(frame):
        apart = (f"No cell is in both {name} and {other}.", *_only(frame, name, other))
        return Table(table.name, table.title, apart, table.header, (), (), frame)
    return table


def _only(frame: pd.DataFrame, name: str, other: str) -> list[str]:
    """Sentences that name the cells of only one study."""
    sentences = []
    for where, study in (("first", name), ("second", other)):
        labels = ["/".join(label) for label in frame.loc[frame["where"] == where, CELL].to_numpy()]
        if labels:
            sentences.append(f"Only in {study}: {_first(labels)}.")
    return sentences


def _differences(both: pd.DataFrame, name: str, other: str) -> list[str]:
    """A sentence on what differs between the cells in both, and in which of them."""
    cells: dict[str, list[str]] = {}
    for *label, differs in both[[*CELL, "differs"]].itertuples(index=False):
        for text in filter(None, str(differs).split("; ")):
            cells.setdefault(text, []).append("/".join(map(str, label)))
    named = [
        text if len(labels) == len(both) else f"{text} (in {_first(labels)})"
        for text, labels in cells.items()
    ]
    if named:
        return [f"What differs, {name} first, then {other}: {'; '.join(named)}."]
    if len(both) and (both["settings"] == "same").all():
        return [f"Settings, device and versions of {name} and {other} are the same."]
    return []


def _known(cell: pd.DataFrame) -> dict[str, str]:
    """What the runs of a cell say about data, model, device and versions; several values joined."""
    ran = cell[cell["outcome"] != "missing"]
    known = {
        name.replace("_", " "): sorted(set(ran[name].dropna().astype(str)) - {""})
        for name in (*RUN_COUNTS, *FACTS, "device")
    }
    versions = [part for text in set(ran["versions"].dropna()) for part in text.split(", ") if part]
    for package, _, version in sorted({part.rpartition(" ") for part in versions}):
        known.setdefault(package, []).append(version)
    return {name: " and ".join(values) for name, values in known.items() if values}


def _of_cell(settings: pd.DataFrame, label: tuple[Hashable, ...]) -> dict[str, str]:
    own = (settings[CELL] == list(label)).all(axis=1)
    return dict(settings.loc[own, ["name", "value"]].to_numpy().tolist())


def _comparable(
    first: dict[str, str], second: dict[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The settings without fields of the recipe that only one of two stores has written.

    Unless both have only the fields that are set: one then is at its default in the other.
    """
    recipes = [{name for name in side if name.startswith("recipe.")} for side in (first, second)]
    alone = recipes[0] ^ recipes[1] if max(map(len, recipes)) >= COMPLETE else set()
    one, other = ({n: v for n, v in side.items() if n not in alone} for side in (first, second))
    return one, other


def _differing(first: Mapping[str, str], second: Mapping[str, str], *, absent: str) -> list[str]:
    """The names with two values; `absent` stands for a missing one, which is unknown if empty."""
    names = dict.fromkeys([*first, *second])
    pairs = {name: (first.get(name, absent), second.get(name, absent)) for name in names}
    return [f"{name} {a}, {b}" for name, (a, b) in pairs.items() if a != b and a and b]


def _first(labels: list[str]) -> str:
    more = f" and {len(labels) - 6} more" if len(labels) > 6 else ""
    return f"{', '.join(labels[:6])}{more}"


def _settings(*keys: str) -> str:
    """`same` or `other` by two cells' keys (12 hex digits each); empty unless both have one."""
    if len(keys) < 2 or not all(re.fullmatch("[0-9a-f]{12}", key) for key in keys):
        return ""
    return "same" if keys[0] == keys[1] else "other"


def _side(cell: Scores | None, prefix: str) -> Row:
    if cell is None:
        return {f"{prefix}{name}": 0 for name in ("n", "missing", "failed")} | {
            f"{prefix}{name}": np.nan for name in ("mean", "sd")
        }
    return {
        f"{prefix}n": cell.all_floor.size,
        f"{prefix}missing": cell.values.size - cell.finished,
        f"{prefix}failed": int(cell.failed.sum()),
        f"{prefix}mean": mean(cell.all_floor),
        f"{prefix}sd": sd(cell.all_floor),
    }


def _refuse(facts: list[dict[str, Row]]) -> None:
    """Refuse tasks whose scores are not comparable between the two studies."""
    mistakes = []
    for task in sorted(facts[0].keys() & facts[1].keys()):
        one, other = facts[0][task], facts[1][task]
        if one["metric"] != other["metric"]:
            mistakes.append(
                f"task {task!r} is scored by {one['metric']} in one study and by "
                f"{other['metric']} in the other."
            )
        elif one["higher_is_better"] != other["higher_is_better"]:
            mistakes.append(
                f"task {task!r}: higher {one['metric']} is better in only one of the studies."
            )
        elif one["scale"] != other["scale"]:
            mistakes.append(
                f"task {task!r}: {one['metric']} is a share in one study and above 1 in the other; "
                "divide percentages by 100."
            )
    if mistakes:
        raise ScoreFileError(mistakes)
