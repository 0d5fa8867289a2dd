"""Loading of study files, and the study that a command line argument names."""

import importlib.util
import pkgutil
import sys
import sysconfig
import traceback
from functools import cache
from importlib import resources
from pathlib import Path
from types import ModuleType

from study.core.paths import Home
from study.core.spec import Invalid, SpecError, nearest
from study.planning.study import Study

OWN = {"analysis", "search_spaces", "study"}
# What is imported only while a study runs.
LATER = {
    "datasets",
    "huggingface_hub",
    "joblib",
    "matplotlib",
    "mlflow",
    "narwhals",
    "optuna",
    "pandas",
    "peft",
    "ray",
    "rich",
    "scipy",
    "seqeval",
    "sklearn",
    "sqlalchemy",
    "threadpoolctl",
    "tokenizers",
    "transformers",
}


def find_study_file(argument: str) -> Path:
    """The study file that a command line argument names, or the bundled design of that name.

    Raises:
        LookupError: If there is neither.
    """
    path, folder = Path(argument), Path(str(resources.files("study.designs")))
    designs = {file.stem: file for file in folder.glob("[!_]*.py")}
    if path.is_file():
        return path
    if argument not in designs:
        own = [str(file) for file in path.parent.glob("*.py")]
        near = f". {near}" if (near := nearest(argument, own)) else ""
        bundled = ", ".join(sorted(designs))
        raise LookupError(f"no study file {argument!r}{near}; bundled designs are {bundled}")
    return designs[argument]


def load_study(path: Path) -> Study | Invalid:
    """The study that a file defines, possibly with mistakes.

    Raises:
        LookupError: If there is no such file, it raises an exception, or it defines no study.
        SpecError: If it uses a spec with mistakes.
    """
    if not path.is_file():
        raise LookupError(f"no study file {str(path)!r}")
    check_names(path.resolve().parent)
    sys.path.insert(0, str(path.resolve().parent))  # the file may import modules in its folder
    name = f"study_file_{path.stem}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LookupError(f"{str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SpecError:
        raise
    except Exception as error:  # a user's file can raise anything; report the line in it
        frames = traceback.extract_tb(error.__traceback__)
        own_frames = [frame for frame in frames if frame.filename == spec.origin]
        line = own_frames[-1].lineno if own_frames else getattr(error, "lineno", "?")
        text = f"{path.name}, line {line}: {type(error).__name__}: {error}"
        raise LookupError(text) from error
    studies = [v for v in vars(module).values() if isinstance(v, Study)]
    invalid = [v for v in vars(module).values() if isinstance(v, Invalid)]
    if isinstance(stated := getattr(module, "STUDY", None), Study | Invalid):
        return beside(stated, path)
    if len(studies) == 1:
        return beside(studies[0], path)
    if invalid:
        return invalid[-1]
    raise LookupError(f"{str(path)!r} defines no study; add `STUDY = Study(...)`")


def beside(study: Study | Invalid, source: Path | None) -> Study | Invalid:
    """The study with the folder of its file, where relative paths begin; unchanged without one."""
    if source is None or not isinstance(study, Study):
        return study
    return study.replace(folder=str(source.resolve().parent))


def check_names(folder: Path) -> None:
    """Make sure that no module beside a study file hides one that studies import.

    Workers have the study's folder first on their path, as Python has for a script.

    Raises:
        LookupError: If there is one, such as `analysis.py` or `ray.py`.
    """
    own = Path(str(resources.files("study"))).parent
    if folder == own:  # this project itself
        return
    beside = {module.name for module in pkgutil.iter_modules([str(folder)])}
    imported = {name for name in sys.modules if _is_installed(sys.modules.get(name))}
    if hidden := sorted(beside & (OWN | LATER | imported)):
        names = ", ".join(hidden)
        raise LookupError(
            f"{folder} has modules with the names of packages that studies import: {names}. "
            "They would be imported instead; rename them."
        )


def _is_installed(module: ModuleType | None) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and any(Path(file).is_relative_to(place) for place in _installed())


@cache
def _installed() -> list[Path]:
    """Folders of Python and of installed packages."""
    places = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    return [path for place in map(Path, places) for path in (place, place.resolve())]


def started() -> Path | None:
    """The file that was started, as `python FILE` does.

    Returns:
        None where there is none: in a notebook, at a prompt, with `python -c`, and where an
        installed program, such as pytest, runs the code.
    """
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None or not Path(file).is_file():  # the code came by standard input: `<stdin>`
        return None
    real = Path(file).resolve()
    places = [Path(sysconfig.get_path("scripts")).resolve(), *_installed()]
    installed = any(real.is_relative_to(place) for place in places)
    if installed and not real.is_relative_to(str(resources.files("study"))):  # has the designs
        return None
    return Path(file).absolute()


def folder_of(source: Path | None) -> Path:
    """The folder that a study's commit and the user's own modules come from.

    Args:
        source: The study file; without one it is the working directory.
    """
    return Path.cwd() if source is None else source.resolve().parent


def valid_study(study: Study | Invalid) -> Study:
    """The study, if it has no mistakes.

    Raises:
        SpecError: With all mistakes.
    """
    if isinstance(study, Invalid):
        raise study.error
    return study


def study_in(argument: str | None) -> Study | None:
    """The study of a command line argument that is a study file; None if it is none.

    Raises:
        LookupError: As `load_study` does.
        SpecError: If the study has mistakes.
    """
    if argument is None or not argument.endswith(".py"):
        return None
    return valid_study(load_study(Path(argument)))


def resolve_study_name(argument: str | None, home: Home) -> str:
    """The name of the study that a command line argument refers to.

    Args:
        argument: A study file, a name, or None if there is only one study.
        home: The folder of studies.

    Raises:
        LookupError: If `argument` is None and there is not exactly one study.
    """
    if study := study_in(argument):
        return study.name
    if argument is not None:
        return argument
    names = home.names()
    if len(names) != 1:
        available = ", ".join(names) or "none"
        text = f"specify a study; {home.root} contains {available}; "
        raise LookupError(text + "`study list studies` lists those in the tracking store")
    return names[0]
