"""In `analysis`, each question's numbers and the table that prints them share a module."""

import pytest

import analysis

FRAMES = {  # tables that are not named after the function whose frame they print
    "groups_table": "by_group",
    "strategy_table": "best_strategy",
    "suite_table": "suite_score",
    "technique_table": "by_technique",
}
TABLES = sorted(name for name in analysis.__all__ if name.endswith("_table"))


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
