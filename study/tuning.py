"""Ray Tune: a searcher hands out runs, warm workers do them, a callback takes the outcomes."""

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from study.data import Prepared
from study.feed import Feed, Progress
from study.keeping import Shelf
from study.parcel import entry_of
from study.spec import Mistake, SpecError
from study.stages import Stages
from study.study import Run, Study
from study.tracking import Tracking
from study.worker import Worker

RETRIES = 2  # after a worker or its machine died


def start(address: str | None, *, verbose: bool) -> None:
    """Connect to a Ray cluster, or start one here that listens on loopback only.

    Args:
        address: A cluster; None takes the one that runs on this machine, or starts one.
        verbose: Show Ray's own messages.
    """
    ray.init(
        address=address,
        include_dashboard=False,
        log_to_driver=verbose,
        logging_level=logging.INFO if verbose else logging.ERROR,
        runtime_env={"env_vars": _worker_environment()},
    )


def end() -> None:
    """Leave the cluster; one that `start` started ends with it."""
    ray.shutdown()


def slots(threads: int, gpus: float) -> int:
    """Runs that the cluster can hold at once, as it is now; an autoscaler may add to it.

    Args:
        threads: CPUs per run.
        gpus: Share of a GPU per run.
    """
    resources = ray.cluster_resources()
    held = int(resources.get("CPU", 0) // threads)
    return min(held, int(resources.get("GPU", 0) / gpus)) if gpus else held


def tune_all(
    feed: Feed,
    data: Mapping[str, Prepared],
    tracking: Tracking,
    progress: Progress,
    *,
    study: Study,
    shelf: Shelf,
    workers: int | None,
    verbose: bool,
    alone: bool,
) -> None:
    """Do all of the feed's runs.

    Args:
        feed: Which runs, in which order.
        data: Prepared data by `Run.data_key`.
        tracking: Takes the outcomes.
        progress: Kept up to date.
        study: Gives the share of a GPU, and its name.
        shelf: Where trained models go.
        workers: Runs under way at once at most; None uses the whole cluster.
        verbose: Show Tune's own tables.
        alone: Whether the cluster is this machine and will not grow.

    Raises:
        SpecError: If no run fits on this machine.
    """
    runs = list(feed.runs.values())
    threads = max(run.recipe.threads for run in runs)
    room = slots(threads, study.gpus)
    if alone and room == 0:
        has = {name: ray.cluster_resources().get(name, 0) for name in ("CPU", "GPU")}
        text = f"a run needs {threads} CPUs and {study.gpus:g} GPUs; this machine has "
        text += f"{has['CPU']:g} and {has['GPU']:g}."
        raise SpecError(f"study {study.name!r}", [Mistake("recipe.threads, gpus", text)])
    room = max(1, room)
    progress.workers = min(workers or room, room, progress.missing)
    trainable = tune.with_parameters(
        Worker,
        data={key: ray.put(made) for key, made in data.items()},
        gpus=study.gpus,
    )
    # Tune keeps a folder per run and its own state; resuming goes by keys, so nobody reads it.
    with tempfile.TemporaryDirectory(prefix="study-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": threads, "gpu": study.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=Supply(feed, tracking.stages, shelf),
                num_samples=-1,
                # A few more than run at once, so that a free worker never waits for the driver.
                max_concurrent_trials=workers or 2 * room + 2,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=study.name,
                storage_path=scratch,
                verbose=1 if verbose else 0,
                callbacks=[Collect(feed, tracking, progress, shelf)],
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        progress.began = time.monotonic()
        tuner.fit()


class Supply(Searcher):  # type: ignore[misc]  # Ray has no types here
    """Hands out the feed's runs; Tune decides when."""

    def __init__(self, feed: Feed, stages: Stages, shelf: Shelf) -> None:
        super().__init__()
        self._feed, self._stages, self._shelf = feed, stages, shelf

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        """The next run; None, to be asked again, while one under way can still bring others."""
        run = self._feed.next()
        if run is not None:
            final = self._stages.stage(run.key) == "final"
            place = self._shelf.place(run) if final else None
            return {
                "key": run.key,
                "spec": json.dumps(run.spec()),
                "keep": "" if place is None else str(place),
            }
        return None if self._feed.may_get_more else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing to learn here: `Collect` tells the feed."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a resumed study asks MLflow which runs are missing."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it beside its own state, which is never read back


class Collect(tune.Callback):  # type: ignore[misc]  # Ray has no types here
    """Takes each outcome out of Tune's result and puts it in the outbox."""

    def __init__(self, feed: Feed, tracking: Tracking, progress: Progress, shelf: Shelf) -> None:
        self._feed, self._tracking, self._progress = feed, tracking, progress
        self._shelf = shelf

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A run came back, with an outcome or a problem."""
        run = self._feed.runs[trial.config["key"]]
        if parcel := result.pop("parcel", None):
            entry = entry_of(run, parcel)
            self._tracking.put(entry, parcel.predictions)
            if trial.config["keep"]:
                self._shelf.settle(run, parcel.outcome)
            self._progress.finished += 1
            self._progress.seconds.append(parcel.ended - parcel.started)
            self._feed.succeeded(run, entry.record().dev)
        elif problem := result.pop("problem", None):
            self._lost(run, problem["reason"], problem["traceback"])

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A worker died; Tune starts its run again."""
        self._progress.retried += 1

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A worker died, or could not be set up, once too often."""
        told = str(trial.get_pickled_error() or trial.get_error() or "")
        reason = "its worker died again and again, perhaps for want of memory"
        if "ActorDiedError" not in told and told.strip():
            reason = told.strip().splitlines()[-1]
        self._lost(self._feed.runs[trial.config["key"]], reason, told)

    def _lost(self, run: Run, reason: str, trace: str) -> None:
        folder = self._tracking.outbox.folder.parent / "problems"
        folder.mkdir(exist_ok=True)
        (folder / f"{run.cell.key}.txt").write_text(f"{run.name}\n\n{trace}\n")
        self._progress.traces = folder
        self._feed.failed(run, reason)
        self._tracking.missing(run, reason)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _worker_environment() -> dict[str, str]:
    """Workers find the modules that the driver finds, and keep one thread per library."""
    return {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path)),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
