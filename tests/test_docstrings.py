"""Each public name has an example in its docstring, and the examples run."""

import doctest
from importlib import import_module

import pytest

from scripts import make_api

RUNS_A_STUDY = {"main", "run"}  # the end-to-end tests run them
PUBLIC = {
    f"{package}.{name}": getattr(import_module(package), name)
    for package in make_api.PACKAGES
    for name in import_module(package).__all__
    if callable(getattr(import_module(package), name)) and name not in RUNS_A_STUDY
}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_example_runs(name):
    found = doctest.DocTestFinder(recurse=False).find(PUBLIC[name], name)
    examples = [test for test in found if test.examples]
    assert examples, f"{name} has no example in its docstring"
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    said: list[str] = []
    for test in examples:
        runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)


def test_the_page_of_public_names_is_up_to_date():
    assert make_api.PAGE.read_text() == make_api.page(), "run: python scripts/make_api.py"
