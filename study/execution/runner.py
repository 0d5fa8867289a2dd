"""From a study's missing runs to outcomes in MLflow."""

import logging
import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from study.core.paths import Home, without_password
from study.core.spec import SpecError
from study.execution.notify import Notifier
from study.execution.queue import More, Progress, RunQueue
from study.execution.saved_models import ModelStore
from study.planning.budget import Budget, Meter
from study.planning.preflight import problems
from study.planning.runs import Run, own_code
from study.planning.stages import Stage, Stages
from study.planning.study import Study
from study.tracking.writer import TrackingWriter
from study.training.prepare import Prepared, prepare_once

Wanted = Callable[[Run], bool]

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 300.0  # how long the end of a study waits for a store in trouble
BRIEF_SECONDS = 2.0  # the same where the study was stopped, or something went wrong
STOP_SECONDS = 0.5  # between two looks at a request to stop,
LOOK_SECONDS = 5.0  # and at the budget, the store and the cluster
TROUBLE_SECONDS = 60.0  # a store may be away for a moment, and a first machine
FIRST_SECONDS = 900.0  # takes minutes to come
JOIN_SECONDS = 10.0


@dataclass(frozen=True)
class Options:
    """How to run, as opposed to what.

    Attributes:
        folder: Of the study file, or the working directory.
        address: A Ray cluster; None takes the one that runs here, or starts one.
        workers: Runs under way at once at most; None uses all there is.
        keep_going: Do not pause cells that fail again and again.
        verbose: Show Ray's own messages.
    """

    folder: Path
    address: str | None = None
    workers: int | None = None
    keep_going: bool = False
    verbose: bool = False


def check(study: Study) -> None:
    """Find everything that would keep runs from running.

    Raises:
        SpecError: With all of it.
    """
    if mistakes := problems(study):
        raise SpecError(f"study {study.name!r}", mistakes)
    Stages(study, {})  # what its searches try first, before anything is opened


def execute(
    runs: list[Run],
    tracking: TrackingWriter,
    progress: Progress,
    *,
    home: Home,
    study: Study,
    options: Options,
    wanted: Wanted | None,
) -> int:
    """Do these runs; returns when all are done, paused or stopped, and MLflow has what it can.

    Args:
        runs: What is missing, in the order to start them.
        tracking: Takes the outcomes.
        progress: Kept up to date.
        home: Watched for a request to stop.
        study: The study they belong to.
        options: How.
        wanted: Which of the runs that searches ask for on the way; None for all.

    Returns:
        Outcomes that wait in the outbox for a store in trouble.

    Raises:
        ClusterError: If the cluster cannot be joined, or its machines cannot do the runs.
    """
    more = following(tracking, progress, wanted) if study.searches else None
    feed = RunQueue(runs, progress, keep_going=options.keep_going, more=more)
    notice = Notifier(study.name)
    address = options.address or os.environ.get("RAY_ADDRESS") or None
    alone, patience, crash = _runs_here(address), BRIEF_SECONDS, ""
    try:
        _settle(alone, verbose=options.verbose)
        from study.execution import (  # Ray reads its environment when it is imported
            cluster,
            ray_tune,
        )

        data = prepared(runs, home)
        own = {name for run in runs for name in own_code(run.spec())}
        modules = cluster.own_modules(own, options.folder)
        cluster.join(address, own=modules, alone=alone, verbose=options.verbose)
        try:
            shared = ray_tune.share(runs, data, study, home.study(study.name), alone=alone)
            # After the start, where Ray takes SIGTERM.
            with _watched(progress, tracking, home=home, study=study, runs=runs, notice=notice):
                ray_tune.tune_all(
                    feed,
                    tracking,
                    progress,
                    study=study,
                    shared=shared,
                    shelf=ModelStore(
                        home.models(study.name), study.keep, tracking.stages.runs("final")
                    ),
                    notice=notice,
                    workers=options.workers,
                    verbose=options.verbose,
                )
            patience = PATIENCE_SECONDS
        finally:
            cluster.leave()
    except KeyboardInterrupt:
        progress.stopped = True
    except Exception as error:
        crash = _brief(error)
        raise
    finally:
        waiting = 0
        try:
            waiting = tracking.close(patience)
        except Exception as error:  # such as a driver that was replaced
            crash = crash or _brief(error)
            raise
        finally:
            notice.ended(_in_short(progress, waiting, crash))
    return waiting


def _brief(error: Exception) -> str:
    return without_password(f"{type(error).__name__}: {error}".splitlines()[0])


def _in_short(progress: Progress, waiting: int, crash: str) -> str:
    """How a start of a study ended, for whoever is away."""
    parts = [f"{progress.finished} of {progress.total} runs done", progress.closed, crash]
    parts += ["stopped"] if progress.stopped else []
    parts += [f"{len(progress.problems)} missing"] if progress.problems else []
    parts += [f"{waiting} wait for MLflow"] if waiting else []
    parts += [f"paused: {', '.join(progress.paused)}"] if progress.paused else []
    return "; ".join(filter(None, parts))


def following(tracking: TrackingWriter, progress: Progress, wanted: Wanted | None) -> More:
    """What a finished run brings: the next batch of its search first, a choice's runs last."""
    stages = tracking.stages
    known = {run.key for run in stages.runs()}

    def more(run: Run, dev: float) -> tuple[list[Run], list[Run]]:
        asked = stages.tell(run.key, dev)
        tracking.ask(asked)
        parts: dict[Stage, list[Run]] = {"tune": [], "final": []}
        for one in asked:
            new = [each for each in one.runs if each.key not in known]
            known.update(each.key for each in new)
            if wanted is None:  # all were counted as still to come
                progress.total -= len(one.runs) - len(new)
            else:
                new = [each for each in new if wanted(each)]
                progress.total += len(new)
            finished = tracking.finished
            missing = [each for each in new if each.key not in finished]
            progress.finished += len(new) - len(missing)
            parts[one.stage] += missing
        return parts["tune"], parts["final"]

    return more


def prepared(runs: list[Run], home: Home) -> dict[str, Prepared]:
    """The data that these runs need, each encoded once, by `Run.data_key`."""
    made: dict[str, Prepared] = {}
    for run in runs:
        if run.data_key not in made:
            rows, length = run.cell.task.load(), run.recipe.max_length
            made[run.data_key] = prepare_once(rows, run.cell.model, length, home.encoded)
    return made


def _runs_here(address: str | None) -> bool:
    """Whether no cluster was named and none runs here, so that Ray is started on this machine."""
    if address == "local":  # as Ray has it: one is started whatever runs here
        return True
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    running = Path(folder, "ray", "ray_current_cluster").exists()
    return address is None and not running


def _settle(alone: bool, *, verbose: bool) -> None:
    """Set what Ray and Tune read from the environment when they are imported."""
    settings = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # resuming goes by keys
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the study at once; it resumes by keys
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same to workers
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # the feed decides what is tried again
    }
    if not verbose:
        settings["RAY_AIR_NEW_OUTPUT"] = "0"
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # trouble is told in our own words
    if alone:
        # The one switch with which Ray's servers listen on loopback, on every system.
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    for name, value in settings.items():
        os.environ.setdefault(name, value)


@contextmanager
def _watched(
    progress: Progress,
    tracking: TrackingWriter,
    *,
    home: Home,
    study: Study,
    runs: list[Run],
    notice: Notifier,
) -> Iterator[None]:
    """End on SIGTERM and on `study stop` as on Ctrl-C; keep to the budget; tell of trouble."""
    from ray.exceptions import RayError

    from study.execution import capacity, cluster, ray_tune

    over = threading.Event()
    meter = Meter(study.budget or Budget(), lambda: capacity.amount("GPU" if study.gpus else "CPU"))
    need, _ = ray_tune.needed(study, runs)
    since: dict[str, float] = {}  # when trouble of a kind was first seen
    told: set[str] = set()
    had_room = False

    def interrupt(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def watch() -> None:
        looked = -math.inf
        while not over.wait(STOP_SECONDS):
            try:
                if home.lock(study.name).stop_requested():
                    interrupt()
                    return
                if time.monotonic() - looked > LOOK_SECONDS:
                    looked = time.monotonic()
                    look()
            except (OSError, RuntimeError, RayError) as error:  # it may answer later
                if str(error) not in told:
                    log.warning("budget and cluster could not be looked at: %s", error)
                told.add(str(error))

    def look() -> None:
        nonlocal had_room
        if spent := progress.closed or meter.spent():
            progress.closed = spent
            cluster.hold(progress.held)  # each time: one may have failed
        room = capacity.room(need)
        had_room = had_room or room > 0
        lacks = "" if room else "no machine of the cluster can hold a run now"
        gone = capacity.without_machine(dict(progress.takes)) if room else set()
        if gone:
            lacks = "no machine of the cluster can hold its larger runs now"
            if progress.alone & gone:
                lacks = "the machine is gone that a run is to have to itself (out of memory)"
        progress.lacks = lacks
        troubles = {
            "mlflow": (f"MLflow: {tracking.trouble}" if tracking.trouble else "", TROUBLE_SECONDS),
            "room": (lacks, TROUBLE_SECONDS if had_room else FIRST_SECONDS),
        }
        for kind, (text, patience) in troubles.items():
            if not text:
                since.pop(kind, None)
            elif time.monotonic() - since.setdefault(kind, time.monotonic()) > patience:
                notice.trouble(kind, text)

    before = signal.signal(signal.SIGTERM, interrupt)
    # A shell starts background jobs with SIGINT ignored, and Python then leaves it so.
    deaf = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(JOIN_SECONDS)  # so that it asks nothing of a cluster that was left
        progress.lacks = ""
        signal.signal(signal.SIGINT, deaf)
        signal.signal(signal.SIGTERM, before)
