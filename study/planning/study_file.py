"""From what a person names to a study: its file, or its name in the store."""

import importlib.util
import sys
import sysconfig
import traceback
from importlib import resources
from pathlib import Path

from study.core.paths import Home
from study.core.spec import Invalid, SpecError
from study.planning.study import Study


def load_study(path: Path) -> Study | Invalid:
    """The study that a file states, with or without mistakes.

    Raises:
        LookupError: If there is no such file, or no study in it.
    """
    from study.planning.study import Study

    if not path.is_file():
        raise LookupError(f"no study file {str(path)!r}")
    sys.path.insert(0, str(path.resolve().parent))  # a module of the user's own lies beside it
    name = f"study_file_{path.stem}".replace("-", "_")
    described = importlib.util.spec_from_file_location(name, path)
    if described is None or described.loader is None:
        raise LookupError(f"{str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(described)
    try:
        described.loader.exec_module(module)
    except SpecError:
        raise
    except Exception as error:  # whatever a user's file can raise; the place is what they need
        frames = traceback.extract_tb(error.__traceback__)
        places = [f for f in frames if f.filename == described.origin]
        line = places[-1].lineno if places else getattr(error, "lineno", "?")
        told = f"{path.name}, line {line}: {type(error).__name__}: {error}"
        raise LookupError(told) from error
    found = [v for v in vars(module).values() if isinstance(v, Study)]
    wrong = [v for v in vars(module).values() if isinstance(v, Invalid)]
    if isinstance(stated := getattr(module, "STUDY", None), Study | Invalid):
        return stated
    if len(found) == 1:
        return found[0]
    if wrong:
        return wrong[-1]
    raise LookupError(f"{str(path)!r} states no study: it needs `STUDY = Study(...)`")


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
    places = [sysconfig.get_path(name) for name in ("scripts", "stdlib", "purelib", "platlib")]
    installed = any(real.is_relative_to(Path(place).resolve()) for place in places)
    if installed and not real.is_relative_to(str(resources.files("study"))):  # has the designs
        return None
    return Path(file).absolute()


def folder_of(source: Path | None) -> Path:
    """The folder that a study's commit and the user's own modules come from.

    Args:
        source: The study file; without one it is the working directory.
    """
    return Path.cwd() if source is None else source.resolve().parent


def sound(given: Study | Invalid) -> Study:
    """A study without mistakes.

    Raises:
        SpecError: With all mistakes.
    """
    if isinstance(given, Invalid):
        raise given.error
    return given


def study_named(given: str | None, home: Home) -> str:
    """The name of the study that is meant.

    Args:
        given: A study file, a name, or None where there is only one study.
        home: Where its files are.

    Raises:
        LookupError: If it is not clear which.
    """
    if given is not None and given.endswith(".py"):
        return sound(load_study(Path(given))).name
    if given is not None:
        return given
    names = home.names()
    if len(names) != 1:
        there = f"there are {', '.join(names)}" if names else "there is none"
        told = f"which study? {there} in {home.root}; `study list studies` has those of the store"
        raise LookupError(told)
    return names[0]
