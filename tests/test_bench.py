"""Every benchmark runs alone, says what it measures, and ends with the line that is read of it."""

import ast
import re
import subprocess
import sys

import pytest

from tests.needs import ROOT, files

BENCH = ROOT / "bench"
NAMES = sorted(path.stem for path in files("bench/*.py") if path.stem != "common")


@pytest.mark.parametrize("name", NAMES)
def test_a_bench_says_what_it_measures_and_does_nothing_on_import(name):
    tree = ast.parse((BENCH / f"{name}.py").read_text())
    assert ast.get_docstring(tree)
    assert ast.unparse(tree.body[-1]) == "if __name__ == '__main__':\n    sys.exit(main())"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_quick_bench_ends_with_its_line_and_its_exit_code(name):
    done = subprocess.run(
        [sys.executable, str(BENCH / f"{name}.py"), "--quick"], capture_output=True, text=True
    )
    line = re.fullmatch(rf"{name}: .+ \(bar .+\) (met|short)", done.stdout.splitlines()[-1])
    assert line, done.stdout + done.stderr
    assert done.returncode == {"met": 0, "short": 1}[line[1]]
