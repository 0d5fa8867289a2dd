"""Panels as HTML: tables with their captions, figures as SVG."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from analysis.rendering.table import Table, to_html
from analysis.report.drawings import Drawing
from analysis.report.sections import Panel

TALL = 40  # rows; a longer table scrolls and can be filtered


@dataclass(frozen=True)
class Shown:
    """A panel as the template needs it.

    Attributes:
        name: Anchor.
        title: Heading.
        folded: Whether it is collapsed.
        figures: SVG, task, heading and caption; the caption is empty where a later one is the same.
        notes: The short caption of the table, without what the page has said before.
        method: The rest of it, likewise.
        table: The table as HTML; empty if there is none.
        rows: Its number of rows.
        details: Its number of columns that are hidden at first.
    """

    name: str
    title: str
    folded: bool
    figures: list[tuple[Markup, str, str, str]]
    notes: str = ""
    method: tuple[str, ...] = ()
    table: Markup = Markup()
    rows: int = 0
    details: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing but a sentence on why."""
        return not (self.table or self.figures)

    @property
    def tall(self) -> bool:
        """Whether the table scrolls."""
        return self.rows > TALL


def shown(part: Panel, said: set[str], *, folded: bool) -> Shown:
    """A panel for the template; `said` collects the sentences of all captions so far."""
    from analysis.plots.style import to_svg  # matplotlib is slow to import

    figures = [
        (Markup(to_svg(each.figure, each.name)), each.task, each.heading, caption)
        for each, caption in zip(part.drawings, _captions(part.drawings), strict=True)
    ]
    bare = Shown(part.name, part.title, folded, figures)
    if part.table is None:
        return bare
    if not part.table.body:
        return replace(bare, notes=part.table.caption)
    table = _without_dashes(part.table)
    table = replace(table, notes=_new(table.notes, said), method=_new(table.method, said))
    return replace(
        bare,
        notes=" ".join(table.notes),
        method=table.method,
        table=Markup(to_html(replace(table, method=()))),
        rows=len(table.body),
        details=sum(header in table.details for header in table.header),
    )


def _new(sentences: Iterable[str], said: set[str]) -> tuple[str, ...]:
    """The sentences that were not said before; they now are."""
    new = tuple(sentence for sentence in dict.fromkeys(sentences) if sentence not in said)
    said.update(new)
    return new


def _captions(drawings: Sequence[Drawing]) -> list[str]:
    """The caption of each drawing; empty except for the last of those that share it."""
    last = {each.caption: i for i, each in enumerate(drawings)}
    return [each.caption if last[each.caption] == i else "" for i, each in enumerate(drawings)]


def _without_dashes(table: Table) -> Table:
    """The table without columns that hold nothing but dashes."""
    kept = [i for i, column in enumerate(zip(*table.body, strict=True)) if set(column) != {"–"}]
    place = {i: new for new, i in enumerate(kept)}
    return replace(
        table,
        bold=frozenset((row, place[i]) for row, i in table.bold if i in place),
        links={(row, place[i]): to for (row, i), to in table.links.items() if i in place},
        header=tuple(table.header[i] for i in kept),
        body=tuple(tuple(row[i] for i in kept) for row in table.body),
    )
