"""Where the memory of a run goes: weights, gradients, optimizer states, saved activations."""

import numpy as np
import pandas as pd

from analysis.frames.columns import MEMORY
from analysis.frames.runs import Row, blocks, checked, configurations, final
from analysis.rendering.builder import Columns, table_of
from analysis.rendering.table import Table

MEGABYTE = 1e6


def memory(runs: pd.DataFrame) -> pd.DataFrame:
    """What a training step of each cell holds, by what it is for.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per cell of the final stage with a measured run: task, model, configuration,
        technique, device, memory_savers (in use in any run), n (measured runs), and in bytes the
        largest of any run: weights_bytes, gradients_bytes, optimizer_bytes, activations_bytes,
        their sum total_bytes, and peak_memory_bytes, what the device (on a CPU: the process) held
        at most. NaN where a peak is unknown. Empty if no run was measured.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb' and model == 'bert_base_cased'")
        >>> sizes = {"weights_bytes": 4e8, "gradients_bytes": 4e8, "optimizer_bytes": 8e8}
        >>> found = memory(runs.assign(**sizes, activations_bytes=3e9))
        >>> found[["n", "total_bytes"]]
            n   total_bytes
        0  20  4.600000e+09

    Source: bytes of tensors in the steps with the most tokens, of the first and the last epoch;
        saved activations are those that autograd holds at most, each storage once.
    """
    rows: list[Row] = []
    for task, model, block in blocks(final(checked(runs))):
        for label, cell in configurations(block).items():
            measured = cell[cell[MEMORY].notna().all(axis=1)]
            if measured.empty:
                continue
            row: Row = {"task": task, "model": model, "configuration": label}
            row["technique"] = cell["technique"].iloc[0]
            for name in ("device", "memory_savers"):
                row[name] = "; ".join(sorted({text for text in measured[name].dropna() if text}))
            row["n"] = len(measured)
            row |= {name: float(measured[name].max()) for name in MEMORY}
            row["total_bytes"] = float(measured[MEMORY].sum(axis=1).max())
            row["peak_memory_bytes"] = float(pd.to_numeric(measured["peak_memory_bytes"]).max())
            rows.append(row)
    names = ["task", "model", "configuration", "technique", "device", "memory_savers", "n"]
    return pd.DataFrame(rows, columns=[*names, *MEMORY, "total_bytes", "peak_memory_bytes"])


def needed_memory(runs: pd.DataFrame) -> pd.Series:
    """What a device must hold for each run, in bytes; NaN if unknown.

    The peak of a GPU. On a CPU the peak is that of a whole process with its libraries, so there it
    is what the run's step holds, if that is known of every finished run of its task and model.

    Args:
        runs: Checked, see `frames.runs.checked`.
    """
    step = runs[MEMORY].apply(pd.to_numeric).sum(axis=1, min_count=len(MEMORY))
    on_cpu = runs["device"].astype(str).str.contains("cpu", case=False)
    known = (step.notna() & on_cpu) | (runs["outcome"] == "missing")
    whole = known.groupby([runs["task"], runs["model"]]).transform("all")
    peak = pd.to_numeric(runs["peak_memory_bytes"]).astype("float64")
    found: pd.Series = step.where(whole, peak)
    return found


def memory_table(frame: pd.DataFrame) -> Table:
    """The table of `memory`.

    Example:
        >>> from analysis import example_runs
        >>> memory_table(memory(example_runs())).title
        'Memory of a training step'
    """
    columns: Columns = {
        "Task": lambda r: r.task,
        "Model": lambda r: r.model,
        "Configuration": lambda r: r.configuration,
        "n": lambda r: f"{r.n}",
        "Weights": lambda r: _megabytes(r.weights_bytes),
        "Gradients": lambda r: _megabytes(r.gradients_bytes),
        "Optimizer": lambda r: _megabytes(r.optimizer_bytes),
        "Activations": lambda r: _megabytes(r.activations_bytes),
        "Sum": lambda r: _megabytes(r.total_bytes),
        "Peak": lambda r: _megabytes(r.peak_memory_bytes),
    }
    notes = [
        "In MB, the largest of n runs. Sum: of the four before it, in the step with the most "
        "tokens. Peak: what the GPU held at most, on a CPU the whole process.",
    ]
    if not frame.empty and frame["device"].str.contains("cpu", case=False).any():
        notes.append(
            "On a CPU dropout saves its masks as four bytes an entry instead of one, so "
            "activations are smaller on a GPU."
        )
    if savers := sorted(set(filter(None, frame["memory_savers"]))):
        notes.append(f"Measured with {'; '.join(savers)}, which change no score.")
    method = [
        "Weights: parameters, buffers, and copies of them that the technique keeps. Activations: "
        "tensors that autograd holds for the backward pass, at most at a time, each storage once, "
        "without weights and inputs.",
    ]
    return table_of(
        "memory",
        "Memory of a training step",
        frame,
        columns,
        notes=notes,
        details=["n"],
        method=method,
    )


def _megabytes(size: float) -> str:
    return f"{size / MEGABYTE:,.0f}" if np.isfinite(size) else "–"
