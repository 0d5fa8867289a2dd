"""Checks before the first run that each machine of a cluster can execute the study's runs."""

import socket
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.core.provenance import versions
from study.core.spec import SpecError
from study.execution.capacity import live_nodes, runs_that_fit
from study.execution.faults import ClusterError
from study.models.model import Model

REPORT_SECONDS = 600.0  # for a machine's report: imports, and weights read over a network


@dataclass(frozen=True)
class MachineReport:
    """What one machine can provide for the study's runs.

    Attributes:
        host: Its name.
        versions: As runs are tagged with.
        weights: Fingerprint of each checkpoint by model; None if the machine lacks it.
        missing: Why it lacks a checkpoint and cannot download it, by model.
        folder: `shared` with the driver, `own` if it is another folder, else what is wrong.
    """

    host: str
    versions: str
    weights: dict[str, str | None]
    missing: dict[str, str]
    folder: str


def inspect(models: list[dict[str, Any]], folder: str, token: str) -> MachineReport:
    """Report on the machine that this runs on.

    Args:
        models: The study's, as plain data.
        folder: The study's own.
        token: Name of a file that the driver created there.
    """
    weights: dict[str, str | None] = {}
    missing: dict[str, str] = {}
    for fields in models:
        model = Model(**fields)
        try:
            weights[model.name] = model.identity()
        except SpecError as error:
            weights[model.name] = None
            missing[model.name] = error.mistakes[0].text
    return MachineReport(
        socket.gethostname(), versions(), weights, missing, _folder(Path(folder), token)
    )


def _folder(folder: Path, token: str) -> str:
    if not (folder / token).exists():
        return "own"
    probe = folder / f"{token}.{socket.gethostname()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return f"cannot write to {folder} ({error.strerror})"
    return "shared"


def check_machines(
    models: Iterable[Model], shipped: Iterable[str], folder: Path, need: Mapping[str, float]
) -> list[str]:
    """Check every machine that can hold a run.

    Machines that join later are checked by their workers, see `Worker.setup`.

    Args:
        models: The study's.
        shipped: Names of models whose weights are sent to machines that lack them.
        folder: The study's own, which machines need not share.
        need: What the smallest run takes.

    Returns:
        Names of the machines that do not share the folder; what they save there stays there.

    Raises:
        ClusterError: With all problems of all machines.
    """
    models = list(models)
    token = f".shared-{uuid.uuid4().hex[:8]}"
    (folder / token).touch()
    # As plain data: a machine without the project then reports that, instead of failing to start.
    requests = {
        node["NodeManagerAddress"]: ray.remote(num_cpus=0, max_retries=0)(inspect)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote([model.canonical() for model in models], str(folder), token)
        for node in live_nodes()
        if runs_that_fit(node["Resources"], need)
    }
    reports: list[MachineReport] = []
    wrong: list[str] = []
    try:
        ray.wait(list(requests.values()), num_returns=len(requests), timeout=REPORT_SECONDS)
        for address, reference in requests.items():
            try:
                reports.append(ray.get(reference, timeout=0))
            except ray.exceptions.RayError as error:
                wrong.append(f"{address}: {_why_no_report(error)}")
                ray.cancel(reference, force=True)
    finally:
        (folder / token).unlink(missing_ok=True)
    for report in reports:
        wrong += [f"{report.host}: {text}" for text in _objections(report, models, set(shipped))]
    if wrong:
        raise ClusterError("the cluster cannot run this study:\n  " + "\n  ".join(wrong))
    return [report.host for report in reports if report.folder != "shared"]


def _objections(report: MachineReport, models: list[Model], shipped: set[str]) -> list[str]:
    problems = other_versions(report.versions, versions())
    if report.folder not in ("shared", "own"):
        problems.append(f"{report.folder}; make it writable to the user that Ray runs as there.")
    for model in models:
        weights = report.weights[model.name]
        if weights is None and model.name not in shipped:
            problems.append(f"lacks model {model.name!r}: {report.missing[model.name]}")
        elif weights is not None and weights != model.identity():
            text = f"has other weights for model {model.name!r}; results would differ by machine."
            problems.append(text)
    return problems


def other_versions(here: str, driver: str) -> list[str]:
    """Differences between a machine's packages and code and the driver's.

    Args:
        here: The machine's versions, as runs are tagged with.
        driver: The driver's; if empty, nothing is compared.
    """
    # The first item is Python's version, whose patch level changes no results.
    has, wants = (
        dict(item.split(" ", 1) for item in text.split(", ")[1:]) for text in (here, driver)
    )
    remedies = {"code": "copy the driver's there (ray up)"}
    remedy = "install the same (constraints.txt)"
    return [
        f"has {name} {has[name]}, the driver {name} {want}; {remedies.get(name, remedy)}."
        for name, want in wants.items()
        if has.get(name, want) != want
    ]


def _why_no_report(error: Exception) -> str:
    text = str(error)
    if "ModuleNotFoundError" in text or "No module named" in text:
        name = text.partition("No module named ")[2].partition("\n")[0].strip(" '\"")
        return f"lacks the package {name!r}; install this project there (docs/cluster.md)."
    if isinstance(error, ray.exceptions.GetTimeoutError):
        return f"did not answer within {REPORT_SECONDS:.0f} s."
    lines = text.strip().splitlines()
    return lines[-1] if lines else type(error).__name__
