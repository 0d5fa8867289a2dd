"""The columns of the frame of runs, and the names in an MLflow store that they come from."""

import re
from itertools import product

# Names in the store. `study/tracking/schema.py` has them for the writer, since `analysis` imports
# nothing of `study`; `tests/contracts/test_door.py` holds the two equal.
KIND, CELL_KIND, RUN_KIND = "kind", "cell", "run"
KEY, CELL, STAGE, SEEDS, IN_STUDY = "key", "cell", "stage", "seeds", "in_study"
NAME = "mlflow.runName"
MODEL_FACT = "model."  # prefix of the tags in `FACTS`
COLLAPSE_RULE = "collapsed"  # the tag; the frame's column `collapsed` says whether there is one
DEV_FLOOR = "dev_floor"
# Prefixes of metrics, then the name of a task that runs are only scored on and its metric.
SKILL = {"before": "before.", "after": "after.", "retained": "retained."}
RUN_JSON, PREDICTIONS = "run.json", "predictions.parquet"

# Columns of `load_finished`.
FINISHED_NUMBERS = ["dev", "dev_floor", "seconds", "peak_memory_bytes"]
FINISHED = ["key", "name", "cell", "stage", *FINISHED_NUMBERS]
IDENTITY = ["key", "task", "model", "configuration", "stage", "seed"]  # of rows below a run
STREAMS = ["head", "order", "noise"]
FACTS = [
    "family",
    "parameters",
    "domain",
    "vocabulary",
    "objective",
    "whole_word_masking",
    "next_sentence",
]
CELL_TEXT = ["task", "task_type", "model", "technique", "configuration", "metric", "stage"]
PROTOCOL = ["tried", "search"]  # tags of a cell that describe the search it comes from
RUN_TEXT = ["outcome", "collapse_rule", "device", "host", "versions", "commit", "memory_savers"]
RUN_COUNTS = ["train_rows", "dev_rows", "test_rows"]
MEMORY = ["weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes"]
RUN_NUMBERS = [
    "dev",
    "test",
    "dev_floor",
    "test_floor",
    "seconds",
    "steps_per_second",
    "peak_memory_bytes",
    *MEMORY,
    "trained_fraction",
    "retained",
    "base_unchanged",
    "cut_rows",
    "cut_tokens",
]
COLUMNS = [
    "study",
    *CELL_TEXT,
    "tried",
    "seed",
    *STREAMS,
    "outcome",
    "collapsed",
    "collapse_rule",
    "dev",
    "test",
    "higher_is_better",
    "direction_from",
    "unit",
    "dev_floor",
    "test_floor",
    *RUN_COUNTS,
    *FACTS,
    "device",
    "host",
    "seconds",
    "steps_per_second",
    "peak_memory_bytes",
    *MEMORY,
    "memory_savers",
    "trained_fraction",
    "retained",
    "base_unchanged",
    "cut_rows",
    "cut_tokens",
    "versions",
    "commit",
    "dirty",
    "search",
    "key",
    "cell",
]


def seeds_of(text: str) -> list[tuple[int, int, int]]:
    """Parse the seeds that a cell asks for into (head, order, noise).

    Args:
        text: `0-4,7`, each number setting all three, or `head=0-4 order=0-4 noise=0`, crossed.

    Raises:
        ValueError: If the text is not such a list.
    """
    if "=" not in text:
        return [(number, number, number) for number in _numbers(text)]
    parts = dict(part.split("=") for part in text.split())
    crossed = product(*(_numbers(parts[stream]) for stream in STREAMS))
    return [(head, order, noise) for head, order, noise in crossed]


def _numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"(-?\d+)(?:-(-?\d+))?", part)
        if ends is None:
            raise ValueError(f"{text!r} is not a list of seeds")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        found += range(first, last + 1)
    return found
