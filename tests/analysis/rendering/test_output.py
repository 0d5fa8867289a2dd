"""Standard output that is not UTF-8."""

import os
import subprocess
import sys

import pytest

PRINT = """
{start}
from analysis import cells, cells_table, example_runs, to_text
print(to_text(cells_table(cells(example_runs()))))
print("na\\u00efve \\u7528")
"""
STARTS = {
    "analysis": "from analysis.rendering.output import print_anywhere; print_anywhere()",
    "study": "from study.cli.messages import print_anywhere; print_anywhere()",
}
WORDS = {"ascii": r"na\xefve \u7528", "latin-1": "na\u00efve \\u7528"}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("encoding", WORDS)
def test_tables_are_printed_in_any_encoding(start, encoding):
    """A finished study used to end with a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT.format(start=STARTS[start])],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    printed = done.stdout.decode(encoding)
    assert "Test mean" in printed
    assert "----  -" in printed
    assert printed.splitlines()[-1] == WORDS[encoding]
    assert ("\u00b1" in printed) == (encoding == "latin-1")
