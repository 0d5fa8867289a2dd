"""The wheel holds all that is needed, and the base install reports on scores in a file."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from email.parser import Parser
from importlib.metadata import distribution, requires
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["study", "analysis", "search_spaces"]
SCORES = ROOT / "analysis" / "examples" / "model_recycling.csv"
NAMED = ["--technique", "=Standard"]
INSTALL = "pip install 'finetuning-stability[study]'"


def run(*words: object, cwd: Path, check: bool = False, **settings: str):
    """Run a process that neither finds this checkout nor a store of ours."""
    ours = ("PYTHONPATH", "MLFLOW_TRACKING_URI", "STUDY_HOME")
    env = {name: value for name, value in os.environ.items() if name not in ours} | settings
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, cwd=cwd, check=check, env=env
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the sdist of a copy of the tree in which a study has run."""
    folder = tmp_path_factory.mktemp("build")
    tree = folder / "tree"
    for name in [*PACKAGES, "tests"]:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ["pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, tree)
    (tree / "study-store").mkdir()
    (tree / "study-store" / "mlflow.db").touch()
    build = "from setuptools import build_meta; build_meta.build_{}('..')"
    run(sys.executable, "-c", build.format("sdist"), cwd=tree, check=True)
    (packed,) = folder.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / packed.name.removesuffix(".tar.gz")
    run(sys.executable, "-c", build.format("wheel"), cwd=unpacked, check=True)
    (built,) = folder.glob("*.whl")
    return built


def closure(wheel: Path) -> set[str]:
    """The distributions that a base install brings."""
    with ZipFile(wheel) as archive:
        (metadata,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        wanted = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist", [])
    found: set[str] = set()
    while wanted:
        requirement = Requirement(wanted.pop())
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        wanted += requires(name) or []
    return found


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory) -> Path:
    """The programs of an environment that has what a base install brings, linked from this one."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in closure(wheel):
        brought = distribution(name)
        for top in {file.parts[0] for file in brought.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(brought.locate_file(top))).resolve())
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder, check=True)
    return folder / "bin"


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    tree = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= tree
    with ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == tree


@pytest.mark.slow
def test_a_base_install_reports_on_scores_in_a_file(base, tmp_path):
    done = run(base / "python", "-m", "analysis", SCORES, *NAMED, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "report: model_recycling-report/report.html"
    assert (tmp_path / "model_recycling-report" / "report.html").stat().st_size > 10_000
    done = run(base / "study", "report", SCORES, *NAMED, "--out", "again", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "again" / "report.html").exists()
    done = run(
        *(base / "study", "table", SCORES, *NAMED, "--rows", "model", "--to", "csv"), cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "bert" in done.stdout


@pytest.mark.slow
def test_all_of_the_analysis_loads_in_a_base_install(base, tmp_path):
    """Every module, and the part of Optuna that needs scikit-learn."""
    code = """
import importlib, pkgutil, analysis, search_spaces
for package in (analysis, search_spaces):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from optuna.importance import FanovaImportanceEvaluator
FanovaImportanceEvaluator()
"""
    done = run(base / "python", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("words", ["run my_study.py", "status", "list techniques", "ui", ""])
def test_in_a_base_install_other_commands_name_the_extra(base, tmp_path, words):
    done = run(base / "study", *words.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("studies need torch, ")
    assert INSTALL in line


@pytest.mark.slow
def test_help_in_a_base_install_lists_its_commands_and_names_the_extra(base, tmp_path):
    done = run(base / "study", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^  (\w+) FILE ", done.stdout, re.MULTILINE) == ["report", "table"]
    assert INSTALL in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("names", ["Study", "Recipe, main", "*"])
def test_in_a_base_install_imports_name_the_extra(base, tmp_path, names):
    done = run(base / "python", "-c", f"from study import {names}", cwd=tmp_path)
    assert done.stderr.splitlines()[-1].startswith("ImportError: studies need torch, ")
    assert INSTALL in done.stderr


@pytest.mark.slow
def test_in_a_base_install_a_store_on_a_server_names_the_extra(base, tmp_path):
    server = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    done = run(base / "study", "report", "a-study", cwd=tmp_path, **server)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.endswith("pip install 'finetuning-stability[mlflow]'")


def test_studies_name_what_is_missing_and_only_that():
    hide = "import sys; sys.modules.update(dict.fromkeys(('ray', 'peft')));"
    show = "import study; print(study.NEEDED); print(study.lacking('ray', 'torch'))"
    done = run(sys.executable, "-c", f"{hide} {show}", cwd=ROOT, check=True)
    assert done.stdout.splitlines() == [
        f"studies need peft: {INSTALL}",
        f"studies need ray: {INSTALL}",
    ]


def test_all_has_every_extra_for_users():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert everything.name == project["name"]
    # `study` has the whole of MLflow.
    assert everything.extras == set(extras) - {"all", "dev", "mlflow"}
