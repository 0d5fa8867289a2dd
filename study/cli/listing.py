"""`study list`: techniques, tasks, models, search spaces and studies."""

import argparse
import json
from collections.abc import Mapping
from typing import Any

from study.cli.arguments import Commands, add_json
from study.core.paths import default_home
from study.tasks import Task


def add_commands(commands: Commands) -> None:
    """Add `study list`."""
    parser = commands.add("list", listing)
    parser.add_argument("what", choices=["techniques", "tasks", "models", "spaces", "studies"])
    add_json(parser)


def listing(arguments: argparse.Namespace) -> int:
    """List techniques, tasks, models, search spaces, or the studies in the store."""
    found = rows(arguments.what)
    if arguments.json:
        print(json.dumps(found))
        return 0
    width = max((len(row["name"]) for row in found), default=0)
    for row in found:
        print(f"{row['name']:<{width}}  {row['purpose']}")
        if row.get("import"):
            print(f"{'':<{width}}  {row['import']}")
        if row.get("source"):
            print(f"{'':<{width}}  Source: {row['source']}")
    return 0


def rows(what: str) -> list[dict[str, str]]:
    """The rows of `study list`, each with a name and a purpose."""
    if what == "techniques":
        from study.techniques import TECHNIQUES

        return [_from_docstring(name, cls.__doc__ or "") for name, cls in TECHNIQUES.items()]
    if what == "tasks":
        from study.tasks import TASKS, catalogue

        constants = {
            value.name: c for c, value in vars(catalogue).items() if isinstance(value, Task)
        }
        return [
            {
                "name": name,
                "purpose": ", ".join(
                    filter(None, (t.kind, t.metric, t.task_type, _availability(t)))
                ),
                "import": f"from study.tasks import {constants[name]}",
                "source": t.source.partition(" Not bundled")[0],
            }
            for name, t in TASKS.items()
        ]
    if what == "models":
        from study.models.catalogue import MODELS, about

        return [about(model) for model in MODELS.values()]
    if what == "spaces":
        from search_spaces import SPACES

        return [
            {"name": name, "purpose": _ranges({**space.technique, **space.recipe})}
            for name, space in SPACES.items()
        ]
    from analysis.frames.load import studies

    return [{"name": name, "purpose": ""} for name in studies(default_home().uri)]


def _availability(task: Task) -> str:
    source = str(task.train or task.test)
    if source.startswith("bundled:"):
        return "bundled"
    if source.startswith("hf:"):
        return "from the Hugging Face hub"
    return "bring your data (docs/tasks.md)"


def _ranges(distributions: Mapping[str, Any]) -> str:
    parts = []
    for name, distribution in distributions.items():
        choices = getattr(distribution, "choices", None)
        if choices is None:
            scale = ", log" if distribution.log else ""
            parts.append(f"{name} {distribution.low:g} to {distribution.high:g}{scale}")
        else:
            parts.append(f"{name} in {', '.join(map(str, choices))}")
    return "; ".join(parts)


def _from_docstring(name: str, text: str) -> dict[str, str]:
    summary, _, rest = text.partition("\n")
    source = rest.partition("Source:")[2].partition("Differs:")[0]
    return {"name": name, "purpose": summary, "source": " ".join(source.split())}
