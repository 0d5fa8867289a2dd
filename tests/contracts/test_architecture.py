"""The import table of docs/design.md, enforced."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from study.techniques import TECHNIQUES
from tests.structure import (
    PROJECTS,
    ROOT,
    between,
    imports,
    levels,
    module_path,
    package_of,
    sources,
)

DESIGN = ROOT / "docs" / "design.md"


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
    assert loaded_by("import study; study.Study", {"ray", "mlflow", "analysis"}) == set()


def test_help_loads_nothing_slow():
    heavy = {"torch", "transformers", "sklearn", "scipy", "pandas", "numpy", "pydantic", "mlflow"}
    code = "from study.cli.parser import parser; parser('--help').format_help()"
    assert loaded_by(code, heavy) == set()


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


def under(found: set[str], roots: set[str]) -> set[str]:
    return {name for name in found if any(name == r or name.startswith(r + ".") for r in roots)}


def table() -> dict[str, tuple[set[str], set[str]]]:
    """What each package imports and never imports, as `docs/design.md` has it."""
    rows = re.findall(r"^\| `(.+?)/?` \| .+? \| (.*?) \| (.*?) \|$", DESIGN.read_text(), re.M)
    assert rows
    return {
        row[0]: tuple(set(re.findall(r"[\w/]+", cell)) - {"none"} for cell in row[1:])
        for row in rows
    }


def test_every_package_is_in_the_table():
    packages = {package_of(path) for project in PROJECTS for path in sources(project)}
    assert table().keys() == packages


@pytest.mark.parametrize("package", sorted(table()))
def test_packages_import_what_the_table_says(package):
    project = package.partition("/")[0]
    stated = {name if name in PROJECTS else f"{project}/{name}" for name in table()[package][0]}
    found = {there for here, there in between(project) if here == package}
    across = {there if there.startswith(project) else there.partition("/")[0] for there in found}
    assert across == stated


def test_packages_import_from_below_them_in_the_table():
    above: set[str] = set()
    for package, (imported, _) in table().items():
        above.add(package)
        full = {
            name if name in PROJECTS else f"{package.partition('/')[0]}/{name}" for name in imported
        }
        assert full & above == set(), package


@pytest.mark.parametrize("package", sorted(table()))
def test_packages_never_import_what_the_table_forbids(package):
    own = [path for path in sources(package) if package_of(path) == package]
    assert own
    for path in own:
        assert under(imports(path), table()[package][1]) == set(), path


def test_what_the_table_forbids_exists():
    """A misspelt or removed module would be forbidden in vain."""
    forbidden = set().union(*(never for _, never in table().values()))
    assert {name for name in forbidden if find_spec(name) is None} == set()


@pytest.mark.parametrize("project", PROJECTS)
def test_packages_import_no_package_above_them(project):
    assert levels(project)  # a circle raises


def test_no_module_imports_a_private_name_of_another():
    for path in (path for project in PROJECTS for path in sources(project)):
        private = {name for name in imports(path) if name.rpartition(".")[2].startswith("_")}
        assert under(private, set(PROJECTS)) == set(), path


def test_training_knows_no_technique_by_name():
    names = {f"study.techniques.{name}" for name in [*TECHNIQUES, "TECHNIQUES"]}
    modules = {technique.__module__ for technique in TECHNIQUES.values()}
    for path in sources("study/training"):
        assert under(imports(path), names | modules) == set(), path


def test_no_technique_imports_another():
    modules = {technique.__module__ for technique in TECHNIQUES.values()}
    assert len(modules) == len(TECHNIQUES)
    for module in modules:
        path = module_path(module)
        assert path is not None
        assert under(imports(path), modules - {module}) == set(), module


def test_no_design_imports_another():
    for path in sources("study/designs"):
        assert under(imports(path), {"study.designs"}) == set(), path
