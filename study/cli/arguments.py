"""Arguments that commands share: how they are declared, and the types of their values."""

import argparse
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Action = Callable[[argparse.Namespace], int]


class Commands:
    """The commands of `study`, to which each theme adds its own.

    Attributes:
        asked: The command on this command line, whose arguments may take long to import.
    """

    def __init__(self, subparsers: Any, asked: str) -> None:
        self.asked = asked
        self._subparsers = subparsers

    def add(self, name: str, action: Action) -> argparse.ArgumentParser:
        """Add a command; the docstring of its action is its help."""
        text = (action.__doc__ or "").strip()
        brief = text.splitlines()[0].rstrip(".")
        parser: argparse.ArgumentParser = self._subparsers.add_parser(
            name,
            help=brief[:1].lower() + brief[1:],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(action=action)
        return parser


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a study, which may be left out where there is only one."""
    parser.add_argument(
        "study", nargs="?", help="a study's name or its file; not needed where there is one"
    )


def add_json(parser: argparse.ArgumentParser, what: str = "as JSON") -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help=what)


def count(text: str) -> int:
    """A whole number above 0."""
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")


def positive(text: str) -> float:
    """A finite number above 0."""
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")


def size(text: str) -> float:
    """A size such as 8GB or 500MB, in bytes."""
    units = {"MB": 1e6, "GB": 1e9, "MiB": 2.0**20, "GiB": 2.0**30}
    number = text.rstrip("MGiB")
    try:
        return float(number) * units[text[len(number) :]]
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 8GB or 500MB") from None
