"""`Rows`, a table of a task's data whose rows know their source."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rows:
    """The requested columns of a table, and the source of each row.

    Attributes:
        source: File, folder or hub name, for messages.
        ids: One id per row; made from row numbers where the data has none.
        columns: Values per column name.
        places: Of each row in the source: its number, counted from 1 (its line in JSONL and column
            files), or in a folder its file.
    """

    source: str
    ids: list[str]
    columns: dict[str, list[Any]]
    places: list[int] | list[str]

    def location(self, index: int) -> str:
        """The source and number of a row, for messages."""
        place = self.places[index]
        return f"{self.source}/{place}" if isinstance(place, str) else f"{self.source}, row {place}"

    def take(self, chosen: list[int]) -> "Rows":
        """A table of the rows at these indices."""
        return Rows(
            self.source,
            [self.ids[i] for i in chosen],
            {name: [values[i] for i in chosen] for name, values in self.columns.items()},
            [self.places[i] for i in chosen],  # type: ignore[arg-type]  # all are of one type
        )
