"""What happens on a worker: a run's spec in, a parcel for the outbox out."""

import importlib.metadata
import io
import platform
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ray import tune

from study.data import Encoded
from study.models import Loaded
from study.outbox import Entry
from study.study import Run, run_from
from study.train import Outcome, train

KEPT_MODELS = 2  # checkpoints a worker keeps in memory; runs come seed by seed over all models


class Worker(tune.Trainable):  # type: ignore[misc]  # Ray has no types here
    """A process that does one run after another; imports, data and checkpoints stay loaded."""

    def setup(
        self,
        config: dict[str, Any],
        *,
        specs: Mapping[str, Any],
        data: Mapping[str, Any],
        gpus: float,
    ) -> None:
        """Take what all runs share.

        Args:
            config: The first run's key.
            specs: Every run's spec by key.
            data: Object references to the tokenised splits, by `Run.data_key`.
            gpus: Share of a GPU per run; 0 trains on the CPU.
        """
        self._key: str = config["key"]
        self._specs, self._references = specs, data
        self._data: dict[str, Mapping[str, Encoded]] = {}
        self._loaded: dict[tuple[Any, ...], Loaded] = {}
        self._device = torch.device("cuda" if gpus else "cpu")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next run."""
        self._key = new_config["key"]
        return True

    def step(self) -> dict[str, Any]:
        """Do the run.

        Returns:
            A `parcel` (entry as JSON, predictions as Parquet), or, where the run's own code
            failed, the `problem`: a run with a problem has no outcome and is missing.
        """
        started = time.time()
        try:
            run = run_from(self._specs[self._key])
            outcome, _ = train(run.job(), self._splits(run), self._checkpoint(run), self._device)
        except torch.AcceleratorError:
            raise  # the device's context is lost with it: Tune starts another process
        except (
            Exception
        ) as error:  # reported with its reason; the process is sound for the next run
            problem = f"{type(error).__name__}: {error}"
            trace = traceback.format_exc()
            return {"done": True, "problem": {"reason": problem, "traceback": trace}}
        entry = entry_of(run, outcome, started, time.time())
        predictions = predictions_of(outcome, self._splits(run), run.cell.task.load().labels)
        return {"done": True, "parcel": (entry.to_json(), predictions)}

    def _splits(self, run: Run) -> Mapping[str, Encoded]:
        if run.data_key not in self._data:
            self._data[run.data_key] = ray.get(self._references[run.data_key])
        return self._data[run.data_key]

    def _checkpoint(self, run: Run) -> Loaded:
        cell, job = run.cell, run.job()
        key = (cell.model, job.classes, cell.task.kind)
        if key not in self._loaded:
            while len(self._loaded) >= KEPT_MODELS:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[key] = Loaded(cell.model, outputs=job.classes or 1, kind=cell.task.kind)
        return self._loaded[key]


def entry_of(run: Run, outcome: Outcome, started: float, ended: float) -> Entry:
    """A finished run as MLflow will get it; times in Unix seconds."""
    metric = run.job().metric
    splits = run.cell.task.load().splits
    values = {
        "dev": outcome.dev,
        "test": outcome.test,
        "dev_floor": outcome.dev_floor,
        "test_floor": outcome.test_floor,
        **outcome.facts,
    }
    metrics = [(name, value, 0) for name, value in values.items()]
    for name, curve in outcome.curves.items():
        metrics += [(name, value, epoch) for epoch, value in enumerate(curve, start=1)]
    tags = {
        "outcome": outcome.outcome,
        "collapsed": ",".join(outcome.collapsed),
        "metric": metric.name,
        "higher_is_better": str(metric.higher_is_better).lower(),
        **{f"{name}_rows": str(len(split.ids)) for name, split in splits.items()},
        **{stream: str(number) for stream, number in run.seed._asdict().items()},
        "device": device_name(outcome.device),
        "host": socket.gethostname(),
        "versions": versions(),
    }
    params = {
        "task": run.cell.task.name,
        "model": run.cell.model.name,
        "configuration": run.cell.label,
        "seed": run.seed.label,
    }
    return Entry(
        key=run.key,
        cell=run.cell.key,
        name=run.name,
        tags=tags,
        params=params,
        metrics=[(name, value, step) for name, value, step in metrics if np.isfinite(value)],
        started=int(started * 1000),
        ended=int(ended * 1000),
        spec=run.spec(),
    )


def predictions_of(outcome: Outcome, data: Mapping[str, Encoded], labels: tuple[str, ...]) -> bytes:
    """Per-example predictions as Parquet: `split`, `id`, `label`, and a column per output.

    Returns:
        Outputs are logits named `logit_<class>`, or `value` for regression; empty bytes where the
        run diverged.
    """
    if not outcome.logits:
        return b""
    names = [f"logit_{label}" for label in labels] or ["value"]
    tables = []
    for split, logits in outcome.logits.items():
        rows = data[split]
        gold = pa.array([labels[label] for label in rows.labels] if labels else rows.labels)
        columns = {
            "split": pa.array([split] * len(rows.ids)),
            "id": pa.array(rows.ids),
            "label": gold,
            **{name: pa.array(logits[:, i]) for i, name in enumerate(names)},
        }
        tables.append(pa.table(columns))
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), sink, compression="zstd")
    return sink.getvalue()


def device_name(kind: str) -> str:
    """The kind of device whose bits these are, such as `cpu x86_64` or a GPU's name."""
    return torch.cuda.get_device_name() if kind == "cuda" else f"cpu {platform.machine()}"


def versions() -> str:
    """The versions that results depend on, as one line."""
    packages = ("finetuning-stability", "torch", "transformers", "numpy")
    python = ".".join(map(str, sys.version_info[:3]))
    return f"python {python}, " + ", ".join(
        f"{p} {importlib.metadata.version(p)}" for p in packages
    )
