"""What a test needs and a machine may lack: it is skipped, and fails in CI, where all is there."""

import importlib
import os
import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
LACKING = "lacking: "  # how the reasons of these skips begin


def shared(*parts: str) -> Path:
    """A path in `../shared`, the folder of oracles and real data beside a checkout."""
    path, name = SHARED, "../shared"
    for part in ("", *parts):  # what is said to be lacking is the outermost that is
        path, name = path / part, f"{name}/{part}".rstrip("/")
        if not path.exists():
            lacking(name)
    return path


def package(name: str) -> ModuleType:
    """A package that comes with an extra which `make test` installs."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return lacking(f"package {name}")


def lacking(what: str) -> NoReturn:
    """Skip the running test; fail it where the environment variable CI is set."""
    __tracebackhide__ = True
    if os.environ.get("CI"):
        pytest.fail(f"{LACKING}{what}, and CI is set: nothing may be skipped for that there")
    pytest.skip(f"{LACKING}{what}")


def files(*patterns: str) -> list[Path]:
    """Files of the repository, wherever the tests are started.

    Args:
        patterns: Globs from the root, such as `study/**/*.py`.

    Raises:
        LookupError: If a pattern matches no file: a test over none would pass.
    """
    found: set[Path] = set()
    for pattern in patterns:
        matches = {path for path in ROOT.glob(pattern) if path.is_file()}
        if not matches:
            raise LookupError(f"{pattern} matches no file of the repository")
        found |= matches
    return sorted(found)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report how many tests were skipped because something is missing here, and what is missing."""
    reasons = (str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    lacking = Counter(re.findall(rf"{LACKING}([^'\"]+)", "\n".join(reasons)))
    if total := lacking.total():
        each = ", ".join(f"{what} ({n})" for what, n in sorted(lacking.items()))
        tests = "1 test" if total == 1 else f"{total} tests"
        line = f"{tests} skipped because something is missing on this machine: {each}"
        terminalreporter.write_sep("=", line, yellow=True, bold=True)
