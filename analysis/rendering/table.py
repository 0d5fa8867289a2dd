"""Render tables as plain text, Markdown, LaTeX, HTML or CSV."""

import html
import io
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd
import rich.table
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from analysis.rendering.formatting import NBSP

WIDTH = 100  # columns of a terminal
SHORTEST = 8  # columns of a name that is split
METHOD = "Method: docs/analysis.md."


@dataclass(frozen=True)
class Table:
    """A table ready to print.

    Attributes:
        name: File name without extension.
        title: Short title.
        notes: The short caption in sentences: metric, n, what ± is over, the test. One that begins
            with the names of columns, as in `p: Welch's test.`, is about these.
        header: Column names, shape (n_columns,).
        body: Rows of text, each of shape (n_columns,).
        details: Headers of columns that the terminal leaves out.
        frame: The underlying numbers, unrounded.
        bold: Entries to print bold, as (row, column) of the body.
        method: The rest of the caption in sentences: how the numbers were computed.
        links: Addresses that entries link to in HTML, by (row, column) of the body.

    Example:
        >>> from analysis import cells, cells_table, example_runs
        >>> table = cells_table(cells(example_runs()))
        >>> table.name, len(table.body)
        ('cells', 84)
    """

    name: str
    title: str
    notes: tuple[str, ...]
    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    details: tuple[str, ...]
    frame: pd.DataFrame
    bold: frozenset[tuple[int, int]] = frozenset()
    method: tuple[str, ...] = ()
    links: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put every text on one line: names in files of scores may have several."""
        for name in ("notes", "method"):
            sentences = map(_on_one_line, getattr(self, name))
            object.__setattr__(self, name, tuple(filter(None, sentences)))
        object.__setattr__(self, "header", tuple(map(_on_one_line, self.header)))
        body = tuple(tuple(map(_on_one_line, row)) for row in self.body)
        object.__setattr__(self, "body", body)

    @property
    def caption(self) -> str:
        """Notes and method, for a table that stands alone."""
        return " ".join([*self.notes, *self.method])

    def _repr_html_(self) -> str:
        return to_html(self)


def _on_one_line(text: str) -> str:
    return " ".join(text.splitlines())


def to_text(table: Table) -> str:
    """Render a table as plain text, at most 100 characters wide, with its notes below.

    The method and the columns in `details`, with the notes on them, are left out. The text does not
    depend on the terminal.

    Example:
        >>> import pandas as pd
        >>> body = (("rte", "66.1"), ("cola", "81.3"))
        >>> table = Table("t", "Test", ("Means.",), ("Task", "Mean"), body, (), pd.DataFrame())
        >>> print(to_text(table))
        Test
        <BLANKLINE>
        Task  Mean
        ────  ────
        rte   66.1
        cola  81.3
        <BLANKLINE>
        Means.
    """
    # Rich gets fixed widths and ready-made line breaks: by itself it splits configurations within
    # a word and intervals at their no-break space even if other columns could give way.
    caption = textwrap.wrap(" ".join(filter(_of_shown(table), table.notes)), WIDTH)
    caption += [METHOD] if table.method else []
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
    console = Console(  # overrides all that rich reads from the terminal and the environment
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


def _of_shown(table: Table) -> Callable[[str], bool]:
    """Whether a note is about more than columns that the terminal leaves out."""
    return lambda note: not set(note.partition(":")[0].split(", ")) <= set(table.details)


def _widths(rows: list[list[str]]) -> list[int]:
    """Column widths that fit the terminal: shrink the widest first, and split words last.

    Numbers are never split, since half of one is misread; the table is wider then.
    """
    columns = list(zip(*rows, strict=True))
    fixed = [_numeric(tuple(text.lstrip("[") for text in column[1:])) for column in columns]
    widths = [max(map(cell_len, column)) for column in columns]
    least = [  # minimum widths if lines break between words, then also before brackets
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
        names = [w if w > SHORTEST and not f else 0 for w, f in zip(widths, fixed, strict=True)]
        widest = next(filter(any, [*breakable, names]), None)
        if widest is None:
            break
        widths[widest.index(max(widest))] -= 1
    return widths


def _width(widths: list[int]) -> int:
    """Width of a table with columns of these widths."""
    return sum(widths) + 2 * (len(widths) - 1)


def _wrapped(text: str, width: int) -> str:
    """Wrap an entry; a configuration breaks before its brackets before a word is split."""
    if max(map(cell_len, text.split(" "))) > width:
        text = text.replace("(", " (")
    return "\n".join(textwrap.wrap(text, width))


def to_markdown(table: Table) -> str:
    """Render a table as Markdown, with its caption below.

    Example:
        >>> import pandas as pd
        >>> body = (("rte", "66.1"),)
        >>> table = Table("t", "Test", ("Means.",), ("Task", "Mean"), body, (), pd.DataFrame())
        >>> print(to_markdown(table))
        **Test**
        <BLANKLINE>
        | Task | Mean |
        | --- | --- |
        | rte | 66.1 |
        <BLANKLINE>
        Means.
    """
    body = _with_bold(table, _markdown, "**{}**")
    rows = [map(_markdown, table.header), ["---"] * len(table.header), *body]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([f"**{table.title}**", "", *(lines if table.body else []), "", table.caption])


def _markdown(text: str) -> str:
    """The text with a backslash before each sign that Markdown would read as its own."""
    return re.sub(r"[\\`*|]|(?<!\w)_|_(?!\w)|<(?=[A-Za-z/!?])", r"\\\g<0>", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    NBSP: "~",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
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
    r"""Render a table as LaTeX for the package booktabs, with its caption above.

    Example:
        >>> import pandas as pd
        >>> body = (("rte", "66.1"),)
        >>> table = Table("t", "Test", ("Means.",), ("Task", "Mean"), body, (), pd.DataFrame())
        >>> print("\n".join(to_latex(table).splitlines()[4:10]))
        \begin{tabular}{lr}
        \toprule
        Task & Mean \\
        \midrule
        rte & 66.1 \\
        \bottomrule
    """

    def escaped(text: str) -> str:
        return "".join(_LATEX.get(sign, sign) for sign in text)

    body = _with_bold(table, escaped, r"\textbf{{{}}}")
    lines = [" & ".join(row) + r" \\" for row in ([*map(escaped, table.header)], *body)]
    # After \\ and the rules of booktabs, TeX reads [ and * as arguments.
    rows = [("{}" if line[0] in "[*" else "") + line for line in lines]
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
    """Render a table as HTML with its caption; all text is escaped.

    Columns in `details` have the class `detail`.

    Example:
        >>> import pandas as pd
        >>> body = (("a & b", "66.1"),)
        >>> table = Table("t", "Test", ("Means.",), ("Task", "Mean"), body, (), pd.DataFrame())
        >>> "<td>a &amp; b</td><td>66.1</td>" in to_html(table)
        True
    """
    if not table.body:
        return f"<p>{html.escape(table.caption)}</p>"
    kinds = ["detail" if header in table.details else "" for header in table.header]
    head = "".join(
        f'<th scope="col"{_class(kind)}>{html.escape(text)}</th>'
        for kind, text in zip(kinds, table.header, strict=True)
    )
    rows = _with_bold(table, html.escape, "<strong>{}</strong>")
    for (i, j), address in table.links.items():
        rows[i][j] = f'<a href="{html.escape(address)}">{rows[i][j]}</a>'
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_class(kind, _prose(text))}>{entry}</td>"
            for kind, text, entry in zip(kinds, plain, row, strict=True)
        )
        + "</tr>\n"
        for plain, row in zip(table.body, rows, strict=True)
    )
    return (
        f"<table>\n<caption><span>{html.escape(table.caption)}</span></caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"
    )


def _with_bold(table: Table, escaped: Callable[[str], str], bold: str) -> list[list[str]]:
    """The body with every text escaped, and bold entries in the format `bold`."""
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
    return "prose" if len(text) > 30 else ""


def _class(*names: str) -> str:
    names = tuple(filter(None, names))
    return f' class="{" ".join(names)}"' if names else ""


def to_csv(table: Table) -> str:
    """Write the numbers behind a table as CSV, unrounded, in the metric's own unit.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"task": ["rte"], "mean": [0.6612]})
        >>> to_csv(Table("t", "Test", ("Means.",), ("Task",), (), (), frame)).splitlines()
        ['task,mean', 'rte,0.6612']
    """
    return table.frame.to_csv(index=False)
