"""Numbers that caveats give."""

import pytest

from analysis.report.caveats import _standard_error


@pytest.mark.parametrize(
    ("metric", "rows", "text"),
    [
        ("accuracy", 100, ", standard error up to 5.0 points"),  # sqrt(0.25 / 100)
        ("spearman", 75, ", standard error about 12 points near 0"),  # 1 / sqrt(74)
        ("pearson", 17, ", standard error about 25 points near 0"),
        ("macro_f1", 100, ""),
    ],
)
def test_small_sets_say_how_far_off_they_leave_a_score(metric, rows, text):
    assert _standard_error(metric, rows) == text
