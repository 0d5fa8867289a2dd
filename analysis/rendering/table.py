"""Frames of numbers to tables that people read: terminal, Markdown, LaTeX, HTML, CSV."""

import html
import io
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import rich.table
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from analysis.rendering.formatting import NBSP

WIDTH = 100  # columns of a terminal


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


def to_text(table: Table) -> str:
    """The table for a terminal, at most 100 characters wide, with its caption below.

    Plain text whatever it is printed to. Rich draws it, in columns of given widths and lines broken
    here: left to itself it cuts configurations in the middle of a word and intervals at their
    no-break space while other columns have room to give.
    """
    caption = textwrap.wrap(table.caption, WIDTH)
    if not table.body:
        return "\n".join([table.title, "", *caption])
    kept = [i for i, header in enumerate(table.header) if header not in table.details]
    body = _with_bold(table, lambda text: text, "**{}**")
    rows = [[row[i] for i in kept] for row in (table.header, *body)]
    widths = _widths(rows)
    drawn = rich.table.Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for header, width in zip(rows[0], widths, strict=True):
        drawn.add_column(Text(f"{_wrapped(header, width)}\n{'─' * width}"), width=width)
    for row in rows[1:]:
        drawn.add_row(*(Text(_wrapped(text, w)) for text, w in zip(row, widths, strict=True)))
    console = Console(  # all that it would otherwise take from the terminal and the environment
        file=io.StringIO(),
        width=max(WIDTH, _width(widths)),
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
    )
    with console.capture() as captured:
        console.print(drawn)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join([table.title, "", *lines, "", *caption])


def _widths(rows: list[list[str]]) -> list[int]:
    """Widths of columns: the widest gives way first, and words break where nothing else can."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    least = [  # widths at which columns break between words, then also before settings
        [
            max(cell_len(word) for text in column for word in re.split(at, text))
            for column in columns
        ]
        for at in (" ", r" |(?=\()|(?<=-)")
    ]
    while _width(widths) > WIDTH and max(widths) > 1:
        breakable = [
            [w if w > word else 0 for w, word in zip(widths, words, strict=True)] for words in least
        ]
        widest = next(filter(any, breakable), widths)
        widths[widest.index(max(widest))] -= 1
    return widths


def _width(widths: list[int]) -> int:
    """Of a table whose columns are so wide."""
    return sum(widths) + 2 * (len(widths) - 1)


def _wrapped(text: str, width: int) -> str:
    """An entry's lines; the settings of a configuration start one before a word is cut."""
    if max(map(cell_len, text.split(" "))) > width:
        text = text.replace("(", " (")
    return "\n".join(textwrap.wrap(text, width))


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
