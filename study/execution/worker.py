"""A worker: a run's spec in, a parcel for the driver out."""

import json
import math
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from ray import tune
from torch import nn

from study.core.paths import CHECKPOINTS, HANGS
from study.core.provenance import versions
from study.core.spec import SpecError
from study.execution import cluster, machines
from study.execution.faults import NO_MEMORY, Cause, Fault, MachineRefusedError
from study.execution.saved_models import save
from study.execution.watchdog import Watchdog
from study.models.loading import Loaded
from study.models.model import Model
from study.models.transport import unpacked
from study.planning.runs import Run, run_from
from study.tasks.kinds import Kind
from study.training.checkpoint import ResumableCheckpoint
from study.training.prepare import Prepared
from study.training.result import packed
from study.training.train import Outcome, train

KEPT_MODELS = 2  # checkpoints a worker keeps in memory; runs come seed by seed over all models
KEPT_DATA = 4


class Weights(NamedTuple):
    """A checkpoint as the driver has it.

    Attributes:
        identity: Its fingerprint.
        files: Object reference to its files, for machines that lack them; None for the hub's.
    """

    identity: str
    files: Any


@dataclass(frozen=True)
class Shared:
    """What all runs of a study share.

    Attributes:
        data: Object references to the prepared data, by `Run.data_key`.
        versions: The driver's, where workers may be on other machines; else empty.
        weights: By model, likewise.
        gpus: Share of a GPU per run; 0 trains on the CPU.
        folder: The study's own; a machine that lacks it saves no run's place and keeps no model.
        checkpoint_seconds: From one save of a run's place to the next.
        hang_seconds: Without progress, after which a worker ends itself.
    """

    data: Mapping[str, Any]
    versions: str
    weights: Mapping[str, Weights]
    gpus: float
    folder: Path
    checkpoint_seconds: float
    hang_seconds: float

    def checkpoint(self, key: str) -> Path:
        """The folder where a run is saved on the way."""
        return self.folder / CHECKPOINTS / key

    def hang(self, key: str) -> Path:
        """Where a worker leaves word that a run made no progress."""
        return self.folder / HANGS / f"{key}.txt"


class Worker(tune.Trainable):  # type: ignore[misc]  # Ray has no types here
    """A process that does one run after another; imports, data and checkpoints stay loaded."""

    def setup(self, config: dict[str, Any], *, shared: Shared) -> None:
        """Take what all runs share.

        Args:
            config: The first run's key, its spec as JSON, and more, see `RunSearcher`.
            shared: The same for every run.

        Raises:
            RuntimeError: If this machine, which may have come late, has other versions.
        """
        if others := machines.other_versions(versions(), shared.versions):
            raise RuntimeError(f"{socket.gethostname()} {'; '.join(others)}")
        self._config = config
        self._shared = shared
        self._data: dict[str, Prepared] = {}
        self._loaded: dict[tuple[Any, ...], Loaded] = {}
        self._device = torch.device("cuda" if shared.gpus else "cpu")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next run."""
        self._config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Do the run.

        Returns:
            A `parcel`, or, where the run failed without harm to this process, the `fault`: such a
            run has no outcome and is missing. One that must not begin any more is `held`.
        """
        if cluster.is_held(self._config["cell"]):
            return {"done": True, "held": True}
        started, shared = time.time(), self._shared
        try:
            with Watchdog(shared.hang_seconds, shared.hang(self._config["key"])) as watchdog:
                run = run_from(json.loads(self._config["spec"]))
                data = self._prepared(run)
                loaded = self._checkpoint(run, data.kind)
                checkpoints = self._checkpoints(watchdog)
                outcome, model = train(
                    run.setting(data.kind), data.splits, loaded, self._device, checkpoints
                )
                not_kept = ""
                if self._config["keep"] and outcome.outcome == "completed":
                    try:
                        self._keep(model, loaded, run, outcome)
                    except OSError as error:  # the outcome is whole: `study export` trains again
                        not_kept = f"{type(error).__name__}: {error}"
        except torch.AcceleratorError:
            raise  # the device's context is lost with it: Tune starts another process
        except MachineRefusedError as error:
            return {"done": True, "fault": Fault("unfit", str(error), traceback.format_exc())}
        except Exception as error:  # told to the driver; the process is sound for the next run
            cause: Cause = "code"
            if _out_of_memory(error):
                cause = "memory"
                self._forget()
            reason = f"{type(error).__name__}: {error}"
            return {"done": True, "fault": Fault(cause, reason, traceback.format_exc())}
        resumed, ended = checkpoints.resumed, time.time()
        parcel = packed(
            outcome, data, started=started, ended=ended, resumed=resumed, not_kept=not_kept
        )
        return {"done": True, "parcel": parcel}

    def _keep(self, model: nn.Module, loaded: Loaded, run: Run, outcome: Outcome) -> None:
        folder = Path(self._config["keep"])  # named by the run's key
        if not self._shared.folder.is_dir():  # a machine that came late
            raise OSError(f"{socket.gethostname()} does not share {self._shared.folder}")
        save(model, loaded, run, outcome, folder, key=folder.name)

    def _checkpoints(self, watchdog: Watchdog) -> ResumableCheckpoint:
        """Where the run is saved on the way; the driver clears it when the outcome is safe."""
        key, shared = self._config["key"], self._shared
        every = shared.checkpoint_seconds if shared.folder.is_dir() else math.inf
        return ResumableCheckpoint(shared.checkpoint(key), every, key, heartbeat=watchdog.beat)

    def _prepared(self, run: Run) -> Prepared:
        if run.data_key not in self._data:
            while len(self._data) >= KEPT_DATA:
                self._data.pop(next(iter(self._data)))
            self._data[run.data_key] = ray.get(self._shared.data[run.data_key])
        return self._data[run.data_key]

    def _checkpoint(self, run: Run, kind: Kind) -> Loaded:
        key = (run.cell.model, kind)
        if key not in self._loaded:
            while len(self._loaded) >= KEPT_MODELS:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[key] = Loaded(self._at_hand(run.cell.model), kind)
        return self._loaded[key]

    def _at_hand(self, model: Model) -> Model:
        """The model with a checkpoint that this machine has, the same as the driver's.

        Raises:
            MachineRefusedError: If it is another, or absent and cannot be had.
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

    def _forget(self) -> None:
        """Give back all memory that can be had again."""
        self._loaded.clear()
        self._data.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _out_of_memory(error: Exception) -> bool:
    """Whether a GPU's or the machine's memory did not suffice; torch has a class for some cases."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        sign in str(error) for sign in NO_MEMORY
    )
