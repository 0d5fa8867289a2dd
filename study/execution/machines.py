"""Whether each machine of a cluster is fit to run a study."""

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

PATIENCE_SECONDS = 600.0  # for a machine to look at itself: imports, and weights over a network


# --- whether its machines are fit -------------------------------------------------------------


@dataclass(frozen=True)
class MachineReport:
    """What a machine says of itself.

    Attributes:
        host: Its name.
        versions: As runs are tagged with.
        weights: Fingerprint of each checkpoint by model; None where this machine lacks it.
        missing: Why it lacks a checkpoint that it would have to download, by model.
        folder: `shared` with the driver, `own` where it is not the driver's, else what is wrong.
    """

    host: str
    versions: str
    weights: dict[str, str | None]
    missing: dict[str, str]
    folder: str


def look(models: list[dict[str, Any]], folder: str, token: str) -> MachineReport:
    """Look at the machine that this runs on.

    Args:
        models: The study's, as plain data.
        folder: The study's own.
        token: Name of a file that the driver put there.
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
    """Ask every machine that would do runs whether it can, before any is started.

    Those that come later are asked by their workers, see `Worker.setup`.

    Args:
        models: The study's.
        shipped: Names of models whose weights are sent where they are absent.
        folder: The study's own, which machines need not share.
        need: What the smallest run takes.

    Returns:
        Names of the machines that do not share the folder: what they save there stays there.

    Raises:
        ClusterError: With all that is wrong, of every machine.
    """
    models = list(models)
    token = f".shared-{uuid.uuid4().hex[:8]}"
    (folder / token).touch()
    # By value: a machine without the project says so, instead of failing to start.
    asked = {
        node["NodeManagerAddress"]: ray.remote(num_cpus=0, max_retries=0)(look)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote([model.canonical() for model in models], str(folder), token)
        for node in live_nodes()
        if runs_that_fit(node["Resources"], need)
    }
    looks: list[MachineReport] = []
    wrong: list[str] = []
    try:
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=PATIENCE_SECONDS)
        for address, reference in asked.items():
            try:
                looks.append(ray.get(reference, timeout=0))
            except ray.exceptions.RayError as error:
                wrong.append(f"{address}: {_untold(error)}")
                ray.cancel(reference, force=True)
    finally:
        (folder / token).unlink(missing_ok=True)
    for each in looks:
        wrong += [f"{each.host}: {text}" for text in _objections(each, models, set(shipped))]
    if wrong:
        raise ClusterError("the cluster is not fit for this study:\n  " + "\n  ".join(wrong))
    return [each.host for each in looks if each.folder != "shared"]


def _objections(seen: MachineReport, models: list[Model], shipped: set[str]) -> list[str]:
    found = other_versions(seen.versions, versions())
    if seen.folder not in ("shared", "own"):
        found.append(f"{seen.folder}; make it writable to the user that Ray runs as there.")
    for model in models:
        weights = seen.weights[model.name]
        if weights is None and model.name not in shipped:
            found.append(f"lacks model {model.name!r}: {seen.missing[model.name]}")
        elif weights is not None and weights != model.identity():
            text = f"has other weights for model {model.name!r}; runs would differ by machine."
            found.append(text)
    return found


def other_versions(here: str, driver: str) -> list[str]:
    """Packages and code that are other than the driver's; nothing where its own are not given.

    Args:
        here: As runs are tagged with.
        driver: Likewise, or empty. Python's own patch version moves no bits.
    """
    has, wants = (
        dict(each.split(" ", 1) for each in told.split(", ")[1:]) for told in (here, driver)
    )
    cures = {"code": "bring the driver's there (ray up)"}
    cure = "install the same (constraints.txt)"
    return [
        f"has {name} {has[name]}, the driver {name} {want}; {cures.get(name, cure)}."
        for name, want in wants.items()
        if has.get(name, want) != want
    ]


def _untold(error: Exception) -> str:
    told = str(error)
    if "ModuleNotFoundError" in told or "No module named" in told:
        name = told.partition("No module named ")[2].partition("\n")[0].strip(" '\"")
        return f"lacks the package {name!r}; install this project there (docs/cluster.md)."
    if isinstance(error, ray.exceptions.GetTimeoutError):
        return f"did not answer within {PATIENCE_SECONDS:.0f} s."
    lines = told.strip().splitlines()
    return lines[-1] if lines else type(error).__name__
