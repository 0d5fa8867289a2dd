"""Image files: folders with one folder per class, and tables that name files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from study.core.spec import Mistake, SpecError, few
from study.tasks.rows import Rows


def read_folder(folder: Path, *, text: str, label: str, id_column: str | None) -> Rows:
    """The images in a folder with one folder per class; hidden files are left out.

    Args:
        folder: Such as `train`, with the images of cats in `train/cat`.
        text: Name of the column with a file's bytes.
        label: Name of the column with the class, the name of a folder.
        id_column: None numbers the rows; else an id is such as `train/cat/1.png`.

    Raises:
        SpecError: If there is no image, or a file that is not in a folder or not an image by its
            ending.
    """
    names = sorted(
        file.relative_to(folder)
        for file in folder.rglob("*")
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(folder).parts)
    )
    endings = _endings()
    mistakes = [] if names else [Mistake(str(folder), "has no files.")]
    for name in names:
        if len(name.parts) == 1:
            reason = "is in no class; the folder needs a folder per class with its images."
            mistakes.append(Mistake(str(folder / name), reason))
        elif name.suffix.lower() not in endings:
            mistakes.append(Mistake(str(folder / name), "is not an image; move it elsewhere."))
    if mistakes:
        raise SpecError("data", few(mistakes, str(folder)))
    paths = [name.as_posix() for name in names]
    numbered = [f"{folder.name}-{number}" for number in range(1, len(names) + 1)]
    columns: dict[str, list[Any]] = {
        text: [(folder / name).read_bytes() for name in names],
        label: [name.parts[0] for name in names],
    }
    ids = numbered if id_column is None else [f"{folder.name}/{path}" for path in paths]
    return Rows(str(folder), ids, columns, list(paths))


def with_files(rows: Rows, column: str, folder: Path) -> Rows:
    """Replace names of image files in a column by the files' bytes.

    A text that ends like an image file is a name; base64 text has no dot.

    Args:
        rows: The table.
        column: Name of the column.
        folder: The table's own, where relative names begin.

    Raises:
        SpecError: With the first ten files that are missing.
    """
    endings, values, mistakes = _endings(), [], []
    for row, value in enumerate(rows.columns[column]):
        if isinstance(value, str) and Path(value).suffix.lower() in endings:
            file = folder / value
            if not file.is_file():
                reason = f"no such file {value!r} in {folder}."
                mistakes.append(Mistake(f"{rows.location(row)}, {column}", reason))
                continue
            value = file.read_bytes()
        values.append(value)
    if mistakes:
        raise SpecError("data", few(mistakes, rows.source))
    return replace(rows, columns={**rows.columns, column: values})


def _endings() -> set[str]:
    from PIL import Image  # loads every format

    return set(Image.registered_extensions())
