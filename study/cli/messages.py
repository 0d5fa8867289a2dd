"""What `study run` says at its end, and what to type next."""

import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.cli.progress import duration, retried
from study.core.lock import StudyLockedError
from study.core.paths import configure_mlflow_client
from study.core.spec import SpecError
from study.execution.faults import ClusterError
from study.execution.queue import Progress
from study.planning.runs import Run
from study.planning.study_file import started


@dataclass(frozen=True)
class Ending:
    """What `study run` says at its end.

    Attributes:
        name: The study.
        runs: How many were asked for.
        as_json: One object on standard output, and nothing else there.
    """

    name: str
    runs: int
    as_json: bool

    def nothing_started(self, missing: list[Run], later: int) -> int:
        """The end of a dry run.

        Args:
            missing: Runs that would start.
            later: Runs at most that searches would ask for on the way.
        """
        if self.as_json:
            new = {run.key: run.name for run in missing}
            return self._json(missing=len(missing) + later, new=new)
        for run in missing:
            print(f"  {run.key}  {run.name}")
        if later:
            print(f"\nand at most {later} more, which the dev scores of these decide")
        print("\nnothing was started")
        return 0

    def nothing_to_run(self, waiting: int) -> int:
        """The end of a study whose runs are all finished: 1 where some still wait, else 0."""
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
        self, progress: Progress, *, lost: int, waiting: int, tables: Callable[[], None]
    ) -> int:
        """The end of a study that ran: 1 where runs are missing or wait, else 0.

        Args:
            progress: How it went.
            lost: Runs without an outcome.
            waiting: Finished runs that MLflow does not have yet.
            tables: Prints what came out so far; not called for JSON.
        """
        for name, reason in list(progress.problems.items())[:10]:
            complain(f"missing {name}: {reason}")
        if len(progress.problems) > 10:
            complain(f"and {len(progress.problems) - 10} more missing runs")
        for name in progress.paused:
            complain(f"paused {name}: the same error in its first runs; --keep-going goes on")
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
        if progress.closed:
            complain(f"no further runs were begun: {progress.closed}")
        state = "stopped" if progress.stopped or progress.closed else "finished"
        parts = [f"{state}: {self.runs - lost - waiting} of {self.runs} runs done"]
        if progress.seconds:
            on = "one worker" if progress.workers == 1 else f"{progress.workers} workers"
            parts.append(f"{duration(sum(progress.seconds))} of work on {on}")
        if progress.retried:
            parts.append(retried(progress))
        print("\n" + ", ".join(parts))
        if code:
            print(f"resume:  {typed()}")
        tell_next(self.name)
        return code

    def _json(self, **facts: Any) -> int:
        print(json.dumps({"study": self.name, "runs": self.runs, **facts}))
        return 0


def complain(text: object) -> None:
    """Say something that is not the answer."""
    print(text, file=sys.stderr)


def _tell_waiting(waiting: int) -> None:
    if waiting:
        complain(f"{waiting} finished runs wait in the outbox; the next start sends them.")


def tell_next(name: str) -> None:
    """Say what to type next about a study."""
    for word, command in (("cells", "status"), ("report", "report"), ("browse", "ui")):
        print(f"{word + ':':<8} {program()} {command} {name}")


def typed() -> str:
    """The command as it was typed, to be typed again; the call where none was."""
    if Path(sys.argv[0]).name in ("study", "__main__.py"):  # or `python -m study`
        return shlex.join([program(), *sys.argv[1:]])
    return shlex.join(["python", *sys.argv]) if started() else "run(study)"


def program() -> str:
    """What to type for this program: its name where the shell finds it, else its path."""
    beside = Path(sys.executable).parent / "study"
    found = shutil.which("study")
    return "study" if found or not beside.exists() else near(beside)


def near(path: Path) -> str:
    """A path as one would type it here."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def exit_code(action: Callable[[], int]) -> int:
    """Carry out a command; what is wrong is said in a sentence and becomes an exit code."""
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
            raise  # a mistake of ours, not of what was asked for
        complain(error)
        return 2
    except StudyLockedError as error:
        complain(f"{error}. Wait for it, or end a driver with: study stop")
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
