"""Arguments shared by several commands, and types of argument values."""

import argparse
import inspect
import math
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from study.core.sizes import size_of

Action = Callable[[argparse.Namespace], int]


class Commands:
    """The subcommands of `study`, to which a module adds its own.

    Attributes:
        selected: The command on this command line. Arguments that are slow to import are added only
            for a selected command.
    """

    def __init__(self, subparsers: Any, selected: Collection[str]) -> None:
        self.selected = selected
        self._subparsers = subparsers

    def add(self, name: str, action: Action) -> argparse.ArgumentParser:
        """Add a command whose help text is the docstring of its action."""
        text = inspect.getdoc(action) or ""
        brief = text.partition("\n")[0].rstrip(".")
        parser: argparse.ArgumentParser = self._subparsers.add_parser(
            name,
            help=brief[:1].lower() + brief[1:],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(action=action)
        return parser


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a study; optional if `STUDY_HOME` has only one."""
    parser.add_argument(
        "study", nargs="?", help="study name or study file; optional if there is only one study"
    )


def add_json(parser: argparse.ArgumentParser, help: str = "print JSON") -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help=help)


def count(text: str) -> int:
    """A positive integer."""
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")


def positive(text: str) -> float:
    """A finite positive number."""
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")


def share(text: str) -> float:
    """A share such as 0.95, above 0."""
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            if float(text) > 2:
                raise argparse.ArgumentTypeError(
                    f"{text!r} is not a share such as 0.95; for {text} per cent write "
                    f"{float(text) / 100:g}"
                )
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 0.95")


def size(text: str) -> float:
    """A size such as 8GB or 500MB, in bytes."""
    try:
        return size_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
