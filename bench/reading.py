"""Reading and encoding a task: rows per second, memory, and a second start from the disk cache.

Each start is a separate process; imports are not counted. The rows must be in STUDY_DATA; if it is
not set, or with --quick, the bundled term pairs are used.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import common

TASK = "glue_sst2"  # the one with the most rows
BAR = 5.0


def main() -> int:
    """Measure a first start, and a second one from the cache."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default=TASK, help=f"default: {TASK}")
    parser.add_argument("--quick", action="store_true", help="the bundled term pairs")
    arguments = parser.parse_args()
    data = os.environ.get("STUDY_DATA", "")
    task = "terms" if arguments.quick or not data else arguments.task
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for start in ("first", "second"):
            found = common.measured(measure, task, folder, environment={"STUDY_DATA": data}).answer
            seconds.append(found["read"] + found["encoded"])
            print(
                f"{start} start: {task}, {found['rows']:,} rows: read {found['read']:.2f} s, "
                f"encoded {found['encoded']:.2f} s, {found['rows'] / seconds[-1]:,.0f} rows/s, "
                f"{found['bytes'] / 1e6:.0f} MB above the imports"
            )
    ratio = seconds[0] / seconds[1]
    figure = f"the second start is {ratio:.1f} times as fast"
    return common.ending("reading", figure, bar=f"{BAR:g} times", met=ratio >= BAR)


def measure(name: str, folder: str) -> dict[str, float]:
    """Seconds and bytes of a start."""
    from study.models import MINILM
    from study.models.loading import processor
    from study.tasks import TASKS
    from study.tasks.kinds import Classification
    from study.training.prepare import prepare_once

    task = TASKS[name]
    processor(MINILM, Classification)  # so that its imports are not counted
    MINILM.identity()
    before = peak()
    began = time.perf_counter()
    rows = task.load()
    read = time.perf_counter()
    prepare_once(rows, MINILM, 128, Path(folder))
    ended = time.perf_counter()
    count = sum(len(split.ids) for split in rows.splits.values())
    return {"rows": count, "read": read - began, "encoded": ended - read, "bytes": peak() - before}


def peak() -> float:
    """Peak memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


if __name__ == "__main__":
    sys.exit(main())
