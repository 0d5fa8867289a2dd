"""The structure of the code: packages, their sizes, and the imports between them.

`python -m tests.structure` prints the tables.
"""

import ast
from collections import Counter
from functools import cache
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = ("study", "analysis", "search_spaces")


def sources(place: str) -> list[Path]:
    """The Python files of a file or folder, never none.

    Raises:
        LookupError: If there are none, so that a rule about a place that moved cannot go silent.
    """
    path = ROOT / place
    found = [path] if path.is_file() else sorted(path.rglob("*.py"))
    if not found:
        raise LookupError(f"{place} has no Python files")
    return found


@cache
def imports(path: Path) -> set[str]:
    """Modules imported anywhere in a file, `from a import b` as both `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def package_of(path: Path) -> str:
    """The package that a file belongs to; `tasks/kinds` belongs to `tasks`."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def module_path(module: str) -> Path | None:
    """The file of a module of ours; None for a name inside one, or a module of others."""
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def between(project: str) -> Counter[tuple[str, str]]:
    """How many files of one package import from another, by the two packages."""
    found: Counter[tuple[str, str]] = Counter()
    for path in sources(project):
        paths = filter(None, (module_path(module) for module in imports(path)))
        here = package_of(path)
        found.update((here, there) for there in {package_of(p) for p in paths} - {here})
    return found


def levels(project: str) -> dict[str, int]:
    """The level of each package: 1 imports none of its project, each other is above all it imports.

    Raises:
        ValueError: If packages import each other in a circle.
    """
    below: dict[str, set[str]] = {package_of(path): set() for path in sources(project)}
    for here, there in between(project):
        if there in below and project not in (here, there):
            below[here].add(there)
    found: dict[str, int] = {}
    while len(found) < len(below):
        ready = [p for p in below if p not in found and below[p] <= found.keys()]
        if not ready:
            raise ValueError(f"a circle among {sorted(below.keys() - found.keys())}")
        found |= {p: 1 + max((found[b] for b in below[p]), default=0) for p in ready}
    return found


def main() -> None:
    """Print the packages from the top down, and what each imports."""
    for project in PROJECTS:
        arrows, known = between(project), levels(project)
        lines = {path: len(path.read_text().splitlines()) for path in sources(project)}
        print(f"\n{project}: {len(known)} packages on {max(known.values())} levels, ", end="")
        print(f"{len(arrows)} imports between packages;")
        print(f"  {len(lines)} files, {sum(lines.values())} lines, {_sizes(lines)}\n")
        for package in sorted(known, key=lambda p: (-known[p], p)):
            own = {path: n for path, n in lines.items() if package_of(path) == package}
            to = sorted(
                there.removeprefix(f"{project}/") for here, there in arrows if here == package
            )
            print(f"{known[package]:2} {package:22} {len(own):3} files, {_sizes(own)}")
            print(f"   imports {', '.join(to) or 'none'}")


def _sizes(lines: dict[Path, int]) -> str:
    largest = max(lines, key=lambda path: lines[path])
    return f"median {median(lines.values()):.0f}, largest {lines[largest]} ({largest.name})"


if __name__ == "__main__":
    main()
