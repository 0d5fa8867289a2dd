"""Shared by the benchmarks: measurement in a fresh process, and the final result line."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from study import Study
    from study.execution.queue import Progress
    from study.tracking.entry import Record
    from study.tracking.writer import TrackingWriter

    Watch = Callable[[Progress, TrackingWriter], None]

WORKERS = 2
HERE = Path(__file__).resolve().parent
CALL = """
import importlib, json, sys
from pathlib import Path
module, function, arguments, file = sys.argv[1:]
answer = getattr(importlib.import_module(module), function)(*json.loads(arguments))
Path(file).write_text(json.dumps(answer))
"""
# Set by the runner before its first import of Ray; set here so that both sides have them.
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class Measured(NamedTuple):
    """A call in a separate process.

    Attributes:
        seconds: Wall-clock time of the whole process, including interpreter start and imports.
        answer: What the function returned.
    """

    seconds: float
    answer: Any


def measured(
    function: Callable[..., object],
    *arguments: object,
    environment: Mapping[str, str] | None = None,
) -> Measured:
    """Call a benchmark function in a fresh process, with an empty folder and store.

    Args:
        function: At the top level of a file in this folder, or below it.
        *arguments: JSON values, as is the return value.
        environment: Additional environment variables.

    Raises:
        subprocess.CalledProcessError: If the process fails; its output is printed.
    """
    module = function.__module__
    if module == "__main__":  # which Ray workers cannot import
        module = Path(function.__code__.co_filename).stem
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder, "answer.json")
        words = [module, function.__name__, json.dumps(arguments), str(file)]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", CALL, *words],
            cwd=folder,
            env=_environment(Path(folder)) | dict(environment or {}),
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - began
        if done.returncode:
            print(done.stdout[-2000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
            done.check_returncode()
        return Measured(seconds, json.loads(file.read_text()))


def _environment(folder: Path) -> dict[str, str]:
    outside = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "STUDY_DATA")
    kept = {name: value for name, value in os.environ.items() if name not in outside}
    # In this order, because bench/analysis.py must not hide the package `analysis`.
    path = os.pathsep.join((str(HERE.parent), str(HERE)))
    own = {"STUDY_HOME": str(folder / "store"), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return kept | own | QUIET


def complete(study: "Study", watch: "Watch" = lambda *_: None) -> dict[str, "Record"]:
    """Run a study as `study run` does; returns when MLflow has all runs.

    Args:
        study: The study.
        watch: Called before the first run with the progress counters and the writer.

    Raises:
        RuntimeError: If a run is missing at the end.
    """
    from study.core.paths import default_home
    from study.execution.queue import Progress
    from study.execution.runner import Options, check, execute
    from study.tracking.writer import TrackingWriter

    check(study)
    home, runs = default_home(), study.runs()
    with home.lock(study.name).held():
        tracking = TrackingWriter(home, study, Path(__file__))
        progress = Progress(total=len(runs), finished=0)
        watch(progress, tracking)
        options = Options(folder=Path(__file__).parent, address="local", workers=WORKERS)
        waiting = execute(
            runs, tracking, progress, home=home, study=study, options=options, wanted=None
        )
    if waiting or len(tracking.records) != len(runs):
        reasons = list(progress.problems.items())[:3]
        raise RuntimeError(f"{len(tracking.records)} of {len(runs)} runs are in MLflow: {reasons}")
    return tracking.records


def ending(name: str, figure: str, *, bar: str, met: bool) -> int:
    """Print the final line of a benchmark and return its exit code."""
    print(f"{name}: {figure} (bar {bar}) {'met' if met else 'short'}")
    return 0 if met else 1
