"""Layouts of the score files that other tools write."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.frames.runs import CELL, ScoreFileError


@dataclass(frozen=True)
class Layout:
    """The column names of a known file format.

    Attributes:
        name: Its name in messages.
        marks: Columns by which it is recognised.
        columns: Role to column, or to `=` and one text for all rows, where the names differ.
    """

    name: str
    marks: frozenset[str]
    columns: Mapping[str, str] = field(default_factory=dict)


PLAIN = Layout("a table of scores", frozenset())
STUDY = Layout(  # `dev_floor` is not among the marks, since earlier reports wrote it as `floor`
    "runs of a study",
    frozenset({"study", *CELL, "outcome", "collapsed", "test_floor"}),
    {"floor": "dev_floor"},
)
PEFT = Layout(
    "peft's method comparison",
    frozenset({"experiment_name", "peft_type"}),
    {
        "technique": "peft_type",
        "configuration": "experiment_name",
        "model": "model_id",
        "seconds": "train_time",
        "memory": "accelerator_memory_max",
        "device": "accelerator",
    },
)
LAYOUTS = (
    STUDY,
    Layout(
        "AMLB's results",
        frozenset({"framework", "fold", "result"}),
        {
            "technique": "framework",
            "configuration": "constraint",
            "seed": "fold",
            "test": "result",
            "seconds": "duration",
        },
    ),
    Layout(
        "an export of W&B",
        frozenset({"Name", "State", "Created", "Runtime"}),
        {"status": "State", "seconds": "Runtime"},
    ),
    Layout(
        "TabM's scores",
        frozenset({"technique", "dev_score", "test_score"}),
        {"dev": "dev_score", "test": "test_score"},
    ),
)


def layout_of(table: pd.DataFrame, path: Path) -> Layout:
    """Recognise the layout of a score file from its ending or its columns."""
    if path.is_dir() or path.suffix.lower() == ".json":
        return PEFT
    return next((known for known in LAYOUTS if known.marks <= set(table.columns)), PLAIN)


def read_peft(path: Path) -> pd.DataFrame:
    """Read the result files of peft's method comparison, one row per file.

    Args:
        path: A JSON file or a folder of them.

    Raises:
        ScoreFileError: If there is none, or a file is not such a result.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ScoreFileError([f"the folder {str(path)!r} holds no JSON file."])
    rows, mistakes = [], []
    for file in files:
        try:
            rows.append(_peft_run(json.loads(file.read_text("utf-8")), file.resolve()))
        except (KeyError, TypeError, AttributeError):
            mistakes.append(f"{file.name} is not a result of peft's method comparison.")
        except ValueError as error:
            mistakes.append(f"{file.name} cannot be read: {error}")
    if mistakes:
        raise ScoreFileError(mistakes)
    table = pd.DataFrame(rows).fillna("").astype(str)
    table.index = pd.RangeIndex(1, len(table) + 1)
    return table


def _peft_run(result: Any, file: Path) -> dict[str, Any]:
    run, training, meta = result["run_info"], result["train_info"], result["meta_info"]
    settings = run["train_config"]
    technique, _, variant = run["experiment_name"].partition("/")
    # Later entries overwrite earlier ones: the last validation score counts.
    metrics = {name: value for entry in training["metrics"] for name, value in entry.items()}
    scored = [name for name in metrics if name.startswith("test ") and name != "test loss"]
    if len(scored) > 1:
        raise ValueError(f"it has several test scores: {', '.join(scored)}.")
    metric = scored[0].removeprefix("test ") if scored else "accuracy"
    return {
        "task": file.parent.parent.name,
        "peft_type": (run["peft_config"] or {}).get("peft_type", technique),
        "experiment_name": variant or technique,
        "model_id": settings["model_id"],
        "seed": settings["seed"],
        "metric": metric,
        "dev": metrics.get(f"valid {metric}", ""),
        "test": metrics.get(f"test {metric}", ""),
        "status": training["status"],
        "train_time": training["train_time"],
        "accelerator_memory_max": training["accelerator_memory_max"],
        "accelerator": meta["system_info"]["accelerator"],
    }
