"""Oracle cases from the shared files, as tests that must compare every expected value.

`@oracle("spread_tests")` turns a function of a case's inputs and a `Check` into one test per case
of that statistic, in any file. The test fails if an expected value was not compared.
"""

import json
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests import needs

Case = dict[str, Any]
EXACT = 1e-9  # tolerance of values in a Monte Carlo case that are free of noise


@cache
def cases() -> tuple[Case, ...]:
    """All cases of all files.

    Raises:
        LookupError: If the folder exists but has no oracle files.
    """
    folder = needs.SHARED / "oracles"
    files = sorted(folder.glob("*.json"))
    if folder.exists() and not files:
        raise LookupError(f"{folder} holds no oracle files")
    return tuple(
        case | {"file": file.stem}
        for file in files
        for case in json.loads(file.read_text())["cases"]
    )


def of(statistic: str) -> list[Case]:
    """The cases of a statistic; empty if the folder does not exist.

    Raises:
        LookupError: If no file has such a statistic.
    """
    found = [case for case in cases() if case["statistic"] == statistic]
    if cases() and not found:
        raise LookupError(f"no oracle file has the statistic {statistic!r}")
    return found


def inputs_of(case: Case) -> dict[str, Any]:
    """The inputs of a case, by name."""
    return {name: numbers(value) for name, value in case["inputs"].items()}


def numbers(value: Any) -> Any:
    """Decode numbers; oracle files write NaN and infinity as strings."""
    if isinstance(value, list):
        return [numbers(element) for element in value]
    if isinstance(value, dict):
        return {name: numbers(each) for name, each in value.items()}
    return float(value) if value in ("nan", "inf", "-inf") else value


class Check:
    """Compares values with those expected by a case, and tracks which are left."""

    def __init__(self, case: Case) -> None:
        self._case = case
        wanted = {name: value for name, value in case["expected"].items() if value != "skip"}
        self.wanted = {name: numbers(value) for name, value in wanted.items()}
        self.left = set(self.wanted)

    def __call__(self, **found: Any) -> None:
        """Compare with the case's own tolerance; names that it does not expect are ignored."""
        self._compare(found, self._case["rtol"], self._case["atol"])

    def within(self, tolerance: float, /, **found: Any) -> None:
        """Compare with an absolute tolerance: tighter than the case's, or for own draws."""
        self._compare(found, 0.0, tolerance)

    def want(self, name: str) -> Any:
        """The expected value, for a test with a comparison of its own."""
        self.left.discard(name)
        return self.wanted[name]

    def _compare(self, found: Mapping[str, Any], rtol: float, atol: float) -> None:
        for name in found.keys() & self.wanted.keys():
            _same(found[name], self.want(name), rtol, atol, f"{self._case['id']}: {name}")


def _same(found: Any, wanted: Any, rtol: float, atol: float, what: str) -> None:
    if isinstance(wanted, dict):
        np.testing.assert_equal(sorted(found), sorted(wanted), err_msg=what)
        for name, value in wanted.items():
            _same(found[name], value, rtol, atol, f"{what} {name}")
    elif np.asarray(wanted).dtype.kind == "U":
        np.testing.assert_equal(found, wanted, err_msg=what)
    else:
        np.testing.assert_equal(np.shape(found), np.shape(wanted), err_msg=what)
        np.testing.assert_allclose(found, wanted, rtol, atol, err_msg=what)


def compare(case: Case, function: Callable[..., None], *, only: Collection[str] = ()) -> None:
    """Run a comparison on a case.

    Args:
        case: From an oracle file.
        function: Takes the inputs and a `Check`.
        only: The expected values to compare; all if empty.

    Raises:
        AssertionError: If a value differs, or was not compared.
    """
    check = Check(case)
    function(inputs_of(case), check)
    if left := sorted(check.left & set(only) if only else check.left):
        raise AssertionError(f"{case['file']}, {case['id']}: {', '.join(left)} not compared")


def oracle(
    statistic: str, *, only: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[[Case | None], None]]:
    """Decorator: turn a comparison into a test of all cases of a statistic.

    Args:
        statistic: Its name in the files.
        only: As for `compare`; for a statistic that another test compares completely.

    Raises:
        LookupError: If no case has the statistic, or none expects a name in `only`.
    """
    found = of(statistic)
    known = {name for case in found for name in case["expected"]}
    if found and (unknown := sorted(set(only) - known)):
        raise LookupError(f"no case of {statistic} expects {', '.join(unknown)}")

    def decorate(function: Callable[..., None]) -> Callable[[Case | None], None]:
        @pytest.mark.parametrize("case", found or [None], ids=lambda case: case and case["id"])
        def test(case: Case | None) -> None:
            if case is None:
                needs.shared("oracles")
            else:
                compare(case, function, only=only)

        test.__doc__ = function.__doc__
        return test

    return decorate
