"""Write docs/api.md: public names with signatures and first paragraphs of docstrings."""

import inspect
import re
import textwrap
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
PACKAGES = ("study", "study.tasks", "study.models", "search_spaces", "analysis")
HEAD = """# Public names

Made by `python scripts/make_api.py` from each `__all__`; `help(NAME)` shows more, with an example.
"""


def page() -> str:
    """The page as Markdown."""
    seen: set[int] = set()
    parts = [HEAD]
    for name in PACKAGES:
        package = import_module(name)
        parts.append(f"## `{name}`\n\n{_first_paragraph(package)}\n")
        values = {n: getattr(package, n) for n in sorted(package.__all__, key=str.lower)}
        new = {n: value for n, value in values.items() if id(value) not in seen}
        seen |= {id(value) for value in values.values() if callable(value)}
        parts += [_entry(n, value) for n, value in new.items() if callable(value)]
        constants = [f"`{n}`" for n, value in new.items() if not callable(value)]
        if constants:
            parts.append("\n".join(textwrap.wrap(f"Values: {', '.join(constants)}.", 100)) + "\n")
    return "\n".join(parts)


def _entry(name: str, value: Any) -> str:
    return f"**`{name}{_signature(value)}`**\n\n{_first_paragraph(value)}\n"


def _signature(value: Any) -> str:
    """Parameters without their types, which `help` shows."""
    signature = inspect.signature(value)
    untyped = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    shown = str(signature.replace(parameters=untyped, return_annotation=inspect.Signature.empty))
    return re.sub(r"<factory>|PydanticUndefined|<[^>]*>", "…", shown)


def _first_paragraph(value: Any | ModuleType) -> str:
    text = inspect.cleandoc(value.__doc__ or "").split("\n\n")[0]
    return "\n".join(textwrap.wrap(" ".join(text.split()), 100))


if __name__ == "__main__":
    PAGE.write_text(page())
