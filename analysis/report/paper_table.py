"""Tables for papers: a summary per cell, and marks for significant differences."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.across_tasks.chosen import GROUPS, chosen, chosen_cells, unchosen
from analysis.frames.runs import (
    BASELINE,
    CELL,
    DEFINED,
    ScoreFileError,
    baseline_of,
    checked,
    final,
    scores,
)
from analysis.per_task.two_studies import versus
from analysis.rendering.builder import floor_notes
from analysis.rendering.formatting import (
    ALL_PAIRS,
    ENTERS,
    NBSP,
    PERMUTATION,
    interval_text,
    mean_sd_text,
    metric_text,
    score_text,
    sd_text,
)
from analysis.rendering.table import Table, to_csv, to_html, to_latex, to_markdown, to_text
from analysis.statistics.common import ALPHA
from analysis.statistics.multiplicity import holm
from analysis.statistics.tie_set import tie_set

Ending = Literal["latex", "markdown", "html", "csv", "text"]
Numbers = dict[Any, Any]  # a row of `cells`

FORMATS: dict[str, Callable[[Table], str]] = {
    "latex": to_latex,
    "markdown": to_markdown,
    "html": to_html,
    "csv": to_csv,
    "text": to_text,
}
OF_MEANS = ("mean", "mean±sd", "mean±ci")  # cells with marks and bold
BETTER, WORSE = "⁺", "⁻"
PLACES = ("task", "model", "technique", "configuration")


def _with_interval(r: Numbers) -> str:
    ends = interval_text(r["test_mean_low"], r["test_mean_high"], scale=r["scale"])
    return f"{score_text(r['test_mean'], r['scale'])}{NBSP}{ends}"


CELLS: dict[
    str, tuple[Callable[[Numbers], str], str]
] = {  # formatter and caption of each kind of cell
    "mean": (lambda r: score_text(r["test_mean"], r["scale"]), "Mean of test scores over seeds."),
    "mean±sd": (
        lambda r: mean_sd_text(r["test_mean"], r["test_sd"], r["scale"]),
        "Mean of test scores over seeds; ± is their standard deviation (n − 1).",
    ),
    "mean±ci": (
        _with_interval,
        "Mean of test scores over seeds with 95% confidence interval; none if all are equal.",
    ),
    "median": (lambda r: score_text(r["test_median"], r["scale"]), "Median test score over seeds."),
    "iqm": (
        lambda r: score_text(r["test_iqm"], r["scale"]),
        "Interquartile mean of test scores over seeds.",
    ),
    "sd": (
        lambda r: sd_text(r["test_sd"], r["scale"]),
        "Standard deviation (n − 1) of test scores over seeds.",
    ),
    "n": (lambda r: f"{r['test_n']}", "Number of seeds with a test score."),
    "failed": (
        lambda r: f"{r['diverged'] + r['collapsed']} of {r['finished']}",
        "Runs that diverged or collapsed, of the finished runs.",
    ),
}


def table(
    runs: pd.DataFrame,
    rows: str = "technique",
    columns: str = "task",
    *,
    cell: str = "mean±sd",
    to: Ending = "text",
) -> str:
    """A table for a paper, ready to paste.

    Args:
        runs: One row per run, as returned by `load_runs`.
        rows: Variables of the rows: `task`, `model`, `technique`, `configuration`, or several,
            separated by commas.
        columns: Variables of the columns, likewise.
        cell: Content of a cell, a key of `CELLS`.
        to: `latex` (for booktabs), `markdown`, `html`, `text`, or `csv` for unrounded numbers.

    Raises:
        ScoreFileError: If `runs` is malformed, or the table is not defined for them.

    Example:
        >>> from analysis import example_runs, table
        >>> runs = example_runs()
        >>> some = runs[runs["task"].isin(["rte", "cb"])]
        >>> text = table(some, rows="model", columns="task", cell="mean", to="markdown")
        >>> for line in text.splitlines()[2:-2]:
        ...     print(line)
        | Model | cb | rte |
        | --- | --- | --- |
        | bert_base_cased | 63.5 | 62.6 |
        | bert_base_uncased | 64.4 | 60.0 |
        | microsoft_deberta_v3_base | **75.0** | **82.3** |
        | roberta_base | 67.8 | 72.4 |
    """
    if to not in FORMATS:
        raise ScoreFileError([f"to = {to!r} is not one of {', '.join(FORMATS)}."])
    return FORMATS[to](paper_table(runs, rows, columns, cell=cell))


def paper_table(runs: pd.DataFrame, rows: str, columns: str, *, cell: str) -> Table:
    """As `table`, but returns a `Table`.

    If neither rows nor columns are configurations, each technique (or model, if there are no
    techniques) is represented, per task, by the configuration recommended on dev; where there are
    no dev scores to choose one by, all configurations are shown. Tables of means mark significant
    differences from the baseline: Welch's test, or a permutation test if runs failed,
    Holm-adjusted over the shown configurations of a task and model. Bold marks, per task (and
    model), the best test mean and all others that no mean is significantly better than.

    Args:
        runs: One row per run, as returned by `load_runs`.
        rows: As for `table`.
        columns: As for `table`.
        cell: As for `table`.

    Raises:
        ScoreFileError: As for `table`.
    """
    down, across = _names(rows), _names(columns)
    places = [*down, *across]
    mistakes = _wrong(places, cell)
    runs = final(checked(runs))
    unplaced = {  # several of these would share a cell
        name: sorted(runs[name].unique()) for name in ("task", "model") if name not in places
    }
    mistakes += [
        f"neither rows nor columns distinguish the {len(found)} {name}s ({', '.join(found[:4])}"
        f"{', …' if len(found) > 4 else ''}): add {name!r} to rows or columns, or select runs."
        for name, found in unplaced.items()
        if len(found) > 1
    ]
    if mistakes:
        raise ScoreFileError(mistakes)
    if not len(runs):
        return Table("paper", "Table", ("There are no runs yet.",), (*down,), (), (), runs)
    undecided = unchosen(runs, _groups_of(places))
    if undecided:
        down, across = _with_configurations(down, across)
        places = [*down, *across]
    compared = "technique" in places or "configuration" in places
    groups = _groups_of(places)
    shown = chosen(runs, groups)
    found = chosen_cells(runs, groups)
    marked = _marks(shown, found, compared=compared) if cell in OF_MEANS else _Marks()
    marks = marked.texts
    bold, tested = _best(shown, compared=compared) if cell in OF_MEANS else (set(), False)
    texts: dict[tuple[str, ...], dict[tuple[str, ...], tuple[str, bool]]] = {}
    heads: dict[tuple[str, ...], None] = {}
    for row in found.sort_values([*across, *down]).to_dict("records"):
        label = tuple(row[name] for name in CELL)
        line, head = (tuple(str(row[name]) for name in names) for names in (down, across))
        heads[head] = None
        text = CELLS[cell][0](row) + marks.get(label, "")
        texts.setdefault(line, {})[head] = (text, label in bold)
    lines = sorted(texts, key=lambda line: (BASELINE not in line, line))
    entries = [[texts[line].get(head, ("–", False)) for head in heads] for line in lines]
    return Table(
        name="paper",
        title=f"{', '.join(down).capitalize()} by {', '.join(across)}",
        notes=(
            *_notes(found, cell, places, whole=len(shown) == len(runs), undecided=undecided),
            *_test_notes(marked, bold, tested=tested),
        ),
        header=(*(name.capitalize() for name in down), *(", ".join(head) for head in heads)),
        body=tuple(
            (*line, *(text for text, _ in each)) for line, each in zip(lines, entries, strict=True)
        ),
        details=(),
        frame=found,
        bold=frozenset(
            (i, len(down) + j)
            for i, each in enumerate(entries)
            for j, (_, best) in enumerate(each)
            if best
        ),
    )


def _names(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _wrong(places: list[str], cell: str) -> list[str]:
    mistakes = [f"{name!r} is not one of {', '.join(PLACES)}." for name in places]
    mistakes = [each for each, name in zip(mistakes, places, strict=True) if name not in PLACES]
    if len(set(places)) < len(places):
        mistakes.append("rows and columns contain the same variable twice.")
    if cell not in CELLS:
        mistakes.append(f"cell = {cell!r} is not one of {', '.join(CELLS)}.")
    return mistakes


def _groups_of(places: list[str]) -> list[str]:
    return ["model", *(name for name in GROUPS[1:] if name in places)]


def _with_configurations(down: list[str], across: list[str]) -> tuple[list[str], list[str]]:
    """Rows and columns with the configuration in place of the technique, or else as a row."""
    if "technique" not in [*down, *across]:
        return [*down, "configuration"], across
    down, across = (
        ["configuration" if name == "technique" else name for name in names]
        for names in (down, across)
    )
    return down, across


@dataclass(frozen=True)
class _Marks:
    """Differences from the baseline.

    Attributes:
        texts: Marks of the cells that differ significantly.
        pairs: Number of cells compared with a baseline.
        tests: Number of those with a p-value.
    """

    texts: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    pairs: int = 0
    tests: int = 0


def _groups(runs: pd.DataFrame, *, compared: bool) -> list[pd.DataFrame]:
    """Groups of runs that are compared: the techniques of one model, else the models."""
    return [group for _, group in runs.groupby(["task", "model"] if compared else ["task"])]


def _marks(runs: pd.DataFrame, found: pd.DataFrame, *, compared: bool) -> _Marks:
    """Marks of the cells that differ significantly from the baseline.

    Args:
        runs: The runs that are shown.
        found: Their cells, from `chosen_cells`.
        compared: Whether anything but models is shown.
    """
    marks: dict[tuple[str, ...], str] = {}
    candidates = dict(zip(map(tuple, found[CELL].to_numpy()), found["candidates"], strict=True))
    pairs = tests = 0
    for group in _groups(runs, compared=True) if compared else []:
        test = _by_cell(group)
        base = next((key for key in test if key[2] == baseline_of(group)), None)
        others = [key for key in test if key != base]
        if base is None or not others:
            continue
        sign = 1.0 if group["higher_is_better"].iloc[0] else -1.0
        gaps = [versus(test[key], test[base], key=key) for key in others]
        counts = np.array([candidates[key] for key in others])
        adjusted = holm(np.minimum(counts * [gap["p"] for gap in gaps], 1))
        pairs, tests = pairs + len(gaps), tests + int(np.isfinite(adjusted).sum())
        for key, gap, p in zip(others, gaps, adjusted, strict=True):
            if p < ALPHA:
                marks[key] = BETTER if sign * gap["difference"] > 0 else WORSE
    return _Marks(marks, pairs, tests)


def _best(runs: pd.DataFrame, *, compared: bool) -> tuple[set[tuple[str, ...]], bool]:
    """The cells with the best test mean, and others that none is significantly better than.

    Returns:
        The cells, and whether any was compared with the best by a test.
    """
    found: set[tuple[str, ...]] = set()
    tested = False
    for group in _groups(runs, compared=compared):
        sign = 1.0 if group["higher_is_better"].iloc[0] else -1.0
        coded = {"\x1f".join(key): sign * own.all_floor for key, own in _by_cell(group).items()}
        ties = tie_set(
            coded, failures=dict.fromkeys(coded, 0), seconds=dict.fromkeys(coded, np.nan)
        )
        if len(coded) > 1:
            names = [name for name in ties.members if name not in ties.untested]
            found |= {tuple(name.split("\x1f")) for name in names}
            tested |= len(ties.untested) < len(coded) - 1 - len(ties.unscored)
    return found, tested


def _by_cell(runs: pd.DataFrame) -> dict[tuple[str, ...], Any]:
    return {tuple(map(str, key)): scores(cell, "test") for key, cell in runs.groupby(CELL)}


def _notes(
    found: pd.DataFrame,
    cell: str,
    places: list[str],
    *,
    whole: bool,
    undecided: list[str],
) -> list[str]:
    """Sentences of the caption: cell content, n, metric and direction, missing and failed runs."""
    metrics = {
        metric_text(
            row["metric"],
            row["higher_is_better"],
            scale=row["scale"],
            source="" if row["direction_from"] == DEFINED else row["direction_from"],
        ): None
        for row in found.to_dict("records")
    }
    low, high = int(found["test_n"].min()), int(found["test_n"].max())
    notes = [
        CELLS[cell][1],
        f"n = {low}{f' to {high}' if high > low else ''} seeds.",
        f"Metric{'s' if len(metrics) > 1 else ''}: {'; '.join(metrics)}.",
    ]
    shared = [name for name in ("task", "model") if name not in places]
    notes += [f"{name.capitalize()}: {found[name].iloc[0]}." for name in shared]
    if undecided:
        few = ", ".join(undecided[:4]) + (", …" if len(undecided) > 4 else "")
        notes.append(
            f"All configurations are shown, since there are no dev scores to choose by on {few}."
        )
    elif not whole:
        what = "technique's configuration" if "technique" in places else "model's strategy"
        notes.append(f"Each {what} is the one recommended on dev, per task.")
        if found["candidates"].max() > 1 and cell in OF_MEANS:
            notes.append(
                "Dev and test scores are of the same runs: intervals and p-values allow for all "
                "configurations that it was chosen from (Bonferroni)."
            )
    gone, failed = int(found["missing"].sum()), int((found["diverged"] + found["collapsed"]).sum())
    if not high:
        notes.append("There are no test scores, which is what this table prints.")
    if gone:
        notes.append(f"{gone} {'run is' if gone == 1 else 'runs are'} missing and excluded.")
    if failed:
        notes.append(
            f"{failed} {'run' if failed == 1 else 'runs'} failed; one that fails {ENTERS}."
        )
    if cell == "failed":
        notes += floor_notes(found)
    return notes


def _test_notes(marked: _Marks, bold: set[tuple[str, ...]], *, tested: bool) -> list[str]:
    """Sentences on the tests that were made, and on no others."""
    notes = []
    if marked.texts:
        notes.append(
            f"{BETTER} significantly better, {WORSE} worse than {BASELINE} (5%, Welch's test or, "
            f"if runs failed, a {PERMUTATION}; Holm-adjusted within a task and model)."
        )
    elif marked.tests:
        notes.append(f"No difference from {BASELINE} is significant (5%, Holm-adjusted).")
    elif marked.pairs:
        notes.append(f"Differences from {BASELINE} are not tested: there are too few runs.")
    if bold and tested:
        notes.append(
            "Bold: the best mean, and all others that no mean is significantly better than "
            f"({ALL_PAIRS})."
        )
    elif bold:
        notes.append("Bold: the best mean; differences from it are not tested.")
    return notes
