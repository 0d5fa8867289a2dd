"""One page that answers the study's question, and the same tables as files."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from analysis.answer import answer
from analysis.caveats import caveats
from analysis.frame import blocks, checked, final
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
from analysis.suite import SETTINGS, by_technique, headline, pretraining, suite_score, unfit
from analysis.tables import best_strategy, cells, stability
from analysis.tuning import protocol
from analysis.wide import (
    headline_table,
    pretraining_table,
    strategy_table,
    suite_table,
    technique_table,
)


@dataclass(frozen=True)
class _Plot:
    svg: Markup
    caption: str


def write_report(runs: pd.DataFrame, curves: pd.DataFrame, folder: str | Path) -> Path:
    """Write report.html, runs.csv and the tables as Markdown, CSV and LaTeX.

    Args:
        runs: One row per run, as `load_runs` gives them; may be empty.
        curves: One row per run and epoch, as `load_curves` gives them; may be empty.
        folder: Where to write; made if it is not there. Files of an earlier report are replaced.

    Returns:
        The page, one file that needs no other.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    everything = checked(runs)
    runs = final(everything)
    found, best, scatter = cells(runs), best_strategy(runs), stability(runs)
    tables = [best_strategy_table(best), *_wide(runs, best)]
    tables += [cells_table(found), stability_table(scatter)]
    tables += search_tables(everything, _scales(found))
    folder = Path(folder)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for table in tables:
        for ending, render in (("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
            path = folder / "tables" / f"{table.name}.{ending}"
            path.write_text(render(table) + "\n", encoding="utf-8")
    everything.to_csv(folder / "runs.csv", index=False)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        files("analysis").joinpath("report.html.j2").read_text("utf-8")
    )
    page = folder / "report.html"
    page.write_text(
        template.render(
            title=", ".join(sorted(runs["study"].dropna().unique())) or "Study without runs",
            size=_size(runs),
            protocol=protocol(everything),
            answers=answer(best, scatter),
            tables=[(table, Markup(to_html(table))) for table in tables],
            plots=list(_plots(runs, curves, found)),
            caveats=caveats(runs),
            provenance=[(t, Markup(to_html(t))) for t in _provenance(everything)],
        ),
        encoding="utf-8",
    )
    return page


def _wide(runs: pd.DataFrame, best: pd.DataFrame) -> Iterator[Table]:
    """Tables over several tasks, models or kinds of pretraining, where there are several."""
    tasks, models = runs["task"].nunique(), runs["model"].nunique()
    if tasks > 1 and models > 1:
        yield headline_table(headline(runs))
        yield strategy_table(best)
    if tasks > 1 and not unfit(runs):
        searched = (runs["search"] != "").any()  # then each task has a configuration of its own
        yield suite_table(
            suite_score(runs, by=("model", "technique" if searched else "configuration"))
        )
    if tasks > 1:
        yield technique_table(by_technique(runs))
    settings = pretraining(runs)
    if len(settings[SETTINGS].drop_duplicates()) > 1:
        yield pretraining_table(settings)


def _scales(found: pd.DataFrame) -> dict[tuple[str, str], float]:
    """What scores are multiplied by, per task and model."""
    rows: list[Any] = list(found.itertuples())
    return {(row.task, row.model): row.scale for row in rows}


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


def _plots(
    runs: pd.DataFrame, curves: pd.DataFrame, found: pd.DataFrame
) -> Iterator[tuple[str, list[_Plot]]]:
    """A heading and its figures, for each task and model that has scores."""
    from analysis import plots  # matplotlib is slow to load, and only pages need it

    for number, (task, model, block) in enumerate(blocks(runs)):
        own = found[(found["task"] == task) & (found["model"] == model)]
        if own["dev_mean"].isna().all():
            continue
        drawn = [
            _Plot(
                Markup(plots.to_svg(plots.plot_scores(block, own), f"scores{number}")),
                "Test scores by seed. Box: quartiles and median; whiskers: lowest and highest.",
            ),
            _Plot(
                Markup(plots.to_svg(plots.plot_mean_and_sd(own), f"spread{number}")),
                "Mean and standard deviation over seeds with 95% intervals; hollow where there is "
                "no interval. Failed runs are included.",
            ),
        ]
        if not curves.empty:
            chosen = curves["key"].isin(block["key"])
            dev = curves[chosen & curves["name"].str.startswith("dev/")]
            if not dev.empty:
                drawn.append(
                    _Plot(
                        Markup(plots.to_svg(plots.plot_curves(dev, own), f"curves{number}")),
                        "Dev score by epoch: mean over seeds, band from lowest to highest seed; "
                        "dashed: the baseline's mean; dagger: a run that stopped early.",
                    )
                )
        yield f"{task}, {model}", drawn


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
