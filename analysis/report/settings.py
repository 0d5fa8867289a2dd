"""What the cells of a study were set to: the recipe in a line and as a table, the tasks' data."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from analysis.frames.runs import CELL
from analysis.rendering.table import Table

RECIPE = "recipe."
# The fields that the first line names, and words around a value.
MAIN = {
    "lr": "learning rate {}",
    "epochs": "{} epochs",
    "steps": "{} steps",
    "batch_size": "batch size {}",
    "max_length": "at most {} tokens",
}
VALUES = 3  # different values of a field that a line names; of more the smallest and the largest
GROUPS = 3  # tasks, models or configurations that an entry names; of more it gives the count


def recipe_line(settings: pd.DataFrame) -> str:
    """The main fields of the recipe in a line; empty if they are unknown.

    Args:
        settings: As `load_settings` gives them.
    """
    # Steps are in place of epochs; without them they are null.
    counted = (settings["name"] == f"{RECIPE}steps") & (settings["value"] != "null")
    cells = pd.MultiIndex.from_frame(settings[CELL])
    in_steps = cells.isin(cells[counted])
    unused = (settings["name"] == f"{RECIPE}steps") & ~counted
    unused |= (settings["name"] == f"{RECIPE}epochs") & in_steps
    of = settings[~unused].groupby("name")["value"].unique()
    images = list(of.get("task.kind", [])) == ['"image"']
    parts = []
    for name, words in MAIN.items():
        values = sorted(map(json.loads, of.get(RECIPE + name, [])))
        if values and not (images and name == "max_length"):
            ends = f"{_number(values[0])} to {_number(values[-1])}"
            listed = " or ".join(map(_number, values)) if len(values) <= VALUES else ends
            parts.append(words.format(listed))
    return ", ".join(parts)


def recipe_table(settings: pd.DataFrame) -> Table:
    """Every field of the recipe, with the cells of each value where it has several.

    Args:
        settings: As `load_settings` gives them.
    """
    fields = settings[settings["name"].str.startswith(RECIPE)]
    body = tuple(
        (str(name).removeprefix(RECIPE), "; ".join(_values(part)))
        for name, part in fields.groupby("name", sort=False)
    )
    notes = ("As each cell trained; a field that is not listed has its default.",)
    return Table("recipe", "Recipe", notes, ("Field", "Value"), body, (), fields)


def _values(part: pd.DataFrame) -> Iterator[str]:
    """Each value of a field, with what it goes by: task, model or configuration, else cells."""
    by = next((c for c in CELL if (part.groupby(c)["value"].nunique() == 1).all()), "")
    for value, own in part.groupby("value", sort=False):
        text = _plain(str(value))
        if len(own) == len(part):
            yield text
        elif by and own[by].nunique() <= GROUPS:
            yield f"{text} ({', '.join(own[by].unique())})"
        else:
            count = own[by].nunique() if by else len(own)
            yield f"{text} ({count} {by or 'cell'}{'' if count == 1 else 's'})"


def data_of(settings: pd.DataFrame, task: str) -> dict[str, str]:
    """Files and division of a task's data, a dash where unknown.

    Args:
        settings: As `load_settings` gives them.
        task: Name of the task.
    """
    own = settings[settings["task"] == task].drop_duplicates("name").set_index("name")["value"]
    parts = [f"task.{part}" for part in ("train", "dev", "test")]
    files = [_shown(json.loads(own[part])) for part in parts if part in own]
    split = json.loads(own.get("task.split", "{}"))
    return {
        "Data": ", ".join(files) or "–",
        "Split": ", ".join(f"{name} {value}" for name, value in split.items()) or "–",
    }


def _shown(source: str) -> str:
    """A source of rows; of an absolute path only the file's name, for it may name a home."""
    return Path(source).name if Path(source).is_absolute() else source


def _plain(value: str) -> str:
    """A JSON value without the quotation marks of a text."""
    found = json.loads(value)
    if isinstance(found, float):
        return _number(found)
    return found if isinstance(found, str) else "none" if found is None else value


def _number(value: float) -> str:
    """A number as people write it: `5e-5`, not `5e-05`."""
    return f"{value:g}".replace("e-0", "e-")
