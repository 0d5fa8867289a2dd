"""Output to terminals and files that are not UTF-8."""

import codecs
import io
import sys

_PLAIN = str.maketrans(
    {"─": "-", "–": "-", "−": "-", "±": "+-", "†": "+", "→": "->", "…": "...", "\u00a0": " "}
)


def print_anywhere() -> None:
    """Let standard output replace signs that its encoding lacks, instead of raising.

    A finished study would otherwise end with a traceback when its tables are printed.
    """
    codecs.register_error("plain", _plain)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in (
        "strict",
        "surrogateescape",
    ):
        sys.stdout.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Plain signs in place of those that cannot be encoded; escapes of all others."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    escaped = signs.translate(_PLAIN).encode("ascii", "backslashreplace")
    return escaped.decode(), error.end
