"""What a worker sends of a finished run, and the entry that the driver makes of it."""

import io
import platform
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from study.checkpoint import PACKAGES, code_of, versions_of
from study.data import Prepared
from study.faults import Cause
from study.metrics import metric_named
from study.outbox import Entry
from study.study import Run
from study.train import Outcome


class Parcel(NamedTuple):
    """A finished run on its way to the driver.

    Attributes:
        outcome: Without its logits.
        predictions: Per-example predictions, a Parquet file; empty where the run diverged.
        started: Unix time in seconds.
        ended: Unix time in seconds.
        about: `device`, `host` and `versions` of the worker, whether it `resumed` the run, and why
            its model is `not_kept`.
    """

    outcome: Outcome
    predictions: bytes
    started: float
    ended: float
    about: dict[str, str]


def packed(
    outcome: Outcome,
    data: Prepared,
    *,
    started: float,
    ended: float,
    resumed: bool = False,
    not_kept: str = "",
) -> Parcel:
    """Pack what a run left, on the worker that ran it, or its last part."""
    about = {
        "device": device_name(outcome.device),
        "host": socket.gethostname(),
        "versions": versions(),
        **({"resumed": "true"} if resumed else {}),
        **({"not_kept": not_kept} if not_kept else {}),
    }
    bare = replace(outcome, logits={})
    return Parcel(bare, predictions_of(outcome, data), started, ended, about)


def entry_of(run: Run, parcel: Parcel, faults: Mapping[Cause, int]) -> Entry:
    """A finished run as MLflow will get it.

    Args:
        run: Which.
        parcel: What its worker sent.
        faults: How often it was lost before, by cause.
    """
    outcome, metric = parcel.outcome, metric_named(run.cell.task.metric)
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
        **parcel.about,
    }
    if faults:
        tags["retried"] = ", ".join(f"{cause} {count}" for cause, count in faults.items())
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
        started=int(parcel.started * 1000),
        ended=int(parcel.ended * 1000),
        spec=run.spec(),
    )


def predictions_of(outcome: Outcome, data: Prepared) -> bytes:
    """Predictions as Parquet: `split`, `id`, `label`, and columns as the kind's `table` has them.

    Returns:
        One row per example, or per word for tagging; empty bytes where the run diverged.
    """
    if not outcome.logits:
        return b""
    tables = []
    for split, logits in outcome.logits.items():
        rows = data.splits[split]
        columns = data.kind.table(logits, rows)
        names = pa.array([split] * len(columns["id"]))
        tables.append(pa.table({"split": names, **{n: pa.array(c) for n, c in columns.items()}}))
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), sink, compression="zstd")
    return sink.getvalue()


def device_name(kind: str) -> str:
    """The kind of device whose bits these are, such as `cpu x86_64` or a GPU's name."""
    return torch.cuda.get_device_name() if kind == "cuda" else f"cpu {platform.machine()}"


def versions() -> str:
    """The versions that results depend on, and a digest of this package's code, as one line."""
    return f"{versions_of(PACKAGES)}, code {code_of()}"
