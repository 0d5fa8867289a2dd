"""One page that answers the study's question, and the same tables as files."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from analysis.against import against, against_table
from analysis.answer import answer
from analysis.caveats import caveats
from analysis.frame import BLOCK, CELL, blocks, checked, final
from analysis.render import (
    Table,
    best_strategy_table,
    cells_table,
    count_text,
    score_text,
    stability_table,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
)
from analysis.searches import search_tables
from analysis.suite import SETTINGS, chosen, headline, pretraining, suite_score, unfit
from analysis.tables import best_strategy, cells, stability
from analysis.tuning import best_of_k, protocol
from analysis.wide import (
    headline_table,
    pretraining_table,
    strategy_table,
    suite_table,
    technique_table,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # slow to load


PLOTTED = 12  # tasks and models that get plots on the page
FOLDED = 12  # answers, or headings of plots, from which on they are folded
TALL = 40  # rows from which on a table scrolls and can be filtered


@dataclass(frozen=True)
class Drawing:
    """A figure for the page.

    Attributes:
        name: Prefix of the ids in it; no two drawings share one.
        heading: What it stands under, as `rte, minilm`.
        caption: What is drawn, in a sentence or two.
        figure: The figure.
    """

    name: str
    heading: str
    caption: str
    figure: "Figure"


class Material:
    """What sections are made of, each frame computed once.

    Attributes:
        everything: Checked runs of all stages.
        runs: Those of the final stage.
        curves: One row per run and epoch; may be empty.
        others: Runs of another study to compare with, or None.
    """

    def __init__(
        self, runs: pd.DataFrame, curves: pd.DataFrame, others: pd.DataFrame | None
    ) -> None:
        self.everything = checked(runs)
        self.runs = final(self.everything)
        self.curves, self.others = curves, others

    @cached_property
    def cells(self) -> pd.DataFrame:
        """As `tables.cells`."""
        return cells(self.runs)

    @cached_property
    def best(self) -> pd.DataFrame:
        """As `tables.best_strategy`."""
        return best_strategy(self.runs)

    @cached_property
    def scatter(self) -> pd.DataFrame:
        """As `tables.stability`."""
        return stability(self.runs)


Section = Callable[[Material], Iterable[Table | Drawing]]


def write_report(
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    folder: str | Path,
    *,
    predictions: pd.DataFrame | None = None,
    others: pd.DataFrame | None = None,
) -> Path:
    """Write report.html, the tables as Markdown, CSV and LaTeX, and the runs as plain files.

    Args:
        runs: One row per run, as `load_runs` or `read_scores` give them; may be empty.
        curves: One row per run and epoch, as `load_curves` gives them; may be empty.
        folder: Where to write; made if it is not there. Files of an earlier report are replaced.
        predictions: As `load_predictions` gives them, to lie beside as predictions.parquet.
        others: Runs of another study, or published ones, to compare with.

    Returns:
        The page, one file that needs no other. Beside it lie runs.csv and runs.parquet.

    Raises:
        Malformed: If runs are malformed (see `frame.checked`), or not comparable with the others
            (see `against.against`).
    """
    material = Material(runs, curves, others)
    parts = [part for section in SECTIONS for part in section(material)]
    tables = [part for part in parts if isinstance(part, Table)]
    folder = Path(folder)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for table in tables:
        for ending, render in (("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
            path = folder / "tables" / f"{table.name}.{ending}"
            path.write_text(render(table) + "\n", encoding="utf-8")
    material.everything.to_csv(folder / "runs.csv", index=False)
    _plain(material.everything).to_parquet(folder / "runs.parquet", index=False)
    if predictions is not None and len(predictions):
        _plain(predictions).to_parquet(folder / "predictions.parquet", index=False)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        files("analysis").joinpath("report.html.j2").read_text("utf-8")
    )
    page = folder / "report.html"
    page.write_text(
        template.render(
            title=_title(material.runs) or "Study without runs",
            size=_size(material.runs),
            protocol=protocol(material.everything),
            answers=answer(material.best, material.scatter),
            overview=_overview(material.best),
            tables=[_shown(table) for table in tables],
            plots=_by_heading([part for part in parts if isinstance(part, Drawing)]),
            unplotted=_unplotted(material.runs),
            caveats=caveats(material.runs),
            provenance=[_shown(table) for table in _provenance(material.everything)],
            folded=FOLDED,
        ),
        encoding="utf-8",
    )
    return page


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with one type per column, as Parquet wants it."""
    frame = frame.copy()
    for name in frame:
        if pd.api.types.infer_dtype(frame[name]).startswith("mixed"):
            frame[name] = frame[name].map(str, na_action="ignore")
    return frame


def _title(runs: pd.DataFrame) -> str:
    return ", ".join(sorted(runs["study"].dropna().unique()))


def _shown(table: Table) -> tuple[Table, Markup, bool]:
    """A table, its HTML, and whether it is a tall one."""
    return table, Markup(to_html(table)), len(table.body) > TALL


def _by_heading(drawings: list[Drawing]) -> dict[str, list[tuple[Markup, str]]]:
    """Per heading the SVG of each drawing with its caption."""
    from analysis.plots import to_svg  # matplotlib is slow to load, and only pages need it

    found: dict[str, list[tuple[Markup, str]]] = {}
    for each in drawings:
        svg = Markup(to_svg(each.figure, each.name))
        found.setdefault(each.heading, []).append((svg, each.caption))
    return found


def _overview(best: pd.DataFrame) -> str:
    """What the answers come to, in a sentence."""
    unknown = best["recommended"] == ""
    alone = ~unknown & (best["tied"] == "")
    return (
        f"Of {len(best)} tasks and models, {alone.sum()} have one configuration that is best on "
        f"dev, {(~unknown & ~alone).sum()} several that the runs do not tell apart, and "
        f"{unknown.sum()} no dev scores to choose by."
    )


def _choice(material: Material) -> Iterator[Table]:
    """What to use, where there are dev scores to choose by."""
    table = best_strategy_table(material.best)
    if len(material.best) and not material.best["recommended"].any():
        said = "Nothing is recommended: no run has a dev score, and nothing is chosen on test."
        table = replace(table, caption=said, body=())
    yield table


def _wide(material: Material) -> Iterator[Table]:
    """Tables over several tasks, models or kinds of pretraining, where there are several."""
    runs, best = material.runs, material.best
    tasks, models = runs["task"].nunique(), runs["model"].nunique()
    if tasks > 1 and models > 1:
        yield headline_table(headline(runs))
        if best["recommended"].any():
            yield strategy_table(best)
    if tasks > 1 and not unfit(runs):
        searched = (runs["search"] != "").any()  # then each task has a configuration of its own
        yield suite_table(
            suite_score(runs, by=("model", "technique" if searched else "configuration"))
        )
    if tasks > 1:
        shown = chosen(runs, ("model", "technique"))[CELL].drop_duplicates()
        yield technique_table(material.cells.merge(shown))  # as `by_technique`, which counts anew
    settings = pretraining(runs)
    if len(settings[SETTINGS].drop_duplicates()) > 1:
        yield pretraining_table(settings)


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
    return f"{', '.join(counts)}; {count_text(finished, len(runs))} runs finished."


def _searched(material: Material) -> Iterator[Table | Drawing]:
    """What searches found, where there were any."""
    rows: list[Any] = list(material.cells.itertuples())
    yield from search_tables(material.everything, {(r.task, r.model): r.scale for r in rows})
    found = best_of_k(material.everything).dropna(subset="dev")
    for number, ((task, model), part) in enumerate(found.groupby(BLOCK)):
        if part["k"].max() < 2 or number == PLOTTED:
            break
        from analysis.plots import plot_best_of_k

        about = material.cells[
            (material.cells["task"] == task) & (material.cells["model"] == model)
        ]
        yield Drawing(
            f"search{number}",
            f"{task}, {model}",
            "Dev score to expect of the best of k tried configurations, as far as the trials say "
            "something of it.",
            plot_best_of_k(part, about),
        )


def _compared(material: Material) -> Iterator[Table]:
    """The other study beside this one."""
    if material.others is not None:
        names = _title(material.runs), _title(final(checked(material.others)))
        if names[0] == names[1]:
            names = f"{names[0]} (first)", f"{names[1]} (second)"
        yield against_table(against(material.runs, material.others), *names)


def _plots(material: Material) -> Iterator[Drawing]:
    """The figures of each task and model that has scores; of the first few of many."""
    from analysis import plots  # matplotlib is slow to load, and only pages need it

    found, curves = material.cells, material.curves
    for number, (task, model, block) in enumerate(blocks(material.runs)):
        if number == PLOTTED:
            return
        own = found[(found["task"] == task) & (found["model"] == model)]
        if own["test_mean"].isna().all():
            continue
        heading = f"{task}, {model}"
        yield Drawing(
            f"scores{number}",
            heading,
            "Test scores by seed. Box: quartiles and median; whiskers: lowest and highest.",
            plots.plot_scores(block, own),
        )
        yield Drawing(
            f"spread{number}",
            heading,
            "Mean and standard deviation over seeds with 95% intervals; hollow where there is no "
            "interval. Failed runs are included.",
            plots.plot_mean_and_sd(own),
        )
        if curves.empty:
            continue
        dev = curves[curves["key"].isin(block["key"]) & curves["name"].str.startswith("dev/")]
        if not dev.empty:
            yield Drawing(
                f"curves{number}",
                heading,
                "Dev score by epoch: mean over seeds, band from lowest to highest seed; dashed: "
                "the baseline's mean; dagger: a run that stopped early.",
                plots.plot_curves(dev, own),
            )


def _unplotted(runs: pd.DataFrame) -> str:
    """Which plots are not on the page, in a sentence; empty if all are."""
    count = sum(1 for _ in blocks(runs))
    if count <= PLOTTED:
        return ""
    return (
        f"These are the first {PLOTTED} of {count} tasks and models, by name; so many more would "
        "make the page slow. plot_scores and the other functions of analysis.plots draw any."
    )


# What is on the page, in its order; a section is a line. Tables are written as files as well, and
# drawings stand together under their headings.
SECTIONS: tuple[Section, ...] = (
    _choice,
    _compared,
    _wide,
    lambda m: [cells_table(m.cells)],
    lambda m: [stability_table(m.scatter)],
    _plots,
    _searched,
)


def _provenance(runs: pd.DataFrame) -> Iterator[Table]:
    """What was run, on what, and with which code."""
    finished = runs[runs["outcome"] != "missing"]
    tasks = [
        {
            "Task": task,
            "Metric": first.metric,
            "Constant answer on dev": score_text(first.floor, 1),
            "Constant answer on test": score_text(first.test_floor, 1),
            "Training rows": _count(first.train_rows),
            "Dev rows": _count(first.dev_rows),
            "Test rows": _count(first.test_rows),
        }
        for task, first in _firsts(runs, "task")
    ]
    yield _facts("tasks", "Tasks", "Scores in the metric's own unit.", tasks)
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
    yield _facts("models", "Models", "What is known of their pretraining.", models)
    places = ["device", "host", "versions", "commit", "dirty"]
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
        for (device, host, versions, commit, dirty), part in finished.groupby(places, dropna=False)
    ]
    yield _facts("machines", "Machines and code", "Hours are summed over runs.", machines)


def _firsts(runs: pd.DataFrame, column: str) -> Iterator[tuple[str, Any]]:
    """Each value of the column with the first known fact in every other column."""
    yield from ((str(name), row) for name, row in runs.groupby(column).first().iterrows())


def _facts(name: str, title: str, caption: str, rows: list[dict[str, str]]) -> Table:
    header = tuple(rows[0]) if rows else ()
    body = tuple(tuple(row.values()) for row in rows)
    return Table(name, title, caption, header, body, (), pd.DataFrame(rows))


def _text(value: Any) -> str:
    return "–" if pd.isna(value) or value == "" else str(value)


def _count(value: Any) -> str:
    return "–" if pd.isna(value) else f"{int(value):,}"


def _gigabytes(peaks: pd.Series) -> str:
    peak = peaks.max()
    return "–" if pd.isna(peak) else f"{peak / 1e9:.2f}"
