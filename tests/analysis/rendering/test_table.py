import io

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len

from analysis import Table, cells, cells_table, to_csv, to_html, to_latex, to_markdown, to_text
from analysis.plots.style import lines, style, to_svg
from analysis.rendering.formatting import (
    number_text,
    number_with_interval,
    percent_text,
    possible,
    score_text,
    score_with_interval,
    sd_text,
)


def table_of(header, *body, caption="One run each."):
    return Table("any", "Any", (caption,), header, body, (), pd.DataFrame())


def test_narrow_table():
    table = table_of(("Task", "n"), ("terms", "5 of 7"), ("rte", "7"))
    assert to_text(table).splitlines() == [
        "Any",
        "",
        "Task   n",
        "─────  ──────",
        "terms  5 of 7",
        "rte    7",
        "",
        "One run each.",
    ]


def test_the_terminal_explains_what_it_shows_and_files_keep_everything():
    notes = ("Means.", "p: a test.", "p, q: two tests.", "p, mean: both.")
    method = ("By hand.", "Twice.")
    body = (("5", "0.1", "0.2"),)
    table = Table(
        "t", "T", notes, ("mean", "p", "q"), body, ("p", "q"), pd.DataFrame(), method=method
    )
    text = to_text(table).splitlines()
    assert text[-2:] == ["Means. p, mean: both.", "Method: docs/analysis.md."]
    whole = "Means. p: a test. p, q: two tests. p, mean: both. By hand. Twice."
    assert table.caption == whole
    assert to_markdown(table).splitlines()[-1] == whole
    assert rf"\caption{{{whole}}}" in to_latex(table)
    assert whole in to_html(table)


def test_captions_in_the_terminal_are_short(runs):
    """Of the seven sentences on cells, those on hidden columns once took six lines."""
    below = to_text(cells_table(cells(runs))).split("\n\n")[-1]
    assert "IQM" not in below
    assert len(below.splitlines()) <= 4


@pytest.mark.parametrize(
    "variables",
    [
        {"FORCE_COLOR": "1"},
        {"TERM": "dumb", "FORCE_COLOR": "1"},
        {"COLUMNS": "30"},
        {"NO_COLOR": "1"},
    ],
)
def test_text_does_not_depend_on_the_terminal(variables, runs, monkeypatch):
    table = cells_table(cells(runs))
    wanted = to_text(table)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert to_text(table) == wanted
    assert "\x1b" not in wanted


def test_brackets_and_colons_are_not_rich_markup():
    table = table_of(("A", "B"), ("[red]x[/red] [0.5]", ":smile: [/]"))
    assert "[red]x[/red] [0.5]  :smile: [/]" in to_text(table)


def test_columns_align_after_wide_characters():
    text = to_text(table_of(("Task", "n"), ("用語", "7"), ("terms", "5"))).splitlines()
    assert text[4:6] == ["用語   7", "terms  5"]


@pytest.mark.parametrize("columns", [34, 35, 80])
def test_all_columns_are_printed_beyond_the_terminal_width(columns):
    """From 35 columns on, widths once fell to 0, which text cannot be wrapped to."""
    header = tuple(f"t{i}" for i in range(columns))
    text = to_text(table_of(header, ("81.3",) * columns)).splitlines()
    rule = next(line for line in text if line.startswith("─"))
    assert len(rule.split()) == columns
    assert max(map(cell_len, text)) == 6 * columns - 2  # no number is split
    names = to_text(table_of(header, ("name",) * columns)).splitlines()
    assert len(next(line for line in names if line.startswith("─")).split()) == columns


def test_names_are_split_before_numbers():
    row = ("a_long_name_of_a_task_without_a_break@160d100t200", "1.895 ± 0.0626", "[0.0326, 0.393]")
    text = to_text(table_of(("Task", *"abcdef"), (*row, *row[1:], *row[1:])))
    assert text.count("0.0626") == text.count("0.393]") == 3


def test_lines_break_between_words_then_before_brackets_never_inside_intervals():
    interval = "−0.4 [−2.0,\u00a01.2]"
    header = ("First", "Second", "Difference", *(f"column {i}" for i in range(7)))
    row = ("LayerwiseDecay(0.7)", "ReinitTop(2)", interval, *("1.000",) * 7)
    text = to_text(table_of(header, row))
    assert "[−2.0,\u00a01.2]" in text
    assert "LayerwiseDecay" in text.split()
    assert "(0.7)" in text.split()
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (number_text(-0.345), "−0.34"),
        (number_text(np.nan), "–"),
        (percent_text(0.125), "12%"),
        (percent_text(0.0213, digits=1), "2.1%"),
        (percent_text(np.nan), "–"),
        (number_with_interval(0.42, 0.17, 1.0), "0.42 [0.17, 1.00]"),
        (number_with_interval(-0.1, -0.25, 0.05, digits=3), "−0.100 [−0.250, 0.050]"),
        (number_with_interval(1.0, 1.0, 1.0), "1.00"),  # zero width would suggest certainty
        (number_with_interval(0.5, np.nan, np.nan), "0.50"),
        (number_with_interval(np.nan, 0.1, 0.2), "–"),
        (score_with_interval(0.025, -0.01, 0.06, scale=100, sign="+"), "+2.5 [−1.0, 6.0]"),
        (score_with_interval(0.025, np.nan, np.nan, scale=100), "2.5"),
        (score_with_interval(np.nan, 0.1, 0.2, scale=100), "–"),
        (score_text(6e-17, 100), "0.0"),  # a rounding error of a sum
        (score_text(0.0003, 100), "0.03"),
        (score_text(0.0000006, 100), "0.00006"),
        (score_text(-7.979e-05, 1), "−0.00007979"),
        (score_text(0.25, 1, sign="+"), "+0.25"),
        (score_text(123456.7, 1), "123457"),
        (score_text(6e-15, 1), "0"),
        (sd_text(7.979e-05, 1), "0.0000798"),
        (sd_text(0.00042, 100), "0.042"),
        (sd_text(1e-18, 100), "0.0"),
    ],
)
def test_number_formats(text, wanted):
    assert text.replace("\u00a0", " ") == wanted


NAMES = ["[CLS] pooling", "*starred", r"50% & #1 $x$ ~a^b \o {q}", "two\nlines", "a|b <b>x</b> _y_"]


@pytest.fixture
def named() -> Table:
    """A table of names that people have, its frame included."""
    frame = pd.DataFrame({"technique": NAMES})
    rows = tuple((name, "1") for name in NAMES)
    return Table("any", "Any", ("Two\nlines.",), ("[Name]", "n"), rows, (), frame)


def test_latex_reads_no_name_as_an_argument_or_as_a_new_row(named):
    r"""`\\ [CLS]` and `\midrule *` are arguments of the command before them."""
    written = to_latex(named).splitlines()
    assert written[5:15] == [
        r"\toprule",
        r"{}[Name] & n \\",
        r"\midrule",
        r"{}[CLS] pooling & 1 \\",
        r"{}*starred & 1 \\",
        r"50\% \& \#1 \$x\$ \textasciitilde{}a\textasciicircum{}b \textbackslash{}o \{q\} & 1 \\",
        r"two lines & 1 \\",
        r"a\textbar{}b $<$b$>$x$<$/b$>$ \_y\_ & 1 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert written[2] == r"\caption{Two lines.}"


def test_markdown_has_one_line_per_row_and_no_markup_of_names(named):
    assert to_markdown(named).splitlines() == [
        "**Any**",
        "",
        "| [Name] | n |",
        "| --- | --- |",
        "| [CLS] pooling | 1 |",
        r"| \*starred | 1 |",
        r"| 50% & #1 $x$ ~a^b \\o {q} | 1 |",
        "| two lines | 1 |",
        r"| a\|b \<b>x\</b> \_y\_ | 1 |",
        "",
        "Two lines.",
    ]
    plain = table_of(("mean_pool", "p"), ("LayerwiseDecay(0.7)", "<0.001"))
    assert "| mean_pool | p |" in to_markdown(plain)
    assert "| LayerwiseDecay(0.7) | <0.001 |" in to_markdown(plain)


def test_names_in_text_html_and_csv(named):
    assert to_text(named).splitlines()[6:9] == [
        r"50% & #1 $x$ ~a^b \o {q}  1",
        "two lines                 1",
        "a|b <b>x</b> _y_          1",
    ]
    assert "<td>two lines</td>" in to_html(named)
    assert "<td>a|b &lt;b&gt;x&lt;/b&gt; _y_</td>" in to_html(named)
    assert pd.read_csv(io.StringIO(to_csv(named)))["technique"].tolist() == NAMES


def test_a_name_in_a_figure_is_no_formula():
    r"""`$y_ \o{$` used to end a report with a traceback."""
    with style():
        figure, _ = lines([r"cost $x$ and $y_ \o{$"])
    assert r"cost $x$ and $y_ \o{$" in to_svg(figure, "names")


@pytest.mark.parametrize(
    ("metric", "scale", "expected"),
    [
        ("micro_f1", 100, (0.0, 1.0)),
        ("matthews_corrcoef", 100, (-0.5, 1.0)),
        ("spearman", 100, (-0.5, 1.0)),
        ("rmse", 1, (-0.5, 1.7)),
    ],
)
def test_intervals_stay_within_possible_scores(metric, scale, expected):
    assert possible(-0.5, 1.7, metric=metric, scale=scale) == expected
