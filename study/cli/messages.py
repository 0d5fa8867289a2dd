"""Messages of the command line: how `study run` ended, and what to type next."""

import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from study.cli.progress import duration, retried
from study.core.lock import StudyLockedError
from study.core.paths import configure_mlflow_client
from study.core.spec import SpecError
from study.execution.faults import ClusterError
from study.execution.queue import Progress
from study.planning.runs import Run
from study.planning.study_file import started


class Took(NamedTuple):
    """How long a study took in this process.

    Attributes:
        seconds: From its announcement to its end.
        estimate: What was estimated, as text.
    """

    seconds: float
    estimate: str


@dataclass(frozen=True)
class Ending:
    """Final messages and exit code of `study run`.

    Attributes:
        name: The study's name.
        runs: Number of requested runs.
        as_json: Whether standard output gets one JSON object and nothing else.
    """

    name: str
    runs: int
    as_json: bool

    def nothing_started(self, missing: list[Run], later: int) -> int:
        """Report a dry run.

        Args:
            missing: Runs that would start.
            later: Maximum number of runs that searches would add.
        """
        if self.as_json:
            new = {run.key: run.name for run in missing}
            return self._json(missing=len(missing) + later, new=new)
        for run in missing:
            print(f"  {run.key}  {run.name}")
        if later:
            print(f"\nand at most {later} more, chosen by the dev scores of these")
        print("\ndry run: nothing was started")
        return 0

    def nothing_to_run(self, waiting: int) -> int:
        """Report that all runs are finished; returns 1 if some are still in the outbox, else 0."""
        _tell_waiting(waiting)
        code = 1 if waiting else 0
        if self.as_json:
            self._json(missing=0, waiting=waiting)
            return code
        print("nothing to run")
        if code:
            print(f"resume:  {typed()}")
        tell_next(self.name)
        return code

    def ended(
        self,
        progress: Progress,
        *,
        lost: int,
        waiting: int,
        took: Took,
        tables: Callable[[], None],
    ) -> int:
        """Report how a study ended; returns 1 if runs are missing or in the outbox, else 0.

        Args:
            progress: Counts, errors and retries of the runs.
            lost: Number of runs without an outcome.
            waiting: Number of finished runs that MLflow does not have yet.
            took: The time it took, and the estimate.
            tables: Prints the results so far; not called for JSON.
        """
        for name, reason in list(progress.problems.items())[:10]:
            complain(f"missing {name}: {reason}")
        if len(progress.problems) > 10:
            complain(f"and {len(progress.problems) - 10} more missing runs")
        for name in progress.paused:
            complain(
                f"paused {name}: its first runs failed with the same error; "
                "--keep-going runs the rest"
            )
        if progress.traces and lost:
            complain(f"tracebacks: {near(progress.traces)}")
        _tell_waiting(waiting)
        code = 1 if lost or waiting else 0
        if self.as_json:
            self._json(
                missing=lost,
                waiting=waiting,
                retried=dict(progress.retried),
                stopped=progress.stopped,
                closed=progress.closed,
                problems=progress.problems,
                paused=progress.paused,
            )
            return code
        tables()
        if lost and self.runs > lost + waiting:  # else there are no tables
            missing = "1 run is" if lost == 1 else f"{lost} runs are"
            print(f"\n{missing} missing; what is recommended may change with them.")
        if progress.closed:
            complain(f"no further runs were started: {progress.closed}")
        state = "stopped" if progress.stopped or progress.closed else "finished"
        parts = [f"{state}: {self.runs - lost - waiting} of {self.runs} runs done"]
        if progress.seconds:
            parts[0] += f" in {duration(took.seconds)} (estimated: {took.estimate})"
            on = "one worker" if progress.workers == 1 else f"{progress.workers} workers"
            parts.append(f"{duration(sum(progress.seconds))} of work on {on}")
        if progress.retried:
            parts.append(retried(progress))
        print("\n" + ", ".join(parts))
        if progress.stopped:
            print("Runs that were under way start again, long ones from where they were saved.")
        if code:
            print(f"resume:  {typed()}")
        tell_next(self.name)
        return code

    def _json(self, **facts: Any) -> int:
        print(json.dumps({"study": self.name, "runs": self.runs, **facts}))
        return 0


def complain(text: object) -> None:
    """Print to standard error."""
    print(text, file=sys.stderr)


def _tell_waiting(waiting: int) -> None:
    if waiting:
        complain(f"{waiting} finished runs wait in the outbox; the next start sends them.")


def tell_next(name: str) -> None:
    """Print the commands that are useful next."""
    for word, command in (("cells", "status"), ("report", "report"), ("browse", "ui")):
        print(f"{word + ':':<8} {program()} {command} {name}")


def typed() -> str:
    """The command to repeat: as it was typed, or `run(study)` in a notebook."""
    if Path(sys.argv[0]).name in ("study", "__main__.py"):  # or `python -m study`
        return shlex.join([program(), *sys.argv[1:]])
    return shlex.join(["python", *sys.argv]) if started() else "run(study)"


def program() -> str:
    """How to call this program: its name if it is on the `PATH`, else its path."""
    beside = Path(sys.executable).parent / "study"
    found = shutil.which("study")
    return "study" if found or not beside.exists() else near(beside)


def near(path: Path) -> str:
    """A path relative to the working directory if it lies below it."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def print_anywhere() -> None:
    """Let standard output replace signs that its encoding lacks, instead of raising."""
    if (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8"):
        from analysis.rendering import output  # slow to import, and hardly ever needed

        output.print_anywhere()


def exit_code(action: Callable[[], int]) -> int:
    """Run a command; expected errors become one message on standard error and an exit code."""
    print_anywhere()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ALEMBIC_LOGGING_LEVEL", "WARNING")
    configure_mlflow_client()
    try:
        return action()
    except SpecError as error:
        complain(error)
        return 2
    except LookupError as error:
        if isinstance(error, KeyError | IndexError):
            raise  # a bug, not invalid input
        complain(error)
        return 2
    except StudyLockedError as error:
        complain(f"{error}. Wait until it ends, or stop that study: {program()} stop NAME")
        return 1
    except ClusterError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        complain("Stopped.")
        return 130
    except BrokenPipeError:  # `study list techniques | head`
        sys.stderr.close()
        return 0
