"""The MLflow schema: names of the tags, metrics, parameters and artifacts of a study's experiment.

A study is an experiment, a cell in a stage a parent run, a run a child run. `analysis` imports
nothing of `study`; the names that it reads are in `analysis/frames/columns.py`, and
`tests/contracts/test_door.py` holds the two equal. Stores written earlier have these names, so none
of them ever changes.
"""

from study.tasks.metrics import stored_name

# What MLflow and its tables on PostgreSQL take (checked with 3.17.2).
NAME_LENGTH, TAG_LENGTH = 250, 8000

# --- tags of every MLflow run -----------------------------------------------------------------

KIND = "kind"
CELL_KIND, RUN_KIND = "cell", "run"  # its values
CELL = "cell"  # the cell's key
STAGE = "stage"
CELLS = f"tags.{KIND} = '{CELL_KIND}'"  # filters of `search_runs`
RUNS = f"tags.{KIND} = '{RUN_KIND}'"

# MLflow's own
NAME, PARENT = "mlflow.runName", "mlflow.parentRunId"
SOURCE, NOTE = "mlflow.source.name", "mlflow.note.content"

# --- a cell: its parent run -------------------------------------------------------------------

TASK, MODEL, CONFIGURATION = "task", "model", "configuration"
TECHNIQUE = "technique"
METRIC = "metric"
TASK_TYPE = "task_type"
SEEDS = "seeds"
TRIED, SEARCH = "tried", "search"  # number of configurations it was chosen from; the search, JSON
IN_STUDY = "in_study"  # "true", or "false" once the study file no longer has the cell
PROBLEM = "problem"  # why runs are missing
MODEL_FACT = "model."  # prefix of what `describe` knows of the model
CELL_TAGS = (
    *(KIND, CELL, TASK, MODEL, TECHNIQUE, CONFIGURATION, METRIC, TASK_TYPE, STAGE, SEEDS, TRIED),
    *(SEARCH, IN_STUDY, PROBLEM),
)

# Metrics, updated while the study runs
N, MISSING, DIVERGED, COLLAPSED = "n", "missing", "diverged", "collapsed"
SUFFIXES = MEAN, SD, LOW, HIGH = "_mean", "_sd", "_low", "_high"  # of `dev` and `test`

# --- a run: a child run -----------------------------------------------------------------------

KEY = "key"
OUTCOME = "outcome"
COLLAPSE_RULE = "collapsed"  # the rules that fired, comma-separated; empty for none
HIGHER_IS_BETTER = "higher_is_better"
ROWS = "_rows"  # suffix of a split's name: its number of rows
RETRIED = "retried"  # causes for which it was lost before, and how often
# From the worker, see `study.training.result.RunResult.about`
DEVICE, HOST, VERSIONS, RESUMED, NOT_KEPT = "device", "host", "versions", "resumed", "not_kept"
BASE = "base_sha256"  # of the pretrained weights after training; only where none is trained
MEMORY_SAVERS = "memory_savers"  # those in use, comma-separated; absent for none
# From the driver, see `study.core.provenance.provenance`
COMMIT, DIRTY = "commit", "dirty"
STREAMS = ("head", "order", "noise")  # the seeds
RUN_TAGS = (
    *(KIND, KEY, CELL, STAGE, OUTCOME, COLLAPSE_RULE, METRIC, HIGHER_IS_BETTER, *STREAMS),
    *(f"{split}{ROWS}" for split in ("train", "dev", "test")),
    *(DEVICE, HOST, VERSIONS, MEMORY_SAVERS, RESUMED, NOT_KEPT, BASE, COMMIT, DIRTY, RETRIED),
)

SEED = "seed"
PARAMETERS = (TASK, MODEL, CONFIGURATION, SEED)

# Metrics at step 0; curves have an epoch as their step, and a slash in their name
DEV, TEST = "dev", "test"
DEV_FLOOR, TEST_FLOOR = "dev_floor", "test_floor"  # the constant predictor's scores
SECONDS = "seconds"
RUN_METRICS = (
    *(DEV, TEST, DEV_FLOOR, TEST_FLOOR, SECONDS, "steps_per_second", "peak_memory_bytes"),
    *("weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes"),
    *("trained_fraction", "steps", "retained", "base_unchanged"),
    *("cut_rows", "cut_tokens"),  # shares of rows and tokens lost to the maximum length; texts only
)
# Prefixes, then the name of a task that is only measured, a dot and its metric: the scores before
# and after training, and the share retained; the metric `retained` is the least of these shares.
BEFORE, AFTER, RETAINED = "before.", "after.", "retained."
CURVE = "/"
TRAINED_CURVE = "trained/depth_"  # prefix; of techniques that choose step by step what they train

RUN_JSON, PREDICTIONS, TRAINED = "run.json", "predictions.parquet", "trained.svg"
ARTIFACTS = (RUN_JSON, PREDICTIONS, TRAINED)

# --- the experiment ---------------------------------------------------------------------------

OPENED = "study.opened"  # who opened the study last, with which file, and when
DRIVER = "study.driver."  # prefix; then a driver's id: what it says of itself, see `lease`
STOP = "study.stop"  # the id of the driver that is asked to stop
VIEW = "cells"  # the key of the view that MLflow's UI opens with, see `study ui`
VIEW_STATE = f"mlflow.sharedViewState.{VIEW}"
EXPERIMENT_KIND = "mlflow.experimentKind"

# --- names that MLflow takes ------------------------------------------------------------------


def metric_key(name: str) -> str:
    """The key of a metric or curve; signs that MLflow refuses become `_`, as in `dev/hits_1`."""
    prefix, slash, own = name.partition("/")
    if not slash:
        is_skill = name.startswith((BEFORE, AFTER, RETAINED))
        return stored_name(name)[:NAME_LENGTH] if is_skill else name
    own = stored_name(own)[: NAME_LENGTH - len(prefix) - 1]
    return f"{prefix}/{own if own.strip('.') else '_' * max(len(own), 1)}"


def storable(text: str) -> str:
    """A text that every database takes: PostgreSQL has no NUL, and none has half a character."""
    return text.replace("\x00", r"\x00").encode("utf-8", "backslashreplace").decode()


def run_name(name: str) -> str:
    """A run's display name; the middle of a long one is left out."""
    if len(name) <= NAME_LENGTH:
        return name
    tail = name[-NAME_LENGTH // 2 + 3 :]
    return f"{name[: NAME_LENGTH - len(tail) - 3]}...{tail}"
