"""In `analysis`, each question's numbers and the table that prints them share a module."""

import inspect

import pytest

import analysis

FRAMES = {  # tables that are not named after the function whose frame they print
    "groups_table": "by_group",
    "strategy_table": "best_strategy",
    "suite_table": "suite_score",
    "technique_table": "by_technique",
}
TABLES = sorted(name for name in analysis.__all__ if name.endswith("_table"))
QUESTIONS = ("analysis.per_task.", "analysis.across_tasks.", "analysis.per_example.")
EXPORTED = sorted(
    name
    for name in analysis.__all__
    if inspect.isfunction(getattr(analysis, name))
    if getattr(analysis, name).__module__.startswith(QUESTIONS)
)


def frame_of(table):
    return FRAMES.get(table, table.removesuffix("_table"))


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_defined_beside_the_frame_it_prints(table):
    frame = frame_of(table)
    assert frame in analysis.__all__
    assert getattr(analysis, table).__module__ == getattr(analysis, frame).__module__


def test_exceptions_are_needed():
    for table, frame in FRAMES.items():
        assert table in TABLES
        assert frame != table.removesuffix("_table")
        assert table.removesuffix("_table") not in analysis.__all__


@pytest.mark.parametrize("name", EXPORTED)
def test_every_exported_question_has_an_example(name):
    assert ">>> " in (inspect.getdoc(getattr(analysis, name)) or "")
