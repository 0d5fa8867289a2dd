"""Ray Tune: a searcher hands out runs, warm workers do them, a callback takes the outcomes."""

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
from ray import exceptions, tune
from ray.air.execution._internal import actor_manager
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial
from ray.tune.experiment import trial as tune_trial
from ray.tune.search import Searcher

from study.core.paths import PROBLEMS
from study.core.provenance import versions
from study.execution import capacity, cluster, machines
from study.execution.capacity import Capacity, UnschedulableStopper
from study.execution.faults import ClusterError, Fault, death
from study.execution.notify import Notifier
from study.execution.queue import Progress, RunQueue
from study.execution.saved_models import ModelStore
from study.execution.worker import Shared, Weights, Worker
from study.models import transport
from study.planning.runs import Run
from study.planning.stages import Stages
from study.planning.study import Study
from study.tracking.schema import entry_of
from study.tracking.writer import TrackingWriter
from study.training.prepare import Prepared

log = logging.getLogger(__name__)

# Ray 2.60's Tune ends all of a study where a worker is lost in another way than the first of these,
# such as Ray's own watch over a machine's memory.
LOST = (
    exceptions.RayActorError,
    exceptions.OutOfMemoryError,
    exceptions.WorkerCrashedError,
    exceptions.ObjectLostError,
)
for _module in (actor_manager, tune_controller, tune_trial):
    _module.RayActorError = LOST
for _kind in LOST[1:]:
    _kind.preempted = False

WAVE = 1000  # runs handed to one Tuner: its driver remembers every one until it ends
REFUSALS = 3  # in a row, by machines that are not fit, after which no run begins any more
FULL_SECONDS = 2.0  # between two looks whether there is room for another outcome


def share(
    runs: list[Run],
    data: Mapping[str, Prepared],
    study: Study,
    folder: Path,
    *,
    alone: bool,
) -> Shared:
    """Make sure that the machines can do the runs, and lay out what all of these share.

    Args:
        runs: What is missing so far.
        data: Prepared data by `Run.data_key`.
        study: What a run needs.
        folder: The study's own.
        alone: Whether the cluster is this machine and will not grow.

    Raises:
        ClusterError: If a run fits on no machine, or a machine cannot do it; with all reasons.
    """
    least, most = needed(study, runs)
    capacity.check_room(most, alone=alone)
    weights: dict[str, Weights] = {}
    if not alone:
        sent = [model.name for model in study.models if transport.is_local(model)]
        apart = machines.check_machines(study.models, sent, folder, least)
        if apart and study.keep != "none":
            raise ClusterError(
                f"{', '.join(apart)} cannot write to {folder}, where models are kept. Set "
                'STUDY_HOME to a folder that all machines share, or keep="none".'
            )
        weights = {
            model.name: Weights(
                model.identity(), ray.put(transport.packed(model)) if model.name in sent else None
            )
            for model in study.models
        }
    return Shared(
        data={key: ray.put(made) for key, made in data.items()},
        versions="" if alone else versions(),
        weights=weights,
        gpus=study.gpus,
        folder=folder,
        checkpoint_seconds=study.checkpoint_minutes * 60,
        hang_seconds=study.hang_minutes * 60,
    )


def tune_all(
    feed: RunQueue,
    tracking: TrackingWriter,
    progress: Progress,
    *,
    study: Study,
    shared: Shared,
    shelf: ModelStore,
    notice: Notifier,
    workers: int | None,
    verbose: bool,
) -> None:
    """Do all of the feed's runs, wave by wave.

    Args:
        feed: Which runs, in which order.
        tracking: Takes the outcomes.
        progress: Kept up to date.
        study: What a run needs, and its name.
        shared: What workers get.
        shelf: Where trained models go.
        notice: Told of trouble.
        workers: Runs under way at once at most; None uses the whole cluster.
        verbose: Show Tune's own tables.
    """
    trainable = tune.with_parameters(Worker, shared=shared)
    collect = ResultCallback(feed, tracking, progress, shelf, shared, notice)
    progress.began = time.monotonic()
    while not feed.is_over:
        smallest, _ = needed(study, feed.runs.values())
        room = Capacity(smallest, workers)
        # Tune keeps a folder per run and its own state; resuming goes by keys, so nobody reads it.
        with tempfile.TemporaryDirectory(prefix="study-tune-") as scratch:
            tuner = tune.Tuner(
                tune.with_resources(trainable, lambda config: config["takes"]),
                tune_config=tune.TuneConfig(
                    search_alg=RunSearcher(feed, progress, study, tracking.stages, shelf, room),
                    num_samples=-1,
                    max_concurrent_trials=WAVE,  # as many as `RunSearcher` gives
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name=study.name,
                    storage_path=scratch,
                    verbose=1 if verbose else 0,
                    callbacks=[collect],
                    stop=UnschedulableStopper(progress, smallest),
                    failure_config=tune.FailureConfig(max_failures=0),  # the feed decides
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            )
            tuner.fit()
        feed.recall()
        progress.takes.clear()
        progress.alone.clear()


def needed(study: Study, runs: Iterable[Run]) -> tuple[dict[str, float], dict[str, float]]:
    """What the smallest and the largest of these runs take of a machine."""
    by_threads = {run.recipe.threads: run for run in runs}
    smallest, largest = by_threads[min(by_threads)], by_threads[max(by_threads)]
    return _takes(study, smallest), _takes(study, largest)


def _takes(study: Study, run: Run, *, alone: bool = False) -> dict[str, float]:
    """What a run is given, by the name of Ray's resource: of one machine, or all of it."""
    need = {"CPU": float(run.recipe.threads), "GPU": study.gpus, **study.needs}
    whole = {"CPU": capacity.whole(need), "GPU": float(math.ceil(study.gpus))} if alone else {}
    return need | whole


class RunSearcher(Searcher):  # type: ignore[misc]  # Ray has no types here
    """Hands out the feed's runs, one wave of them; Tune decides when."""

    def __init__(
        self,
        feed: RunQueue,
        progress: Progress,
        study: Study,
        stages: Stages,
        shelf: ModelStore,
        room: Callable[[], int],
    ) -> None:
        super().__init__()
        self._feed, self._progress, self._study = feed, progress, study
        self._stages, self._shelf = stages, shelf
        self._room, self._left = room, WAVE

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Tune's limit is fixed; `suggest` keeps to one that grows with the cluster."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next run; None, to be asked again, while there is no room or others may come."""
        if len(self._progress.takes) >= self._room():
            return None
        run = self._feed.next() if self._left else None
        if run is not None:
            self._left -= 1
            alone = self._feed.alone(run)
            takes = _takes(self._study, run, alone=alone)
            self._progress.takes[trial_id] = takes
            if alone:
                self._progress.alone.add(trial_id)
            final = self._stages.stage(run.key) == "final"
            place = self._shelf.place(run) if final else None
            return {
                "key": run.key,
                "cell": run.cell.name,
                "spec": json.dumps(run.spec()),
                "keep": "" if place is None else str(place),
                "takes": takes,
            }
        return None if self._left and self._feed.may_get_more else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """There is room for another; `ResultCallback` tells the feed how it ended."""
        self._progress.takes.pop(trial_id, None)
        self._progress.alone.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a resumed study asks MLflow which runs are missing."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it beside its own state, which is never read back


class ResultCallback(tune.Callback):  # type: ignore[misc]  # Ray has no types here
    """Takes each outcome out of Tune's result and puts it in the outbox."""

    def __init__(
        self,
        feed: RunQueue,
        tracking: TrackingWriter,
        progress: Progress,
        shelf: ModelStore,
        shared: Shared,
        notice: Notifier,
    ) -> None:
        self._feed, self._tracking, self._progress = feed, tracking, progress
        self._shelf, self._shared, self._notice = shelf, shared, notice
        self._said = False  # that a model is not kept
        self._refusals = 0

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A run came back, with an outcome or a fault."""
        busy = sum(each.status == Trial.RUNNING for each in trials)
        self._progress.workers = max(self._progress.workers, busy)
        run = self._feed.runs[trial.config["key"]]
        if parcel := result.pop("parcel", None):
            entry = entry_of(run, parcel, faults=self._feed.faults.get(run.key, {}).items())
            self._tracking.put(entry, parcel.predictions)
            shutil.rmtree(self._shared.checkpoint(run.key), ignore_errors=True)
            if trial.config["keep"]:
                self._shelf.settle(run, parcel.outcome)
            if why := parcel.about.get("not_kept"):
                self._not_kept(run, why)
            self._progress.finished += 1
            self._progress.seconds.append(parcel.ended - parcel.started)
            self._refusals = 0
            self._feed.succeeded(run, entry.record().dev)
            self._wait_for_room()
        elif fault := result.pop("fault", None):
            self._lost(run, fault)
        elif result.pop("held", None):
            self._feed.held(run)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A worker died, or could not be set up."""
        run = self._feed.runs[trial.config["key"]]
        hang, hung = self._shared.hang(run.key), ""
        with suppress(OSError):  # a disk that fails takes workers with it
            hung = hang.read_text()
            hang.unlink()
        file = trial.error_file  # `get_error` reads a copy that is made later
        told = Path(file).read_text() if file else ""
        self._lost(run, death(told, hung))

    def _wait_for_room(self) -> None:
        """While too much waits for the disk or for MLflow, hold up all of Tune."""
        while self._tracking.full and not self._progress.closed:
            self._progress.trouble = f"{self._tracking.outbox.folder} cannot take more runs"
            self._notice.trouble("outbox", self._progress.trouble)
            time.sleep(FULL_SECONDS)
        self._progress.trouble = ""

    def _not_kept(self, run: Run, why: str) -> None:
        told = f"the model of {run.name} is not kept: {why}. `study export` can train it again"
        if not self._said:  # a full disk would say it of every run; all of them have a tag
            log.warning("%s. More like it have the tag `not_kept`.", told)
        self._said = True
        self._notice.trouble("models", told)

    def _refused(self, run: Run, why: str) -> None:
        """A machine is not fit: it would be free at once for every run that still waits."""
        self._feed.held(run)
        self._refusals += 1
        if self._refusals == REFUSALS:
            self._progress.closed = f"a machine is not fit for this study: {why}"
            cluster.hold(self._progress.held)
            self._notice.trouble("machine", self._progress.closed)

    def _lost(self, run: Run, fault: Fault) -> None:
        folder = self._shared.folder / PROBLEMS
        with suppress(OSError):  # the disk may be full: the reason alone goes on
            folder.mkdir(exist_ok=True)
            (folder / f"{run.cell.key}.txt").write_text(f"{run.name}\n\n{fault.trace}\n")
            self._progress.traces = folder
        if fault.cause == "unfit":
            self._refused(run, fault.reason)
            return
        paused = len(self._progress.paused)
        if not self._feed.failed(run, fault):
            self._tracking.missing(run, fault.reason)
        if len(self._progress.paused) > paused:
            cluster.hold(self._progress.held)
            self._notice.trouble(run.cell.key, f"{run.cell.name} is paused: {fault.reason}")

    def __getstate__(self) -> dict[str, Any]:
        return {}
