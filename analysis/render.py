"""Frames of numbers to tables that people read: terminal, Markdown, LaTeX, HTML, CSV."""

import html
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.frame import BASELINE
from analysis.statistics.common import DECIMALS
from analysis.tables import ENOUGH_FOR_SCATTER

WIDTH = 100  # columns of a terminal
ENTERS = (  # of a failed run
    "enters with its score, or the constant answer's if it has none; where that is not known "
    "either, it is left out"
)
NAMED = 8  # tasks that a caption names before it only counts
NOTHING = "There are no runs yet."
SHARED = ("Task", "Model", "Metric")  # said once, in the caption, where all rows agree
DAGGER = "†"
NBSP = "\u00a0"  # keeps an interval on one line

Row = Any  # a named tuple that pandas makes of a frame's row


@dataclass(frozen=True)
class Table:
    """A table ready to print.

    Attributes:
        name: File name without ending.
        title: A few words.
        caption: What the numbers are: over what they scatter, n, metric and direction.
        header: Column names, shape (n_columns,).
        body: Rows of text, each shape (n_columns,).
        details: Columns that a terminal has no room for.
        frame: The numbers behind, unrounded.
        bold: Entries to print bold, as (row, column) of the body.
    """

    name: str
    title: str
    caption: str
    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    details: tuple[str, ...]
    frame: pd.DataFrame
    bold: frozenset[tuple[int, int]] = frozenset()

    def _repr_html_(self) -> str:
        return to_html(self)


def score_text(value: float, scale: float, *, sign: str = "") -> str:
    """A score, difference or sd as printed: points with one decimal, or four digits.

    Args:
        value: In the metric's own unit; NaN becomes a dash.
        scale: 100 for scores that are shares, otherwise 1.
        sign: `+` to show the sign of positive values too.
    """
    if not np.isfinite(value):
        return "–"
    shown = value * scale
    digits = ".1f" if scale == 100 else ".4g"
    if scale == 100 and 0 < abs(shown) < 0.05:
        digits = ".1g"  # a scatter below the last decimal is not none
    return f"{shown:{sign}{digits}}".replace("-", "−")


def has_width(low: float, high: float) -> bool:
    """Whether an interval is there to show: one without width would pass for certainty."""
    return bool(np.isfinite(low) and np.isfinite(high) and round(high - low, DECIMALS) > 0)


def interval_text(low: float, high: float, *, scale: float) -> str:
    """An interval as printed, such as `[70.1, 72.5]`; a dash if there is none."""
    if not has_width(low, high):
        return "–"
    return f"[{score_text(low, scale)},{NBSP}{score_text(high, scale)}]"


def p_text(p: float) -> str:
    """A p-value as printed: three decimals, `<0.001`, or a dash for NaN."""
    if not np.isfinite(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def count_text(finished: int, asked: int) -> str:
    """How many runs there are, and of how many if some are missing."""
    return f"{finished}" if finished == asked else f"{finished} of {asked}"


def metric_text(metric: str, higher_is_better: bool, *, scale: float) -> str:
    """A metric with its direction and unit."""
    direction = "higher" if higher_is_better else "lower"
    return f"{metric} ({direction} is better{', in points' if scale == 100 else ''})"


def cells_table(found: pd.DataFrame) -> Table:
    """The cells, as `tables.cells` gives them."""
    columns: dict[str, Callable[[Row], str]] = {
        **SHARED_COLUMNS,
        "Configuration": lambda r: r.configuration,
        **_tried(found),
        "n": lambda r: count_text(r.finished, r.asked),
        "Failed": _failed,
        "Test mean ± sd": lambda r: mean_sd_text(r.test_mean, r.test_sd, r.scale),
        "95% of mean": lambda r: interval_text(r.test_mean_low, r.test_mean_high, scale=r.scale),
        "95% of sd": lambda r: interval_text(r.test_sd_low, r.test_sd_high, scale=r.scale),
        "Median": lambda r: score_text(r.test_median, r.scale),
        "IQM": lambda r: score_text(r.test_iqm, r.scale),
        "Quartiles": lambda r: _pair(r.test_q25, r.test_q75, r.scale),
        "Min, max": lambda r: _pair(r.test_minimum, r.test_maximum, r.scale),
        "Lowest, highest of 3": lambda r: _pair(r.test_lowest_of_3, r.test_highest_of_3, r.scale),
        "CV": lambda r: "–" if np.isnan(r.test_cv) else f"{r.test_cv:.1%}",
        "Not failed": lambda r: mean_sd_text(r.test_clean_mean, r.test_clean_sd, r.scale),
        "Dev mean ± sd": lambda r: mean_sd_text(r.dev_mean, r.dev_sd, r.scale),
        "Dev median": lambda r: score_text(r.dev_median, r.scale),
        "Dev IQM": lambda r: score_text(r.dev_iqm, r.scale),
        "Dev min, max": lambda r: _pair(r.dev_minimum, r.dev_maximum, r.scale),
        "Seconds": lambda r: "–" if np.isnan(r.seconds) else f"{r.seconds:.3g}",
    }
    notes = [
        n_note(found),
        "± is the standard deviation over seeds (n − 1).",
        f"A failed run {ENTERS}{_left_out(found)}. 'Not failed' leaves all failed runs out.",
        "Intervals: t for the mean and chi-square for the sd; where runs failed, BCa bootstrap "
        "for the sd from 20 seeds and none below; none where all scores are equal. IQM is the mean "
        "of the middle half.",
        "Lowest, highest of 3: expected of three new runs. CV is sd over mean; none where 0 is a "
        "score like others, or what a constant answer gets.",
        "By falling dev mean; seconds are per run.",
        *_tried_note(found),
    ]
    details = ["Median", "IQM", "Quartiles", "Min, max", "Lowest, highest of 3", "CV"]
    details += ["Not failed"]
    details += ["Dev median", "Dev IQM", "Dev min, max", "Seconds"]
    return table_of("cells", "All cells", found, columns, notes=notes, details=details)


def best_strategy_table(found: pd.DataFrame) -> Table:
    """The best strategies, as `tables.best_strategy` gives them."""
    columns: dict[str, Callable[[Row], str]] = {
        **SHARED_COLUMNS,
        "Recommended": lambda r: (r.recommended or "–") + (DAGGER if r.sensitivity else ""),
        "Not told apart from": _tied,
        **_tried(found),
        "Decided by": lambda r: r.decided_by,
        "n": lambda r: count_text(r.finished, r.asked),
        "Failed": lambda r: f"{r.failed}",
        "Dev mean": lambda r: score_text(r.dev_mean, r.scale),
        "Test mean ± sd": lambda r: mean_sd_text(r.test_mean, r.test_sd, r.scale),
        "95% of mean": lambda r: interval_text(r.test_mean_low, r.test_mean_high, scale=r.scale),
        f"vs {BASELINE}": versus_text,
        "p": lambda r: p_text(r.p_holm) + ("*" if r.method == "permutation" else ""),
        "P(best)": lambda r: _share(r.probability_best),
        "P(near best)": lambda r: _share(r.probability_near_best),
        "Ranks open": lambda r: _ranks(r.rank_low, r.rank_high, r.ranked),
        "Highest dev mean, corrected": lambda r: score_text(r.dev_corrected, r.scale),
        "Expected test": lambda r: score_text(r.expected_test, r.scale),
    }
    notes = [
        n_note(found),
        "Chosen on dev, reported on test. ± is the standard deviation over seeds (n − 1).",
        "Not told apart: dev means that a Welch test does not separate from the highest "
        "(Holm over the comparisons of a row, 5%); what decides among them is no test.",
        f"vs {BASELINE}: difference of test means with its 95% Welch interval; p is Holm-adjusted "
        f"over all configurations against {BASELINE} (* permutation test, where runs failed), not "
        "across rows.",
        "P(best), P(near best): shares of resamplings in which its dev mean is the highest, and "
        "less than half a point below. Ranks open: those that Welch tests of all pairs on dev "
        "leave it (Holm, 5%).",
        "Corrected: the highest dev mean without what being chosen adds to it. Expected test: "
        "the test mean of whatever has the highest dev mean, over resamplings.",
        *_transfer_notes(found),
        *_tried_note(found),
    ]
    if not found.empty:
        for row in found[found["sensitivity"] != ""].itertuples():
            notes.append(f"{DAGGER} {row.task}, {row.model}: {row.sensitivity}")
    details = ["Decided by", "Dev mean", "95% of mean", "P(best)", "P(near best)", "Ranks open"]
    details += ["Highest dev mean, corrected", "Expected test"]
    return table_of("best_strategy", "Best strategy", found, columns, notes=notes, details=details)


def _transfer_notes(found: pd.DataFrame) -> list[str]:
    """How often test agrees with dev, beside what published runs say of it."""
    known = found.dropna(subset="agrees") if "agrees" in found else found
    known = known[known["compared"] > 1] if len(known) else known
    if known.empty:
        return []
    agreed, scale = int(known["agrees"].sum()), known["scale"].unique()
    text = f"The highest dev mean has the highest test mean too in {agreed} of {len(known)} rows"
    if len(scale) == 1 and agreed < len(known):
        text += f"; it is {score_text(known['regret'].mean(), scale[0])} below it on average"
    return [
        f"{text}. (On 16,620 published runs of 86 tasks, Gorishniy et al. 2024, the winner on dev "
        "is that on test in 29 % of the tasks with one seed, and in 35 % with fifteen.)"
    ]


def stability_table(found: pd.DataFrame) -> Table:
    """Scatter and failures against the baseline, as `tables.stability` gives them."""
    columns: dict[str, Callable[[Row], str]] = {
        **SHARED_COLUMNS,
        "Configuration": lambda r: r.configuration,
        "n": lambda r: f"{r.n}",
        "sd": lambda r: score_text(r.sd, r.scale),
        "sd ratio": lambda r: ratio_text(r.ratio, r.ratio_low, r.ratio_high),
        "p sd": lambda r: p_text(r.p_holm),
        "sd ratio, not failed": lambda r: ratio_text(
            r.clean_ratio, r.clean_ratio_low, r.clean_ratio_high
        ),
        "p sd, not failed": lambda r: p_text(r.clean_p_holm),
        "Failed, 95% of rate": lambda r: (
            f"{r.failed} of {r.finished} [{r.failure_low:.0%},{NBSP}{r.failure_high:.0%}]"
        ),
        "p failures": lambda r: p_text(r.failure_p_holm),
        "Verdict": lambda r: r.verdict,
    }
    notes = [
        n_note(found),
        f"sd is the standard deviation of test scores over seeds (n − 1); the ratio is to "
        f"{BASELINE}'s, below 1 is calmer.",
        "Ratio intervals (95%): F distribution for clean cells; where runs failed, bootstrap from "
        "20 seeds and none below.",
        "p sd: Brown–Forsythe; p failures: Fisher's exact test; both Holm-adjusted within a task "
        "and model.",
        f"A verdict needs {ENOUGH_FOR_SCATTER} seeds and p below 0.05 with and without failed "
        "runs; 'not shown' is not 'equal'.",
    ]
    if not found.empty:
        detectable = found[["n_both", "mdr"]].dropna().drop_duplicates().sort_values("n_both")
        notes += [
            f"With {row.n_both:.0f} seeds only a ratio beyond {row.mdr:.1f} (or below "
            f"1/{row.mdr:.1f}) would usually be found."
            for row in detectable.itertuples()
        ]
    details = ["n", "p sd", "p sd, not failed", "p failures"]
    return table_of(
        "stability", "Scatter and failures", found, columns, notes=notes, details=details
    )


SHARED_COLUMNS: dict[str, Callable[[Row], str]] = {
    "Task": lambda r: r.task,
    "Model": lambda r: r.model,
    "Metric": lambda r: metric_text(r.metric, r.higher_is_better, scale=r.scale),
}


def _tried(found: pd.DataFrame) -> dict[str, Callable[[Row], str]]:
    """A column for how many configurations a choice was made from, where there were choices."""
    searched = not found.empty and (found["tried"] > 1).any()
    return {"Tried": lambda r: f"{r.tried}"} if searched else {}


def _tried_note(found: pd.DataFrame) -> list[str]:
    text = "Tried: configurations that it was chosen from on dev, on other seeds than these."
    return [text] if _tried(found) else []


def table_of(
    name: str,
    title: str,
    found: pd.DataFrame,
    columns: dict[str, Callable[[Row], str]],
    *,
    notes: list[str],
    details: list[str],
    nothing: str = NOTHING,
) -> Table:
    """A table with a line per row of the frame; what all rows share is said in the caption.

    Where there are no rows the caption is `nothing`.
    """
    rows: list[Row] = list(found.itertuples())
    if not rows:
        return Table(name, title, nothing, tuple(columns), (), (), found)
    texts = {header: [text(row) for row in rows] for header, text in columns.items()}
    same = [h for h in SHARED if h in texts and len(set(texts[h])) == 1]
    facts = ", ".join(f"{header.lower()} {texts.pop(header)[0]}" for header in same)
    caption = [f"{facts[0].upper()}{facts[1:]}."] if facts else []
    if "Metric" in texts:  # a terminal leaves it to the caption
        texts["Metric"] = [str(row.metric) for row in rows]
        caption.append(metrics_note(found))
        details = [*details, "Metric"]
    caption += notes
    return Table(
        name=name,
        title=title,
        caption=" ".join(caption),
        header=tuple(texts),
        body=tuple(zip(*texts.values(), strict=True)),
        details=tuple(details),
        frame=found,
    )


def metrics_note(found: pd.DataFrame) -> str:
    """Which metric scores which task, with its direction and unit."""
    tasks: dict[str, list[str]] = {}
    rows: list[Row] = list(found.drop_duplicates("task").itertuples())
    for row in rows:
        named = metric_text(row.metric, row.higher_is_better, scale=row.scale)
        tasks.setdefault(named, []).append(row.task)
    if len(tasks) == 1:
        return f"Metric {next(iter(tasks))}."
    parts = [
        f"{metric} on {', '.join(sorted(names)) if len(names) <= NAMED else f'{len(names)} tasks'}"
        for metric, names in tasks.items()
    ]
    return f"Metrics: {'; '.join(parts)}."


def n_note(found: pd.DataFrame) -> str:
    """How many seeds the numbers rest on; empty of no runs."""
    if found.empty:
        return ""
    low, high = int(found["finished"].min()), int(found["finished"].max())
    runs = f"{low}" if low == high else f"{low} to {high}"
    return f"n, the number of seeds with a result, is {runs}."


def _left_out(found: pd.DataFrame) -> str:
    """That means of `tables.cells` rest on fewer runs than n, where they do."""
    unknown = not found.empty and (found["test_mean_reason"] == "non_finite").any()
    return ", as here, so that test scores rest on fewer runs than n" if unknown else ""


def mean_sd_text(mean: float, sd: float, scale: float) -> str:
    """A mean and its standard deviation, as `81.3 ± 0.5`; the mean alone if there is no sd."""
    if np.isnan(mean) or np.isnan(sd):
        return score_text(mean, scale)
    return f"{score_text(mean, scale)}{NBSP}±{NBSP}{score_text(sd, scale)}"


def _pair(low: float, high: float, scale: float) -> str:
    return f"{score_text(low, scale)},{NBSP}{score_text(high, scale)}"


def _share(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.2f}"


def _ranks(low: float, high: float, count: float) -> str:
    if np.isnan(low):
        return "–"
    return f"{low:.0f} of {count:.0f}" if low == high else f"{low:.0f} to {high:.0f} of {count:.0f}"


def ratio_text(ratio: float, low: float, high: float) -> str:
    """A ratio of sds with its interval, if it has one; a dash for NaN."""
    if np.isnan(ratio):
        return "–"
    return f"{ratio:.2f}" + (f" [{low:.2f},{NBSP}{high:.2f}]" if has_width(low, high) else "")


def _failed(row: Row) -> str:
    parts = [
        f"{count} {word}"
        for count, word in ((row.diverged, "diverged"), (row.collapsed, "collapsed"))
        if count
    ]
    return ", ".join(parts) or "0"


def _tied(row: Row) -> str:
    if not row.recommended:
        return str(row.decided_by)
    if row.compared == 1:
        return "nothing to compare"
    return str(row.tied).replace("; ", ", ") or "none: alone at the top"


def versus_text(row: Row) -> str:
    """The gain over the baseline with its interval, or why there is none."""
    if not row.recommended:
        return "–"
    if row.reason in ("is_baseline", "no_baseline"):
        return "is the baseline" if row.reason == "is_baseline" else "no baseline"
    text = score_text(row.difference, row.scale, sign="+")
    return f"{text} {interval_text(row.difference_low, row.difference_high, scale=row.scale)}"


def to_text(table: Table) -> str:
    """The table for a terminal, at most 100 characters wide, with its caption below."""
    kept = [i for i, header in enumerate(table.header) if header not in table.details]
    body = _with_bold(table, lambda text: text, "**{}**")
    rows = [[row[i] for i in kept] for row in (table.header, *body)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(kept))]
    least = [  # widths at which columns break between words, then also before settings
        [max(len(word) for row in rows for word in re.split(at, row[i])) for i in range(len(kept))]
        for at in (" ", r" |(?=\()|(?<=-)")
    ]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        breakable = [
            [w if w > word else 0 for w, word in zip(widths, words, strict=True)] for words in least
        ]
        widest = next(filter(any, breakable), widths)  # words break only where nothing else can
        widths[widest.index(max(widest))] -= 1
    lines = [table.title, ""] if table.body else [table.title]
    for number, row in enumerate(rows if table.body else []):
        wrapped = [_wrapped(text, width) for text, width in zip(row, widths, strict=True)]
        for height in range(max(map(len, wrapped))):
            parts = [
                (part[height] if height < len(part) else "").ljust(width)
                for part, width in zip(wrapped, widths, strict=True)
            ]
            lines.append("  ".join(parts).rstrip())
        if number == 0:
            lines.append("  ".join("─" * width for width in widths))
    return "\n".join([*lines, "", *textwrap.wrap(table.caption, WIDTH)])


def _wrapped(text: str, width: int) -> list[str]:
    """An entry's lines; the settings of a configuration start one before a word is cut."""
    if max(map(len, text.split(" "))) > width:
        text = text.replace("(", " (")
    return textwrap.wrap(text, width) or [""]


def to_markdown(table: Table) -> str:
    """The table in Markdown, its caption below."""
    body = _with_bold(table, _bars_escaped, "**{}**")
    rows = [map(_bars_escaped, table.header), ["---"] * len(table.header), *body]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([f"**{table.title}**", "", *(lines if table.body else []), "", table.caption])


def _bars_escaped(text: str) -> str:
    return text.replace("|", r"\|")


_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    NBSP: "~",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "†": r"$^\dagger$",
    "→": r"$\to$",
    "⁺": "$^{+}$",
    "⁻": "$^{-}$",
}


def to_latex(table: Table) -> str:
    """The table in LaTeX, for the package booktabs, with its caption above."""

    def escaped(text: str) -> str:
        return "".join(_LATEX.get(sign, sign) for sign in text)

    body = _with_bold(table, escaped, r"\textbf{{{}}}")
    rows = [" & ".join(row) + r" \\" for row in ([*map(escaped, table.header)], *body)]
    columns = "".join("r" if _numeric(column) else "l" for column in zip(*table.body, strict=True))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(table.caption)}}}",
            rf"\label{{tab:{table.name.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{{columns or 'l' * len(table.header)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def to_html(table: Table) -> str:
    """The table in HTML with its caption; everything escaped."""
    if not table.body:
        return f"<p>{html.escape(table.caption)}</p>"
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in table.header)
    rows = _with_bold(table, html.escape, "<strong>{}</strong>")
    body = "".join(
        "<tr>" + "".join(f"<td{_prose(text)}>{text}</td>" for text in row) + "</tr>\n"
        for row in rows
    )
    return (
        f"<table>\n<caption><span>{html.escape(table.caption)}</span></caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"
    )


def _with_bold(table: Table, escaped: Callable[[str], str], bold: str) -> list[list[str]]:
    """The body as a format writes it."""
    return [
        [
            bold.format(escaped(text)) if (i, j) in table.bold else escaped(text)
            for j, text in enumerate(row)
        ]
        for i, row in enumerate(table.body)
    ]


def _numeric(column: tuple[str, ...]) -> bool:
    return all(text[:1].isdigit() or text[:1] in "+−–<" for text in column)


def _prose(text: str) -> str:
    return ' class="prose"' if len(text) > 30 else ""


def to_csv(table: Table) -> str:
    """The numbers behind the table, unrounded, in the metric's own unit."""
    return table.frame.to_csv(index=False)
