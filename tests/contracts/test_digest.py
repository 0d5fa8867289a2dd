"""The digest of the project's code: a checkpoint that other code wrote is refused."""

import shutil
import subprocess
import sys

from study.core.provenance import code_of
from study.execution import worker
from study.models.loading import Loaded
from study.testing import tiny_model
from study.training.train import train
from tests import needs

CHANGED_ONE_BY_ONE = f"""
import sys
from pathlib import Path
from {code_of.__module__} import code_of

assert Path(sys.modules[code_of.__module__].__file__).is_relative_to(Path.cwd())
before = code_of()
for file in sorted(Path("study").rglob("*.py")):
    content = file.read_bytes()
    file.write_bytes(content + b"#")
    code_of.cache_clear()
    if code_of() != before:
        print(file)
    file.write_bytes(content)
code_of.cache_clear()
assert code_of() == before
"""
LOADED = f"""
import sys
from pathlib import Path
import {worker.__name__}
from study import Recipe, Standard, Study
from {Loaded.__module__} import Loaded
from {tiny_model.__module__} import tiny_model, tiny_task
from {train.__module__} import train
from tests.conftest import CPU, prepare

task, model = tiny_task(Path("task")), tiny_model(Path("model"))
study = Study(name="s", tasks=[task], models=[model], seeds=[0], recipe=Recipe(epochs=1),
              techniques=[Standard()])
loaded = Loaded(model, task.load().kind)
data = prepare(task.load(), loaded.processor, 32)
outcome, _ = train(study.runs()[0].setting(data.kind), data.splits, loaded, CPU)
assert outcome.outcome == "completed"
print(*(name for name in sys.modules if name.partition(".")[0] in {{"study", "search_spaces",
        "analysis"}}), sep="\\n")
"""


def lines_of(code, folder, path):
    """What a fresh process prints that runs this in a folder, with another first on its path."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, cwd=folder, env={"PYTHONPATH": str(path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_every_file_of_the_package_counts_but_study_files(tmp_path):
    """One byte is added to each file of a copy in turn."""
    copy = shutil.copytree(needs.ROOT / "study", tmp_path / "study")
    files = {str(path.relative_to(tmp_path)) for path in copy.rglob("*.py")}
    designs = {str(path.relative_to(tmp_path)) for path in copy.glob("designs/*.py")}
    assert len(designs) > 1
    assert lines_of(CHANGED_ONE_BY_ONE, tmp_path, tmp_path) == files - designs


def test_a_run_loads_nothing_that_the_digest_leaves_out(tmp_path):
    """So neither search spaces nor study files, nor the analysis, can change a run's result."""
    loaded = lines_of(LOADED, tmp_path, needs.ROOT)
    assert {train.__module__, worker.__name__} <= loaded
    left_out = ("search_spaces", "analysis", "study.designs")
    assert [name for name in loaded if name.startswith(left_out)] == []
