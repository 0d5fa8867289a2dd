"""The report of a study: one HTML page, and its tables as files."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

from analysis.frames.runs import CELL, DEFINED, blocks
from analysis.per_task.search import protocol
from analysis.rendering.builder import RowTuple, direction_notes
from analysis.rendering.formatting import count_text
from analysis.rendering.table import to_csv, to_latex, to_markdown
from analysis.report.caveats import caveats
from analysis.report.drawings import PLOTTED
from analysis.report.findings import alike, answer, over_tasks
from analysis.report.provenance import Extras, asked, provenance
from analysis.report.sections import FILED, SECTIONS, ReportData, opened, panel, title
from analysis.report.shown import shown

FOLDED = 12  # findings or figures of a panel; as many or more are collapsed
BESIDES = 4  # figures that stand beside their table; more are a grid above it
FIRST = 5  # caveats, the most important; the others are collapsed


def write_report(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    folder: str | Path,
    *,
    predictions: pd.DataFrame | None = None,
    others: pd.DataFrame | None = None,
    extras: Extras | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write report.html, the tables as Markdown, CSV and LaTeX, and the runs as CSV and Parquet.

    Args:
        runs: One row per run, as returned by `load_runs` or `read_scores`; may be empty.
        curves: One row per run and epoch, as returned by `load_curves`; may be empty.
        folder: Output folder, created if absent. Files of an earlier report are replaced.
        predictions: As returned by `load_predictions`; saved as predictions.parquet.
        others: Runs of another study, or published scores, to compare with.
        extras: What a store knows beyond the frames: recipes, links, texts.
        notes: Sentences about the runs that precede the caveats.

    Returns:
        The path of the page, which is self-contained. The folder also holds `tables`, runs.csv and
        runs.parquet.

    Raises:
        ScoreFileError: If runs are malformed (see `frames.runs.checked`), or not comparable with
            the others (see `per_task.two_studies.against`).

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import pandas as pd
        >>> from analysis import example_runs, write_report
        >>> runs = example_runs()
        >>> one = runs[runs["task"] == runs["task"].iloc[0]]
        >>> with TemporaryDirectory() as folder:
        ...     write_report(one, pd.DataFrame(), folder).name
        'report.html'
    """
    stored = pd.DataFrame() if predictions is None else predictions
    extras = extras or Extras()
    material = ReportData(runs, curves, stored, others, extras)
    sections = [(section, list(section(material))) for section in SECTIONS]
    filed = [part for section in FILED for part in section(material)]
    folder = Path(folder)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for part in [*(part for _, parts in sections for part in parts), *filed]:
        for ending, render in (("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
            if part.table is not None:
                path = folder / "tables" / f"{part.table.name}.{ending}"
                path.write_text(render(part.table) + "\n", encoding="utf-8")
    material.everything.to_csv(folder / "runs.csv", index=False)
    _plain(material.everything).to_parquet(folder / "runs.parquet", index=False)
    if len(stored):
        _plain(stored).to_parquet(folder / "predictions.parquet", index=False)
    first = opened(material)
    sections.sort(key=lambda pair: first.index(pair[0]) if pair[0] in first else len(first))
    said: set[str] = set()
    everything = [
        shown(part, said, folded=section not in first)
        for section, parts in sections
        for part in parts
    ]
    everything += [
        shown(panel(table), said, folded=True)
        for table in provenance(material.everything, extras, folder)
    ]
    warnings = [*notes, *caveats(material.runs, material.curves)]
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        files("analysis.report").joinpath("report.html.j2").read_text("utf-8")
    )
    page = folder / "report.html"
    page.write_text(
        template.render(
            title=title(material.runs) or "Study without runs",
            size=_size(material.runs),
            asked=asked(material.runs, extras),
            protocol=protocol(material.everything),
            findings=alike(answer(material.best, material.scatter, material.pairs)),
            lines=_lines(material),
            overview=_overview(material),
            panels=[each for each in everything if not each.empty],
            nothing=[each for each in everything if each.empty],
            unplotted=_unplotted(material.runs),
            caveats=warnings[:FIRST],
            more_caveats=warnings[FIRST:],
            choices=_choices(material.runs),
            folded=FOLDED,
            besides=BESIDES,
        ),
        encoding="utf-8",
    )
    return page


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy with one type per column, as Parquet requires."""
    frame = frame.copy()
    for name in frame:
        if pd.api.types.infer_dtype(frame[name]).startswith("mixed"):
            frame[name] = frame[name].map(str, na_action="ignore")
    return frame


def _lines(material: ReportData) -> dict[str, list[str]]:
    """The lines of a study file for each recommended configuration, and where it is recommended."""
    paste, runs = material.extras.paste, material.runs
    found: dict[str, list[str]] = {}
    if paste is None:
        return found
    every: list[RowTuple] = list(material.best.itertuples())
    for row in every:
        cell = (runs[CELL] == [row.task, row.model, row.recommended]).all(axis=1)
        lines = next(filter(None, map(paste, filter(None, runs.loc[cell, "key"]))), "")
        if lines:
            found.setdefault(lines, []).append(f"{row.task}, {row.model}")
    return found


def _overview(material: ReportData) -> str:
    """A summary of many findings in a few sentences; empty for few."""
    best = material.best
    if len(best) < FOLDED:
        return ""
    return " ".join([*over_tasks(material.ranks), _counts(best), *_most_recommended(best)])


def _most_recommended(best: pd.DataFrame) -> list[str]:
    """Which configurations are recommended on most tasks, ties broken as on each."""
    counts = best.loc[best["recommended"] != "", "recommended"].value_counts()
    if len(counts) < 2:
        return []
    named = [f"{name} ({count})" for name, count in counts.head(FIRST).items()]
    more = f" and {len(counts) - FIRST} more" if len(counts) > FIRST else ""
    return [f"Recommended, ties broken: {', '.join(named)}{more}."]


def _counts(best: pd.DataFrame) -> str:
    """How many tasks and models have one best configuration, several, or none."""
    unknown = best["recommended"] == ""
    if not best["best_dev"].any():
        return "There are no dev scores, so nothing is recommended."
    alone = ~unknown & (best["compared"] == 1)
    tied = ~unknown & (best["tied"] != "")
    single = ~(unknown | alone | tied)
    found = [
        f"{count.sum()} with {what}"
        for count, what in (
            (single, "a single best configuration on dev"),
            (tied, "several that do not differ significantly"),
            (alone, "one configuration, compared with nothing"),
            (unknown, "none that can be recommended"),
        )
        if count.any()
    ]
    return f"{len(best)} combinations of task and model: {', '.join(found)}."


def _size(runs: pd.DataFrame) -> str:
    if runs.empty:
        return "No runs yet."
    counts = [
        f"{n} {word}{'' if n == 1 else 's'}"
        for n, word in (
            (runs["task"].nunique(), "task"),
            (runs["model"].nunique(), "model"),
            (runs["configuration"].nunique(), "configuration"),
        )
    ]
    finished = int((runs["outcome"] != "missing").sum())
    size = f"{', '.join(counts)}; {count_text(finished, len(runs))} runs finished."
    stated = (runs["direction_from"] == DEFINED).all()  # else a reader must check it
    return " ".join([size, *([] if stated else direction_notes(runs))])


def _choices(runs: pd.DataFrame) -> dict[str, list[str]]:
    """What the tables can be filtered by: columns with several values."""
    names = ("task", "configuration")
    values = {name.capitalize(): sorted(runs[name].unique()) for name in names if len(runs)}
    return {name: found for name, found in values.items() if len(found) > 1}


def _unplotted(runs: pd.DataFrame) -> str:
    """A sentence on plots that are not on the page; empty if all are."""
    count = sum(1 for _ in blocks(runs))
    if count <= PLOTTED:
        return ""
    return (
        f"Only the first {PLOTTED} of {count} combinations of task and model are plotted, to keep "
        "the page fast. plot_scores and the other functions of analysis.plots.cells plot any."
    )
