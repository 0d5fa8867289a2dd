"""A worker: a run's spec in, a parcel for the driver out."""

import json
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from study.data import Prepared
from study.keeping import save
from study.kinds import Kind
from study.models import Loaded
from study.parcel import packed
from study.study import Run, run_from
from study.train import train

KEPT_MODELS = 2  # checkpoints a worker keeps in memory; runs come seed by seed over all models


class Worker(tune.Trainable):  # type: ignore[misc]  # Ray has no types here
    """A process that does one run after another; imports, data and checkpoints stay loaded."""

    def setup(
        self,
        config: dict[str, Any],
        *,
        data: Mapping[str, Any],
        gpus: float,
    ) -> None:
        """Take what all runs share.

        Args:
            config: The first run's key and, as JSON, its spec.
            data: Object references to the prepared data, by `Run.data_key`.
            gpus: Share of a GPU per run; 0 trains on the CPU.
        """
        self._spec: str = config["spec"]
        self._keep: str = config["keep"]
        self._references = data
        self._data: dict[str, Prepared] = {}
        self._loaded: dict[tuple[Any, ...], Loaded] = {}
        self._device = torch.device("cuda" if gpus else "cpu")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next run."""
        self._spec, self._keep = new_config["spec"], new_config["keep"]
        return True

    def step(self) -> dict[str, Any]:
        """Do the run.

        Returns:
            A `parcel`, or, where the run's own code failed, the `problem`: such a run has no
            outcome and is missing.
        """
        started = time.time()
        try:
            run = run_from(json.loads(self._spec))
            data = self._prepared(run)
            loaded = self._checkpoint(run, data.kind)
            outcome, model = train(run.setting(data.kind), data.splits, loaded, self._device)
            if self._keep and outcome.outcome == "completed":
                folder = Path(self._keep)  # named by the run's key
                save(model, loaded, run, outcome, folder, key=folder.name)
        except torch.AcceleratorError:
            raise  # the device's context is lost with it: Tune starts another process
        except Exception as error:  # told to the driver; the process is sound for the next run
            problem = f"{type(error).__name__}: {error}"
            trace = traceback.format_exc()
            return {"done": True, "problem": {"reason": problem, "traceback": trace}}
        return {"done": True, "parcel": packed(outcome, data, started=started, ended=time.time())}

    def _prepared(self, run: Run) -> Prepared:
        if run.data_key not in self._data:
            self._data[run.data_key] = ray.get(self._references[run.data_key])
        return self._data[run.data_key]

    def _checkpoint(self, run: Run, kind: Kind) -> Loaded:
        key = (run.cell.model, kind)
        if key not in self._loaded:
            while len(self._loaded) >= KEPT_MODELS:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[key] = Loaded(run.cell.model, kind)
        return self._loaded[key]
