"""Provenance of a result: code digest, package versions, device and commit."""

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

# Packages whose version can change a run's result.
PACKAGES = (
    *("finetuning-stability", "torch", "transformers", "peft", "numpy"),
    *("bitsandbytes", "pytorch_optimizer"),  # optimizers
    *("scipy", "scikit-learn", "seqeval", "rouge-score"),  # the metrics
)


def environment(device: torch.device, own: Iterable[object]) -> dict[str, str]:
    """What can change a run's result without changing its key: device, packages, code.

    Args:
        device: The device that the run trains on.
        own: Classes and functions that may be user-defined. The user's modules among theirs, and
            the user's modules that those import, enter `code`; of an installed package the version
            enters `packages`.
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
    """The versions of Python and of these packages, as one line."""
    each = (f"{package} {_version(package)}" for package in packages)
    return ", ".join([f"python {platform.python_version()}", *each])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


@cache
def _installed(modules: tuple[str, ...]) -> tuple[str, ...]:
    """The installed distributions that provide these modules."""
    providers = importlib.metadata.packages_distributions()
    packages = {name for module in modules for name in providers.get(module.partition(".")[0], [])}
    return tuple(sorted(packages - set(PACKAGES)))


@cache  # the files may change while the process runs with the code it imported earlier
def code_of(outside: tuple[str, ...] = ()) -> str:
    """A digest of this package's sources, without `designs/`, and of the user's modules."""
    digest, package = hashlib.sha256(), _package()
    sources = sorted(set(package.rglob("*.py")) - set(package.glob("designs/*.py")))
    for file in [*sources, *_own_files(outside)]:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _own_files(names: Iterable[str]) -> list[Path]:
    """Source files of these modules and of the modules they import, as far as user-defined.

    The imports are followed because neither alternative works: a worker's loaded modules include
    those of earlier runs, and on a cluster Ray puts each module into a folder of its own.
    """
    pending = list(names)
    found: dict[str, Path] = {}
    while pending:
        name = pending.pop()
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None or name in found:
            continue
        if _is_own(Path(file)):
            found[name] = Path(file)
            pending += [name.rpartition(".")[0], *_imported(name, found[name])]
    return [found[name] for name in sorted(found)]


def _is_own(file: Path) -> bool:
    """Whether a file belongs neither to an installed package, nor to Python, nor to `study`."""
    if {"site-packages", "dist-packages"} & set(file.parts):
        return False
    others = (_package(), Path(sysconfig.get_path("stdlib")))
    return not any(file.is_relative_to(folder) for folder in others)


def _imported(name: str, file: Path) -> list[str]:
    """Names in a module's import statements that may be modules."""
    package, found = sys.modules[name].__package__, []
    try:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                start = "." * node.level + (node.module or "")
                start = importlib.util.resolve_name(start, package)
                found += [start, *(f"{start}.{alias.name}" for alias in node.names)]
    except (
        SyntaxError,
        ValueError,
        ImportError,
    ):  # compiled, or edited since it was loaded
        return []
    return found


def device_name(kind: str) -> str:
    """Device on which results are reproducible to the bit: `cpu x86_64`, or a GPU's name."""
    return torch.cuda.get_device_name() if kind == "cuda" else f"cpu {platform.machine()}"


def versions() -> str:
    """Package versions that results depend on, and a digest of this package's code, in one line."""
    return f"{versions_of(PACKAGES)}, code {code_of()}"


def provenance(folder: Path) -> dict[str, str]:
    """The commit of the git repository that contains a folder, and whether tracked files differ.

    Returns:
        `commit`, `dirty` and MLflow's tag for the commit; empty outside a repository.
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
    """Root folder of the package `study`."""
    return Path(str(files("study")))
