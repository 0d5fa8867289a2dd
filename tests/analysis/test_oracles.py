"""The oracle helper: every expected value is compared, and a missing folder is reported."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from tests import needs
from tests.analysis import oracles
from tests.analysis.oracles import compare, oracle

CASE = {
    "file": "invented",
    "id": "one",
    "statistic": "mean",
    "inputs": {"x": [1.0, 2.0, "nan"]},
    "expected": {"mean": 1.5, "sd": 0.5, "names": ["a", "b"], "by": {"m": 3.0}, "none": "skip"},
    "rtol": 0,
    "atol": 1e-9,
}


def whole(inputs, check):
    check(mean=np.nanmean(inputs["x"]), sd=np.nanstd(inputs["x"]))
    check(names=["a", "b"], by={"m": 3.0})


def changed(**expected):
    return CASE | {"expected": CASE["expected"] | expected}


def compared_by_tests():
    """Statistics that some test in this folder compares completely."""
    return {
        node.args[0].value
        for file in Path(__file__).parent.rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "oracle"
        and not any(keyword.arg == "only" for keyword in node.keywords)
    }


def test_every_statistic_of_the_files_is_compared():
    needs.shared("oracles")
    known = {case["statistic"] for case in oracles.cases()}
    assert known - compared_by_tests() == set()


def test_complete_comparison_passes():
    compare(CASE, whole)


def test_uncompared_expected_name_fails():
    with pytest.raises(AssertionError, match="invented, one: invented not compared"):
        compare(changed(invented=1.0), whole)


def test_comparison_of_nothing_fails():
    with pytest.raises(AssertionError, match="by, mean, names, sd not compared"):
        compare(CASE, lambda inputs, check: None)
    with pytest.raises(AssertionError, match="one: sd not compared"):
        compare(CASE, lambda inputs, check: None, only=["sd"])


@pytest.mark.parametrize(
    "expected", [{"mean": 1.5 + 1e-8}, {"names": ["a", "c"]}, {"by": {"m": 3.1}}, {"by": {"n": 3}}]
)
def test_different_value_fails(expected):
    with pytest.raises(AssertionError, match="one: "):
        compare(changed(**expected), whole)


def test_unknown_statistic_or_name_raises(monkeypatch):
    monkeypatch.setattr(oracles, "cases", lambda: (CASE,))
    with pytest.raises(LookupError, match="no oracle file has the statistic 'invented'"):
        oracle("invented")
    with pytest.raises(LookupError, match="no case of mean expects invented"):
        oracle("mean", only=["invented"])


@pytest.fixture
def project(pytester, monkeypatch):
    """A pytest project with one oracle test and no shared folder."""
    monkeypatch.delenv("CI", raising=False)
    root = needs.ROOT
    pytester.makeconftest(
        f"""
import sys
sys.path.insert(0, {str(root)!r})
from tests import needs
needs.SHARED = needs.Path({str(pytester.path / "shared")!r})
from tests.needs import pytest_terminal_summary
"""
    )
    pytester.makepyfile(
        """
from tests.analysis.oracles import oracle

@oracle("mean")
def test_mean(inputs, check):
    check(mean=sum(inputs["x"]) / len(inputs["x"]))

def test_rest():
    pass
"""
    )
    return pytester


def test_missing_folder_skips_with_a_notice(project):
    done = project.runpytest_subprocess("-p", "no:cacheprovider")
    done.assert_outcomes(passed=1, skipped=1)
    line = "*1 test skipped because something is missing on this machine: ../shared (1)*"
    done.stdout.fnmatch_lines([line])


def test_missing_folder_fails_in_ci(project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    done = project.runpytest_subprocess("-p", "no:cacheprovider")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*lacking: ../shared, and CI is set*"])


@pytest.mark.parametrize(("sd", "outcome"), [(None, "passed"), (1.0, "failed")])
def test_new_expected_name_fails(project, sd, outcome):
    folder = project.path / "shared" / "oracles"
    folder.mkdir(parents=True)
    case = CASE | {"inputs": {"x": [1, 2]}, "expected": {"mean": 1.5} | ({"sd": sd} if sd else {})}
    (folder / "one.json").write_text(json.dumps({"cases": [case]}))
    done = project.runpytest_subprocess("-p", "no:cacheprovider")
    done.assert_outcomes(**{"passed": 1} | ({"passed": 2} if sd is None else {"failed": 1}))
    if sd:
        done.stdout.fnmatch_lines(["*one, one: sd not compared*"])
