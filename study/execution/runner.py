"""The runner: executes a study's missing runs on a Ray cluster, until MLflow has their results."""

import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from study.core.paths import Home, without_password
from study.core.spec import Mistake, SpecError
from study.execution.notify import Notifier
from study.execution.queue import More, Progress, RunQueue
from study.execution.saved_models import ModelStore
from study.execution.session import Session
from study.planning.preflight import problems
from study.planning.runs import Run, own_code
from study.planning.stages import Stage, Stages
from study.planning.study import Study
from study.tracking.schema import TAG_LENGTH
from study.tracking.writer import TrackingWriter
from study.training.prepare import Prepared, prepare_once

Wanted = Callable[[Run], bool]

PATIENCE_SECONDS = 300.0  # how long the end of a study waits for a store in trouble
BRIEF_SECONDS = 2.0  # the same if the study was stopped, or failed


@dataclass(frozen=True)
class Options:
    """How to run a study; no option changes a result.

    Attributes:
        folder: The study file's, or the working directory.
        address: A Ray cluster; None takes the one that runs on this machine, or starts one.
        workers: Runs under way at once at most; None uses the whole cluster.
        keep_going: Do not pause cells after repeated errors.
        verbose: Show Ray's own messages.
    """

    folder: Path
    address: str | None = None
    workers: int | None = None
    keep_going: bool = False
    verbose: bool = False


def check(study: Study, encoded: Path | None = None) -> None:
    """Check a study before anything is opened.

    Args:
        study: The study.
        encoded: The cache of encoded data; None keeps nothing.

    Raises:
        SpecError: With everything that is wrong.
    """
    if mistakes := problems(study, encoded):
        raise SpecError(f"study {study.name!r}", mistakes)
    stages = Stages(study, {})  # draws what its searches try first, which a technique may refuse
    if mistakes := _too_long(stages):
        raise SpecError(f"study {study.name!r}", mistakes)


def _too_long(stages: Stages) -> list[Mistake]:
    """Texts that MLflow would cut, so that the analysis could not read them."""
    cures = {"seeds": "a range, such as range(1000)", "search": "a space with fewer values"}
    return [
        Mistake(
            f"{plan.cell.name}, {name}",
            f"has {len(text)} characters, more than the {TAG_LENGTH} of a tag in MLflow; use "
            f"{cures[name]}.",
        )
        for plan in stages.plans
        for name, text in (("seeds", plan.seeds_text), ("search", plan.search))
        if len(text) > TAG_LENGTH
    ]


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
    """Do runs until all are done, paused or stopped, and MLflow has all results that it can get.

    Args:
        runs: What is missing, in the order to start them.
        tracking: Takes the results; closed at the end.
        progress: Kept up to date.
        home: Has the study's files, and requests to stop.
        study: The study.
        options: How to run it.
        wanted: Selects among the runs that searches add; None takes all.

    Returns:
        Number of results that wait in the outbox for a store in trouble.

    Raises:
        ClusterError: If the cluster cannot be joined, or its machines cannot execute the runs.
    """
    more = following(tracking, progress, wanted) if study.searches else None
    queue = RunQueue(runs, progress, keep_going=options.keep_going, more=more)
    notifier = Notifier(study.name)
    patience, failure = BRIEF_SECONDS, ""
    try:
        final = tracking.stages.runs("final")
        models = ModelStore(home.models(study.name), study.keep, final)
        session = Session(study, queue, tracking, models, notifier)
        _run_on_cluster(runs, session, home, options)
        patience = PATIENCE_SECONDS
    except KeyboardInterrupt:
        progress.stopped = True
    except Exception as error:
        failure = _brief(error)
        raise
    finally:
        waiting = 0
        try:
            waiting = tracking.close(patience)
        except Exception as error:  # for instance: another driver has taken over
            failure = failure or _brief(error)
            raise
        finally:
            notifier.ended(_in_short(progress, waiting, failure))
    return waiting


def _run_on_cluster(runs: list[Run], session: Session, home: Home, options: Options) -> None:
    """Join or start the cluster, execute the runs, and leave."""
    address = options.address or os.environ.get("RAY_ADDRESS") or None
    local = _starts_ray(address)
    _configure_ray(local, verbose=options.verbose)
    # Only now: Ray reads its environment when it is imported.
    from study.execution import cluster, ray_tune
    from study.execution.monitor import Monitor

    study = session.study
    data = prepare_all(runs, home)
    own = {name for run in runs for name in own_code(run.spec())}
    modules = cluster.own_modules(own, options.folder)
    cluster.join(address, own=modules, local=local, verbose=options.verbose)
    try:
        shared = ray_tune.publish_inputs(runs, data, study, home.study(study.name), local=local)
        smallest, _ = ray_tune.needed(study, runs)
        with Monitor(session, home, smallest):
            ray_tune.tune_all(session, shared, workers=options.workers, verbose=options.verbose)
    finally:
        cluster.leave()


def _brief(error: Exception) -> str:
    return without_password(f"{type(error).__name__}: {error}".splitlines()[0])


def _in_short(progress: Progress, waiting: int, failure: str) -> str:
    """How a start of a study ended, for a notification."""
    parts = [f"{progress.finished} of {progress.total} runs done", progress.closed, failure]
    parts += ["stopped"] if progress.stopped else []
    parts += [f"{len(progress.problems)} missing"] if progress.problems else []
    parts += [f"{waiting} wait for MLflow"] if waiting else []
    parts += [f"paused: {', '.join(progress.paused)}"] if progress.paused else []
    return "; ".join(filter(None, parts))


def following(tracking: TrackingWriter, progress: Progress, wanted: Wanted | None) -> More:
    """The runs that follow from a finished one: a search's next batch, or the chosen cell's runs.

    Returns:
        A function of a run and its dev score. Of the runs that it returns, the next batch is to be
        done first and the chosen cell's runs last.
    """
    stages = tracking.stages
    known = {run.key for run in stages.runs()}

    def more(run: Run, dev: float) -> tuple[list[Run], list[Run]]:
        plans = stages.tell(run.key, dev)
        tracking.add(plans)
        missing: dict[Stage, list[Run]] = {"tune": [], "final": []}
        for plan in plans:
            new = [run for run in plan.runs if run.key not in known]
            known.update(run.key for run in new)
            if wanted is None:  # the total already has all runs that may come
                progress.total -= len(plan.runs) - len(new)
            else:
                new = [run for run in new if wanted(run)]
                progress.total += len(new)
            finished = tracking.finished
            unfinished = [run for run in new if run.key not in finished]
            progress.finished += len(new) - len(unfinished)
            missing[plan.stage] += unfinished
        return missing["tune"], missing["final"]

    return more


def prepare_all(runs: list[Run], home: Home) -> dict[str, Prepared]:
    """The data of these runs, each encoded once, by `Run.data_keys`."""
    prepared: dict[str, Prepared] = {}
    for run in runs:
        for key, task in run.data_keys.items():
            if key not in prepared:
                model, length = run.cell.model, run.recipe.max_length
                prepared[key] = prepare_once(task.load(), model, length, home.encoded)
    return prepared


def _starts_ray(address: str | None) -> bool:
    """Whether Ray is to be started on this machine: no cluster is named, and none runs here."""
    if address == "local":  # Ray's word for "always start one"
        return True
    # Ray writes this file when a cluster starts, and reads it to find a running one.
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    running = Path(folder, "ray", "ray_current_cluster").exists()
    return address is None and not running


def _configure_ray(local: bool, *, verbose: bool) -> None:
    """Set what Ray and Tune read from the environment when they are imported.

    The user's own settings take precedence.
    """
    settings = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # resuming goes by keys
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the study at once; it resumes by keys
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers resolve relative paths as the driver does
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keep CUDA_VISIBLE_DEVICES where no GPU is used
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # the queue decides what is tried again
    }
    if not verbose:
        settings["RAY_AIR_NEW_OUTPUT"] = "0"
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # `faults` classifies its errors
    if local:
        # The only setting with which Ray's servers listen on loopback alone, on every system.
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    for name, value in settings.items():
        os.environ.setdefault(name, value)
