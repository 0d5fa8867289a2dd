"""Ray Tune: a searcher hands out runs, warm workers execute them, a callback takes results."""

import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from study.core.paths import PROBLEMS
from study.core.provenance import versions
from study.execution import capacity, cluster, machines
from study.execution.capacity import Capacity, UnschedulableStopper
from study.execution.faults import ClusterError, Fault, classify
from study.execution.ray_internals import treat_all_losses_alike
from study.execution.session import Session
from study.execution.worker import Shared, Weights, Worker
from study.models import transport
from study.planning.runs import Run
from study.planning.study import Study
from study.tracking.entry import entry_of
from study.tracking.schema import NOT_KEPT
from study.training.prepare import Prepared

log = logging.getLogger(__name__)

treat_all_losses_alike()

WAVE = 1000  # runs given to one Tuner, which keeps every trial in memory until it ends
REFUSALS = 3  # consecutive runs that machines refused, after which no run begins any more
FULL_SECONDS = 2.0  # between two looks whether the outbox takes another result


def publish_inputs(
    runs: list[Run],
    data: Mapping[str, Prepared],
    study: Study,
    folder: Path,
    *,
    local: bool,
) -> Shared:
    """Check that the machines can execute the runs; put what the runs share into the object store.

    Args:
        runs: What is missing so far.
        data: Prepared data by `Run.data_keys`.
        study: Says what a run needs.
        folder: The study's own.
        local: Whether the cluster is this machine and will not grow.

    Raises:
        ClusterError: If a run fits on no machine, or one cannot execute it; with all reasons.
    """
    smallest, largest = needed(study, runs)
    capacity.check_fits(largest, local=local)
    weights: dict[str, Weights] = {}
    if not local:
        sent = [model.name for model in study.models if transport.is_local(model)]
        separate = machines.check_machines(study.models, sent, folder, smallest)
        if separate and study.keep != "none":
            raise ClusterError(
                f"{', '.join(separate)} cannot write to {folder}, where models are kept. Set "
                'STUDY_HOME to a folder that all machines share, or keep="none".'
            )
        weights = {
            model.name: Weights(
                model.identity(), ray.put(transport.packed(model)) if model.name in sent else None
            )
            for model in study.models
        }
    return Shared(
        data={key: ray.put(prepared) for key, prepared in data.items()},
        versions="" if local else versions(),
        weights=weights,
        gpus=study.gpus,
        folder=folder,
        checkpoint_seconds=study.checkpoint_minutes * 60,
        hang_seconds=study.hang_minutes * 60,
        savers=study.savers,
    )


def tune_all(session: Session, shared: Shared, *, workers: int | None, verbose: bool) -> None:
    """Execute all runs of the queue, wave by wave.

    Args:
        session: The study, its queue, and what takes the results.
        shared: What workers get.
        workers: Runs under way at once at most; None uses the whole cluster.
        verbose: Show Tune's own tables.
    """
    queue, progress = session.queue, session.progress
    trainable = tune.with_parameters(Worker, shared=shared)
    callback = ResultCallback(session, shared)
    progress.began = time.monotonic()
    while not queue.is_over:
        smallest, _ = needed(session.study, queue.runs.values())
        # Tune keeps a folder per run and its own state there. Neither is read again, since a study
        # resumes by the keys of its finished runs.
        with tempfile.TemporaryDirectory(prefix="study-tune-") as scratch:
            tuner = tune.Tuner(
                tune.with_resources(trainable, lambda config: config["resources"]),
                tune_config=tune.TuneConfig(
                    search_alg=RunSearcher(session, Capacity(smallest, workers)),
                    num_samples=-1,
                    max_concurrent_trials=WAVE,  # `RunSearcher` has a limit that changes
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name=session.study.name,
                    storage_path=scratch,
                    verbose=1 if verbose else 0,
                    callbacks=[callback],
                    stop=UnschedulableStopper(progress, smallest),
                    failure_config=tune.FailureConfig(max_failures=0),  # the queue retries
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            )
            tuner.fit()
        queue.put_all_back()
        progress.resources.clear()
        progress.exclusive.clear()


def needed(study: Study, runs: Iterable[Run]) -> tuple[dict[str, float], dict[str, float]]:
    """What the smallest and the largest of these runs take of a machine."""
    by_threads = {run.recipe.threads: run for run in runs}
    smallest, largest = by_threads[min(by_threads)], by_threads[max(by_threads)]
    return _resources(study, smallest), _resources(study, largest)


def _resources(study: Study, run: Run, *, exclusive: bool = False) -> dict[str, float]:
    """What a run takes, by the name of Ray's resource; `exclusive` takes a machine to itself."""
    need = {"CPU": float(run.recipe.threads), "GPU": study.gpus, **study.needs}
    if not exclusive:
        return need
    # All cores keep other runs away, whatever they need.
    return need | {"CPU": capacity.cores_of_largest(need), "GPU": float(math.ceil(study.gpus))}


class RunSearcher(Searcher):  # type: ignore[misc]  # Ray has no types here
    """Hands out the queue's runs, one wave of them; Tune decides when."""

    def __init__(self, session: Session, limit: Callable[[], int]) -> None:
        """Begin a wave.

        Args:
            session: Has the queue.
            limit: Returns the number of runs that may be under way now.
        """
        super().__init__()
        self._session, self._limit, self._left = session, limit, WAVE

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Ignore Tune's fixed limit; `suggest` keeps to one that grows with the cluster."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next run; None, to be asked again, at the limit or while more runs may come."""
        session, queue, progress = self._session, self._session.queue, self._session.progress
        if len(progress.resources) >= self._limit():
            return None
        run = queue.next() if self._left else None
        if run is None:
            return None if self._left and queue.may_get_more else Searcher.FINISHED
        self._left -= 1
        exclusive = queue.needs_own_machine(run)
        resources = _resources(session.study, run, exclusive=exclusive)
        progress.resources[trial_id] = resources
        if exclusive:
            progress.exclusive.add(trial_id)
        final = session.tracking.stages.stage(run.key) == "final"
        folder = session.models.folder(run) if final else None
        return {
            "key": run.key,
            "cell": run.cell.name,
            "spec": json.dumps(run.spec()),
            "keep": "" if folder is None else str(folder),
            "resources": resources,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note that a run is no longer under way; `ResultCallback` tells the queue how it ended."""
        self._session.progress.resources.pop(trial_id, None)
        self._session.progress.exclusive.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a resumed study asks MLflow which runs are missing."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, likewise."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it beside its own state, which is never read back


class ResultCallback(tune.Callback):  # type: ignore[misc]  # Ray has no types here
    """Takes each run's result or fault from Tune; results go to the outbox."""

    def __init__(self, session: Session, shared: Shared) -> None:
        self._session, self._shared = session, shared
        self._queue, self._tracking = session.queue, session.tracking
        self._progress, self._notifier = session.progress, session.notifier
        self._warned = False  # that a model was not kept
        self._refusals = 0

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Count the runs under way; this one is not yet marked as running."""
        others = sum(other.status == Trial.RUNNING and other is not trial for other in trials)
        self._progress.workers = max(self._progress.workers, 1 + others)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Take what a worker returned, see `Worker.step`."""
        run = self._queue.runs[trial.config["key"]]
        # Taken out of Tune's result, which Tune keeps and writes to its own files.
        if done := result.pop("result", None):
            entry = entry_of(run, done, faults=self._queue.faults.get(run.key, {}).items())
            self._tracking.put(entry, done.predictions)
            # Not before the result is in the outbox: until then the run may have to be resumed.
            shutil.rmtree(self._shared.checkpoint(run.key), ignore_errors=True)
            if trial.config["keep"]:
                self._session.models.settle(run, done.outcome)
            if why := done.about.get(NOT_KEPT):
                self._not_kept(run, why)
            self._progress.finished += 1
            self._progress.seconds.append(done.ended - done.started)
            self._refusals = 0
            self._queue.succeeded(run, entry.record().dev)
            self._wait_for_outbox()
        elif fault := result.pop("fault", None):
            self._lost(run, fault)
        elif result.pop("blocked", None):
            self._queue.put_back(run)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Classify why a worker died, or could not be set up."""
        run = self._queue.runs[trial.config["key"]]
        file, hang_trace = self._shared.hang(run.key), ""
        with suppress(OSError):  # a disk that fails takes workers with it
            hang_trace = file.read_text(errors="replace")
            file.unlink()
        # Not `trial.get_error()`, which reads a copy that Tune makes later.
        error = Path(trial.error_file).read_text(errors="replace") if trial.error_file else ""
        self._lost(run, classify(error, hang_trace))

    def _wait_for_outbox(self) -> None:
        """Block Tune while the outbox is full; Tune calls callbacks from its main loop."""
        while self._tracking.full and not self._progress.closed:
            self._progress.trouble = f"{self._tracking.outbox.folder} cannot take more runs"
            self._notifier.trouble("outbox", self._progress.trouble)
            time.sleep(FULL_SECONDS)
        self._progress.trouble = ""

    def _not_kept(self, run: Run, why: str) -> None:
        text = f"the model of {run.name} is not kept: {why}. `study export` can train it again"
        if not self._warned:  # a full disk would log it for every run; all of them have the tag
            log.warning("%s. Further models that are not kept have the tag `not_kept`.", text)
        self._warned = True
        self._notifier.trouble("models", text)

    def _refused(self, run: Run, why: str) -> None:
        """Put back a run that a machine refused; after several refusals begin no more runs.

        Such a machine is free again at once, and would get every run that waits.
        """
        self._queue.put_back(run)
        self._refusals += 1
        if self._refusals == REFUSALS:
            self._progress.closed = f"a machine cannot execute runs of this study: {why}"
            cluster.block(self._progress.blocked)
            self._notifier.trouble("machine", self._progress.closed)

    def _lost(self, run: Run, fault: Fault) -> None:
        folder = self._shared.folder / PROBLEMS
        with suppress(OSError):  # the disk may be full; the reason is kept without it
            folder.mkdir(exist_ok=True)
            file = folder / f"{run.cell.key}.txt"
            file.write_text(f"{run.name}\n\n{fault.trace}\n", "utf-8", "backslashreplace")
            self._progress.traces = folder
        if fault.cause == "refused":
            self._refused(run, fault.reason)
            return
        paused = len(self._progress.paused)
        if not self._queue.failed(run, fault):
            self._tracking.note_missing(run, fault.reason)
        if len(self._progress.paused) > paused:
            cluster.block(self._progress.blocked)
            self._notifier.trouble(run.cell.key, f"{run.cell.name} is paused: {fault.reason}")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as for `RunSearcher`
