"""The import table of the house, enforced."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from study.techniques import TECHNIQUES

ROOT = Path(__file__).resolve().parents[2]


def loaded_by(code: str, names: set[str]) -> set[str]:
    script = f"{code}; import sys; print(*({names!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_analysis_needs_no_training_stack():
    heavy = {"torch", "ray", "transformers", "study", "mlflow"}
    assert loaded_by("import analysis, analysis.report.page", heavy) == set()


def test_study_loads_neither_ray_nor_mlflow():
    assert loaded_by("import study", {"ray", "mlflow", "analysis"}) == set()


def test_search_spaces_need_no_training_stack():
    assert loaded_by("import search_spaces", {"torch", "study", "ray", "mlflow"}) == set()


def test_the_training_core_runs_where_ray_and_mlflow_are_absent(tmp_path):
    code = f"""
import sys
sys.modules.update(dict.fromkeys(("ray", "mlflow", "analysis", "optuna", "sqlalchemy")))
from pathlib import Path
import torch
from study import FreezeLower, LayerwiseDecay, Recipe, Study
from study.training.prepare import prepare
from study.models.loading import Loaded
from study.testing import tiny_model, tiny_task
from study.training.train import train
here = Path({str(tmp_path)!r})
task, model = tiny_task(here / "task"), tiny_model(here / "model")
study = Study(name="s", tasks=[task], models=[model], seeds=[0], recipe=Recipe(epochs=1),
              techniques=[FreezeLower(layers=1) + LayerwiseDecay(rate=0.5)])
loaded = Loaded(model, task.load().kind)
data = prepare(task.load(), loaded.processor, 32)
outcome, _ = train(study.runs()[0].setting(data.kind), data.splits, loaded, torch.device("cpu"))
assert outcome.outcome == "completed"
print("trained")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["trained"]


def imports(path: Path) -> set[str]:
    """Modules imported anywhere in a file, `from a import b` as both `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def under(found: set[str], roots: set[str]) -> set[str]:
    return {name for name in found if any(name == r or name.startswith(r + ".") for r in roots)}


CORE = [
    "spec",
    "seeding",
    "batches",
    "rows",
    "metrics",
    "data",
    "models",
    "hub",
    "catalogue",
    "convert",
    "memory",
    "checkpoint",
    "disk",
    "faults",
    "watchdog",
    "budget",
    "notice",
    "train",
    "fitting",
    "keeping",
    "search",
    "study",
]


def below_the_command_line() -> list[str]:
    joining = ("study/cli/parser.py", "study/commands/")
    return sorted(f for f in map(str, Path("study").rglob("*.py")) if not f.startswith(joining))


@pytest.mark.parametrize(
    ("files", "never"),
    [
        (["study/core/spec.py"], {"torch", "study"}),
        (
            [f"study/{name}.py" for name in CORE]
            + [str(p) for room in ("kinds", "tasks") for p in Path("study", room).glob("*.py")],
            {"ray", "mlflow", "optuna", "search_spaces"},
        ),
        (
            ["study/training/train.py", "study/training/fit.py"],
            {"study.techniques.standard", "study.techniques.TECHNIQUES"},
        ),
        (below_the_command_line(), {"analysis"}),
        (["study/planning/stages.py"], {"ray", "mlflow"}),
        (["study/execution/cluster.py", "study/models/transport.py"], {"mlflow"}),
        (sorted(map(str, Path("analysis").rglob("*.py"))), {"torch", "ray", "study"}),
        (sorted(map(str, Path("analysis/statistics").glob("*.py"))), {"pandas", "matplotlib"}),
        (sorted(map(str, Path("search_spaces").glob("*.py"))), {"torch", "study"}),
        (sorted(map(str, Path("study/designs").glob("*.py"))), {"analysis", "study.designs"}),
    ],
)
def test_rooms_import_only_what_they_may(files, never):
    for file in files:
        assert under(imports(ROOT / file), never) == set(), file


def test_statistics_know_nothing_of_frames():
    for file in sorted((ROOT / "analysis" / "statistics").glob("*.py")):
        own = {name for name in imports(file) if under({name}, {"analysis"})}
        assert own == under(own, {"analysis.statistics"}), file


def test_no_technique_imports_another():
    folder = ROOT / "study" / "techniques"
    names = {technique.__module__.rpartition(".")[2] for technique in TECHNIQUES.values()}
    for name in names:
        others = {f"study.techniques.{other}" for other in names - {name}}
        assert under(imports(folder / f"{name}.py"), others) == set(), name
