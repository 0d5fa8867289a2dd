"""A worker: takes a run's spec, and returns its result to the driver."""

import json
import math
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from ray import tune
from torch import nn

from study.core.paths import CHECKPOINTS, HANGS, UNTOUCHED
from study.core.provenance import versions
from study.core.spec import SpecError
from study.execution import cluster, machines
from study.execution.faults import Cause, Fault, MachineRefusedError
from study.execution.saved_models import save
from study.execution.watchdog import Watchdog
from study.models.loading import Loaded
from study.models.model import Model
from study.models.transport import unpacked
from study.planning.runs import Run, run_from
from study.tasks.kinds import Kind
from study.tasks.metrics import metric_named
from study.training.checkpoint import ResumableCheckpoint
from study.training.fit import Setting
from study.training.memory import out_of_memory
from study.training.prepare import Prepared
from study.training.result import packed
from study.training.retained import Skill, measured_before
from study.training.savers import MemorySavers
from study.training.train import Outcome, train

KEPT_MODELS = 2  # pretrained weights in memory; runs come seed by seed over all models
KEPT_DATA = 4


class Weights(NamedTuple):
    """The driver's copy of a model's pretrained weights.

    Attributes:
        identity: Fingerprint of the files.
        files: Object reference to the files, for machines that lack them; None if the weights are
            from the hub.
    """

    identity: str
    files: Any


@dataclass(frozen=True)
class Shared:
    """What all runs of a study share.

    Attributes:
        data: Object references to the prepared data, by `Run.data_keys`.
        versions: The driver's, if workers may be on other machines; else empty.
        weights: The driver's by model, likewise.
        gpus: GPUs per run, or a fraction of one; 0 trains on the CPU.
        folder: The study's own; a machine that lacks it writes no resumable checkpoints and keeps
            no models.
        checkpoint_seconds: Time between two resumable checkpoints of a run.
        hang_seconds: Time without progress after which a worker ends itself.
        savers: How runs need less memory.
    """

    data: Mapping[str, Any]
    versions: str
    weights: Mapping[str, Weights]
    gpus: float
    folder: Path
    checkpoint_seconds: float
    hang_seconds: float
    savers: MemorySavers = MemorySavers()

    def checkpoint(self, key: str) -> Path:
        """The folder of a run's resumable checkpoint."""
        return self.folder / CHECKPOINTS / key

    def hang(self, key: str) -> Path:
        """The file for the traceback of a worker whose run made no progress."""
        return self.folder / HANGS / f"{key}.txt"


class Worker(tune.Trainable):  # type: ignore[misc]  # Ray has no types here
    """A process that executes one run after another; imports, data and weights stay loaded."""

    def setup(self, config: dict[str, Any], *, shared: Shared) -> None:
        """Prepare for the first run.

        Args:
            config: The run, as `RunSearcher.suggest` returns it.
            shared: The same for every run.

        Raises:
            RuntimeError: If this machine, which may have joined late, has other versions.
        """
        if others := machines.other_versions(versions(), shared.versions):
            raise RuntimeError(f"{socket.gethostname()} {'; '.join(others)}")
        self._config = config
        self._shared = shared
        self._data: dict[str, Prepared] = {}
        self._loaded: dict[tuple[Any, ...], Loaded] = {}
        self._device = torch.device("cuda" if shared.gpus else "cpu")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next run, instead of a new process for it."""
        self._config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Execute the run.

        Returns:
            The `result`, a `RunResult`; or the `fault` that kept the run from an outcome, if this
            process can go on; or `blocked`, if the run must not begin any more.
        """
        if cluster.is_blocked(self._config["cell"]):
            return {"done": True, "blocked": True}
        started, shared = time.time(), self._shared
        try:
            with Watchdog(shared.hang_seconds, shared.hang(self._config["key"])) as watchdog:
                run = run_from(json.loads(self._config["spec"]))
                data = self._prepared(run.data_key)
                loaded = self._weights(run, data.kind)
                checkpoints = self._checkpoints(watchdog)
                setting = replace(run.setting(data.kind), savers=shared.savers)
                skills = self._skills(run, setting, loaded, watchdog)
                outcome, model = train(
                    setting, data.splits, loaded, self._device, checkpoints, skills
                )
                not_kept = ""
                if self._config["keep"] and outcome.outcome == "completed":
                    try:
                        self._keep(model, loaded, run, outcome)
                    except OSError as error:  # the outcome counts without it
                        not_kept = f"{type(error).__name__}: {error}"
        except torch.AcceleratorError:
            raise  # the CUDA context is lost: Tune starts another process
        except MachineRefusedError as error:
            return {"done": True, "fault": Fault("refused", str(error), traceback.format_exc())}
        except Exception as error:  # this process can execute the next run
            cause: Cause = "code"
            if out_of_memory(error):
                cause = "memory"
                self._free_memory()
            reason = f"{type(error).__name__}: {error}"
            return {"done": True, "fault": Fault(cause, reason, traceback.format_exc())}
        result = packed(
            outcome,
            data,
            started=started,
            ended=time.time(),
            resumed=checkpoints.resumed,
            not_kept=not_kept,
            memory_savers=shared.savers.text(),
        )
        return {"done": True, "result": result}

    def _keep(self, model: nn.Module, loaded: Loaded, run: Run, outcome: Outcome) -> None:
        folder = Path(self._config["keep"])  # named by the run's key
        if not self._shared.folder.is_dir():  # a machine that joined late
            raise OSError(f"{socket.gethostname()} does not share {self._shared.folder}")
        save(model, loaded, run, outcome, folder, key=folder.name)

    def _checkpoints(self, watchdog: Watchdog) -> ResumableCheckpoint:
        """The driver removes the checkpoints when the result is in the outbox."""
        key, shared = self._config["key"], self._shared
        every = shared.checkpoint_seconds if shared.folder.is_dir() else math.inf
        return ResumableCheckpoint(shared.checkpoint(key), every, key, heartbeat=watchdog.heartbeat)

    def _skills(
        self, run: Run, setting: Setting, loaded: Loaded, watchdog: Watchdog
    ) -> list[Skill]:
        """What the run is scored on beside its task, with the scores before training."""
        skills = []
        for task in run.cell.retains:
            data = self._prepared(run.key_of(task))
            metric = metric_named(task.metric)
            name = f"{task.name}.{metric.name}"
            skills.append(Skill(name, metric, data.kind, data.splits["test"]))
        if not skills:
            return skills
        shared, model = self._shared, run.cell.model
        weights = shared.weights.get(model.name)  # `_weights` has compared this machine's with it
        return measured_before(
            skills,
            setting,
            loaded,
            self._device,
            identity=weights.identity if weights else model.identity(),
            folder=shared.folder / UNTOUCHED if shared.folder.is_dir() else None,
            heartbeat=watchdog.heartbeat,
        )

    def _prepared(self, key: str) -> Prepared:
        if key not in self._data:
            while len(self._data) >= KEPT_DATA:
                self._data.pop(next(iter(self._data)))
            self._data[key] = ray.get(self._shared.data[key])
        return self._data[key]

    def _weights(self, run: Run, kind: Kind) -> Loaded:
        key = (run.cell.model, kind)
        if key not in self._loaded:
            while len(self._loaded) >= KEPT_MODELS:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[key] = Loaded(self._local(run.cell.model), kind)
        return self._loaded[key]

    def _local(self, model: Model) -> Model:
        """The model with a checkpoint on this machine that is the same as the driver's.

        Raises:
            MachineRefusedError: If this machine has another one, or none and cannot get it.
        """
        weights = self._shared.weights.get(model.name)
        if weights is None:
            return model
        try:
            model.folder()
        except SpecError as error:
            if weights.files is None:
                lacks = f"lacks model {model.name!r}: {error.mistakes[0].text}"
                raise MachineRefusedError(f"{socket.gethostname()} {lacks}") from error
            model = unpacked(model, ray.get(weights.files), weights.identity)
        if model.identity() != weights.identity:
            where = f"{socket.gethostname()}, {model.folder()}"
            raise MachineRefusedError(f"model {model.name!r} has other weights on {where}")
        return model

    def _free_memory(self) -> None:
        """Drop all cached weights and data."""
        self._loaded.clear()
        self._data.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
