"""The result of a finished run, as a worker sends it to the driver."""

import io
import socket
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from study.core.provenance import device_name, versions
from study.training.prepare import Prepared
from study.training.train import Outcome


class RunResult(NamedTuple):
    """A finished run on its way to the driver.

    Attributes:
        outcome: Without its logits.
        predictions: Per-example predictions, a Parquet file; empty where the run diverged.
        started: Unix time in seconds.
        ended: Unix time in seconds.
        about: `device`, `host` and `versions` of the worker, the `memory_savers` in use, whether it
            `resumed` the run, why its model is `not_kept`, and the `base_sha256` of weights that it
            has frozen.
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
    memory_savers: str = "",
) -> RunResult:
    """Pack an outcome on the worker that ran the run, or the last part of a resumed one."""
    about = {
        "device": device_name(outcome.device),
        "host": socket.gethostname(),
        "versions": versions(),
        **({"memory_savers": memory_savers} if memory_savers else {}),
        **({"resumed": "true"} if resumed else {}),
        **({"not_kept": not_kept} if not_kept else {}),
        **({"base_sha256": outcome.base.sha256} if outcome.base else {}),
    }
    facts = dict(outcome.facts)
    if data.truncation:
        facts |= {"cut_rows": data.truncation.rows, "cut_tokens": data.truncation.tokens}
    without_logits = replace(outcome, logits={}, texts={}, facts=facts)
    return RunResult(without_logits, predictions_of(outcome, data), started, ended, about)


def predictions_of(outcome: Outcome, data: Prepared) -> bytes:
    """Predictions as Parquet: `split`, `id`, `label`, and the columns of the kind's `table`.

    Returns:
        One row per example, or per word for tagging; empty bytes where the run diverged.
    """
    if not outcome.logits:
        return b""
    tables = []
    for split, logits in outcome.logits.items():
        rows = data.splits[split]
        columns = data.kind.table(logits, rows)
        if split in outcome.texts:
            columns["answer"] = outcome.texts[split]
        names = pa.array([split] * len(columns["id"]))
        tables.append(pa.table({"split": names, **{n: pa.array(c) for n, c in columns.items()}}))
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), sink, compression="zstd")
    return sink.getvalue()
