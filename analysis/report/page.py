"""The report of a study: one HTML page, and its tables as files."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from analysis.frames.runs import blocks
from analysis.per_task.search import protocol
from analysis.rendering.builder import direction_notes
from analysis.rendering.formatting import count_text, score_text
from analysis.rendering.table import Table, to_csv, to_html, to_latex, to_markdown
from analysis.report.caveats import caveats
from analysis.report.findings import answer
from analysis.report.sections import FILED, PLOTTED, SECTIONS, Drawing, ReportData, title

FOLDED = 12  # findings or headings of plots; as many or more are collapsed
UNITS = {"share": "share", "percent": "per cent in the file, read as a share", "own": "its own"}
TALL = 40  # rows; a longer table scrolls and can be filtered


def write_report(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    folder: str | Path,
    *,
    predictions: pd.DataFrame | None = None,
    others: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write report.html, the tables as Markdown, CSV and LaTeX, and the runs as CSV and Parquet.

    Args:
        runs: One row per run, as returned by `load_runs` or `read_scores`; may be empty.
        curves: One row per run and epoch, as returned by `load_curves`; may be empty.
        folder: Output folder, created if absent. Files of an earlier report are replaced.
        predictions: As returned by `load_predictions`; saved as predictions.parquet.
        others: Runs of another study, or published scores, to compare with.
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
    material = ReportData(runs, curves, stored, others)
    parts = [part for section in SECTIONS for part in section(material)]
    tables = [part for part in parts if isinstance(part, Table)]
    filed = [part for section in FILED for part in section(material) if isinstance(part, Table)]
    folder = Path(folder)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for table in [*tables, *filed]:
        for ending, render in (("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
            path = folder / "tables" / f"{table.name}.{ending}"
            path.write_text(render(table) + "\n", encoding="utf-8")
    material.everything.to_csv(folder / "runs.csv", index=False)
    _plain(material.everything).to_parquet(folder / "runs.parquet", index=False)
    if len(stored):
        _plain(stored).to_parquet(folder / "predictions.parquet", index=False)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        files("analysis.report").joinpath("report.html.j2").read_text("utf-8")
    )
    page = folder / "report.html"
    page.write_text(
        template.render(
            title=title(material.runs) or "Study without runs",
            size=_size(material.runs),
            protocol=protocol(material.everything),
            findings=answer(material.best, material.scatter),
            overview=_overview(material.best),
            tables=[_shown(table) for table in tables],
            plots=_by_heading([part for part in parts if isinstance(part, Drawing)]),
            unplotted=_unplotted(material.runs),
            caveats=[*notes, *caveats(material.runs)],
            provenance=[_shown(table) for table in _provenance(material.everything)],
            folded=FOLDED,
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


def _shown(table: Table) -> tuple[Table, Markup, bool]:
    """A table, its HTML, and whether it is tall."""
    return table, Markup(to_html(table)), len(table.body) > TALL


def _by_heading(drawings: list[Drawing]) -> dict[str, list[tuple[Markup, str]]]:
    """SVG and caption of each drawing, grouped by heading."""
    from analysis.plots.style import to_svg  # matplotlib is slow to import

    found: dict[str, list[tuple[Markup, str]]] = {}
    for drawing in drawings:
        svg = Markup(to_svg(drawing.figure, drawing.name))
        found.setdefault(drawing.heading, []).append((svg, drawing.caption))
    return found


def _overview(best: pd.DataFrame) -> str:
    """A summary of all findings in one sentence."""
    unknown = best["recommended"] == ""
    if len(best) and not best["best_dev"].any():
        return "There are no dev scores, so nothing is recommended."
    single = ~unknown & (best["tied"] == "")
    return (
        f"Of {len(best)} combinations of task and model, {single.sum()} have a single best "
        f"configuration on dev, {(~unknown & ~single).sum()} have several that do not differ "
        f"significantly, and {unknown.sum()} have none that can be recommended."
    )


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
    return " ".join([size, *direction_notes(runs)])


def _unplotted(runs: pd.DataFrame) -> str:
    """A sentence on plots that are not on the page; empty if all are."""
    count = sum(1 for _ in blocks(runs))
    if count <= PLOTTED:
        return ""
    return (
        f"Only the first {PLOTTED} of {count} combinations of task and model are plotted, to keep "
        "the page fast. plot_scores and the other functions of analysis.plots.cells plot any."
    )


def _provenance(runs: pd.DataFrame) -> Iterator[Table]:
    """Tables of tasks, models, machines and code."""
    finished = runs[runs["outcome"] != "missing"]
    tasks = [
        {
            "Task": task,
            "Metric": first.metric,
            "Better": "higher" if first.higher_is_better else "lower",
            "Better according to": first.direction_from,
            "Unit": UNITS[first.unit],
            "Constant predictor, dev": score_text(first.dev_floor, 1),
            "Constant predictor, test": score_text(first.test_floor, 1),
            "Training rows": _count(first.train_rows),
            "Dev rows": _count(first.dev_rows),
            "Test rows": _count(first.test_rows),
        }
        for task, first in _firsts(runs, "task")
    ]
    yield _facts("tasks", "Tasks", "Scores in the unit of the metric.", tasks)
    models = [
        {
            "Model": model,
            "Family": _text(first.family),
            "Parameters": _count(first.parameters),
            "Domain": _text(first.domain),
            "Vocabulary": _text(first.vocabulary),
            "Objective": _text(first.objective),
            "Whole-word masking": _text(first.whole_word_masking),
            "Next sentence": _text(first.next_sentence),
        }
        for model, first in _firsts(runs, "model")
    ]
    yield _facts("models", "Models", "Pretraining, as far as known.", models)
    origin = ["device", "host", "versions", "commit", "dirty"]
    machines = [
        {
            "Device": _text(device),
            "Host": _text(host),
            "Versions": _text(versions),
            "Commit": _text(commit) + (" with uncommitted changes" if dirty is True else ""),
            "Runs": str(len(part)),
            "Hours": f"{part['seconds'].sum() / 3600:.2f}",
            "Peak memory, GB": _gigabytes(part["peak_memory_bytes"]),
        }
        for (device, host, versions, commit, dirty), part in finished.groupby(origin, dropna=False)
    ]
    yield _facts("machines", "Machines and code", "Hours are the sum over runs.", machines)


def _firsts(runs: pd.DataFrame, column: str) -> Iterator[tuple[str, Any]]:
    """Each value of a column with the first known value of every other column."""
    yield from ((str(name), row) for name, row in runs.groupby(column).first().iterrows())


def _facts(name: str, title: str, caption: str, rows: list[dict[str, str]]) -> Table:
    """A table without the columns that are unknown in every row, which the caption names."""
    columns = list(rows[0]) if rows else []
    header = tuple(column for column in columns if any(row[column] != "–" for row in rows))
    unknown = [column for column in columns if column not in header]
    notes: tuple[str, ...] = (caption,)
    if unknown:
        notes = (caption, f"Unknown throughout: {', '.join(unknown)}.")
    body = tuple(tuple(row[column] for column in header) for row in rows)
    return Table(name, title, notes, header, body, (), pd.DataFrame(rows))


def _text(value: Any) -> str:
    return "–" if pd.isna(value) or value == "" else str(value)


def _count(value: Any) -> str:
    return "–" if pd.isna(value) else f"{int(value):,}"


def _gigabytes(peaks: pd.Series) -> str:
    peak = peaks.max()
    return "–" if pd.isna(peak) else f"{peak / 1e9:.2f}"
