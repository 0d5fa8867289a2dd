"""What a result was made with: code, packages, device and commit."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch

# What moves the bits of a run.
PACKAGES = ("finetuning-stability", "torch", "transformers", "peft", "numpy")


def environment(device: torch.device, own: Iterable[object]) -> dict[str, str]:
    """What moves a run's bits and is not in its key: device, packages, code.

    Args:
        device: Where it trains.
        own: Classes and functions that may be a user's own: their modules count, and the user's
            other modules that those import; or the version of the package that brought them.
    """
    processor = platform.machine() + " " + torch.backends.cpu.get_cpu_capability()
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    modules = {str(thing.__module__) for thing in own}
    outside = tuple(sorted(name for name in modules if not name.startswith("study.")))
    return {
        "device": gpu or processor,
        "packages": versions_of(PACKAGES + _installed(outside)),
        "code": code_of(outside),
    }


@cache
def versions_of(packages: tuple[str, ...]) -> str:
    """Python's version and those of packages, as one line."""
    each = (f"{package} {importlib.metadata.version(package)}" for package in packages)
    return ", ".join([f"python {platform.python_version()}", *each])


@cache
def _installed(modules: tuple[str, ...]) -> tuple[str, ...]:
    """The packages that brought these modules, but for a user's own files."""
    brought = importlib.metadata.packages_distributions()
    found = {package for name in modules for package in brought.get(name.partition(".")[0], [])}
    return tuple(sorted(found - set(PACKAGES)))


@cache  # as it was when the process imported it, more or less
def code_of(outside: tuple[str, ...] = ()) -> str:
    """A digest of this package's sources, but for study files, and of a user's own modules."""
    seen, package = hashlib.sha256(), _package()
    sources = sorted(set(package.rglob("*.py")) - set(package.glob("designs/*.py")))
    for file in [*sources, *_own_files(outside)]:
        seen.update(hashlib.sha256(file.read_bytes()).digest())
    return seen.hexdigest()[:12]


def _own_files(names: Iterable[str]) -> list[Path]:
    """Files of these modules and of what they import, where they are the user's own.

    Not of all that are loaded: a process has loaded those of earlier runs too. Nor of a folder: on
    a cluster each lies in a folder of its own.
    """
    left = list(names)
    found: dict[str, Path] = {}
    while left:
        name = left.pop()
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None or name in found:
            continue
        if _is_own(Path(file)):
            found[name] = Path(file)
            left += [name.rpartition(".")[0], *_imported(name, found[name])]
    return [found[name] for name in sorted(found)]


def _is_own(file: Path) -> bool:
    """Whether it is neither installed nor part of Python or of this package."""
    if {"site-packages", "dist-packages"} & set(file.parts):
        return False
    others = (_package(), Path(sysconfig.get_path("stdlib")))
    return not any(file.is_relative_to(folder) for folder in others)


def _imported(name: str, file: Path) -> list[str]:
    """What a module's import statements may name as modules."""
    package, found = sys.modules[name].__package__, []
    try:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                start = "." * node.level + (node.module or "")
                start = importlib.util.resolve_name(start, package)
                found += [start, *(f"{start}.{alias.name}" for alias in node.names)]
    except (SyntaxError, ValueError, ImportError):  # compiled, or changed since it was loaded
        return []
    return found


def device_name(kind: str) -> str:
    """The kind of device whose bits these are, such as `cpu x86_64` or a GPU's name."""
    return torch.cuda.get_device_name() if kind == "cuda" else f"cpu {platform.machine()}"


def versions() -> str:
    """The versions that results depend on, and a digest of this package's code, as one line."""
    return f"{versions_of(PACKAGES)}, code {code_of()}"


def provenance(folder: Path) -> dict[str, str]:
    """The commit of the repository that holds a folder, and whether its files differ from it.

    Returns:
        `commit` and `dirty`; empty where there is no repository.
    """

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {}
    dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
    return {
        "commit": commit[:12],
        "dirty": str(dirty).lower(),
        "mlflow.source.git.commit": commit,
    }


def _package() -> Path:
    """The folder of the whole package, wherever in it this module is."""
    return Path(str(files("study")))
