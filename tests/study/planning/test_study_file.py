"""Which file a process runs, and which folder is a study's."""

import os
import subprocess
import sys

import pytest

from study.planning.study_file import check_names, load_study
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


@pytest.mark.parametrize("name", ["study", "analysis", "ray", "mlflow", "numpy", "json"])
def test_a_study_file_that_hides_a_package_is_refused(tmp_path, name):
    """Workers would import it instead, and end with an ImportError."""
    file = tmp_path / f"{name}.py"
    file.write_text("from study import Recipe, Standard, Study")
    with pytest.raises(
        LookupError, match=rf"packages that studies import: {name}\. .* rename them"
    ):
        load_study(file)
    package = tmp_path / "below" / name
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    with pytest.raises(LookupError, match=name):
        check_names(tmp_path / "below")


def test_other_modules_may_lie_beside_a_study_file(tmp_path):
    for name in ("my_metrics", "utils", "test", "evaluate"):
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "ray").mkdir()  # no package, so Python prefers the installed one
    check_names(tmp_path)
    check_names(ROOT)  # the project itself
    check_names(ROOT / "study" / "designs")
