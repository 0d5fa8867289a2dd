"""Which file a process runs, and which folder is a study's."""

import os
import subprocess
import sys

import pytest

from tests.needs import ROOT

ASK = (
    "from study.planning.study_file import folder_of, started; "
    "print(started(), folder_of(started()))"
)


@pytest.fixture
def answer(tmp_path):
    """What a process in `tmp_path` says, standard input being `typed`."""

    def answer(*words: str, typed: str = "") -> list[str]:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            input=typed,
            capture_output=True,
            text=True,
            check=True,
        )
        (line,) = [line for line in done.stdout.splitlines() if str(tmp_path) in line]
        return line.split()[-2:]

    return answer


def test_a_script_is_its_own_file(answer, tmp_path):
    (tmp_path / "below").mkdir()
    file = tmp_path / "below" / "asks.py"
    file.write_text(f"import os; os.chdir('/'); {ASK}")
    assert answer("below/asks.py") == [str(file), str(file.parent)]
    assert answer("-m", "below.asks") == [str(file), str(file.parent)]


@pytest.mark.parametrize("words", [["-c", ASK], ["-"], ["-i"], ["-m", "IPython", "-c", ASK]])
def test_without_a_file_the_working_directory_counts(answer, tmp_path, words):
    assert answer(*words, typed=f"{ASK}\n") == ["None", str(tmp_path)]


def test_a_program_that_runs_others_code_is_no_study_file(answer, tmp_path):
    (tmp_path / "test_asks.py").write_text(
        f"def test(capsys):\n    with capsys.disabled():\n        print(); {ASK}; print()"
    )
    words = ("-m", "pytest", "-qq", "--no-summary", "-p", "no:cacheprovider", "test_asks.py")
    assert ["None", str(tmp_path)] == answer(*words)
