"""The Ray cluster: joining or starting it, what it can hold, and whether its machines are fit."""

import json
import logging
import os
import socket
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.faults import ClusterError
from study.feed import ALL
from study.models import Model
from study.parcel import versions
from study.spec import SpecError

PATIENCE_SECONDS = 600.0  # for a machine to look at itself: imports, and weights over a network
REACH_SECONDS = 10.0
GROWTH = "ray_bootstrap_config.yaml"  # what `ray up` leaves in the head's home; JSON


# --- joining ----------------------------------------------------------------------------------


def join(address: str | None, *, own: list[str], alone: bool, verbose: bool) -> None:
    """Connect to a Ray cluster, or start one here that listens on loopback only.

    Args:
        address: A cluster; None takes the one that runs on this machine, or starts one.
        own: Python files and packages of the user's that workers import.
        alone: Whether one is started here: its workers then find what this process finds.
        verbose: Show Ray's own messages.

    Raises:
        ClusterError: If there is no such cluster, or it is not of this driver's kind.
    """
    variables = {
        "OMP_NUM_THREADS": "1",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    environment: dict[str, Any] = {"env_vars": variables}
    if alone:
        found = (path or os.getcwd() for path in sys.path)
        variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(found))
    elif own:
        environment["py_modules"] = own
    try:
        _reach(address)
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
            runtime_env=environment,
        )
    except (RuntimeError, OSError, ValueError, ray.exceptions.RayError) as error:
        raise ClusterError(_why_not(error, address)) from error


def _reach(address: str | None) -> None:
    """See whether anybody listens at HOST:PORT; Ray itself asks for minutes.

    Raises:
        OSError: If nobody does.
    """
    host, _, port = (address or "").rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()


def leave() -> None:
    """Leave the cluster; one that `join` started ends with it."""
    ray.shutdown()


def _why_not(error: BaseException, address: str | None) -> str:
    told, where = str(error).strip(), "this machine" if address in (None, "auto") else address
    if "ersion mismatch" in told:
        parts = [line.strip() for line in told.splitlines() if line.strip()]
        return (
            f"the cluster at {where} has other versions than this driver ({' '.join(parts[:5])}). "
            "Install the same Ray and Python on both; constraints.txt names them."
        )
    if "AuthenticationError" in f"{type(error).__name__} {error.__cause__}":
        return (
            f"the cluster at {where} refuses this driver's token. Copy the cluster's own to "
            "~/.ray/auth_token, or name it in RAY_AUTH_TOKEN; see docs/cluster.md."
        )
    if "Package size" in told:  # of what the user's modules lie in
        return (
            "your own modules go to all machines, with the folders of packages. "
            f"{told.partition(' To exclude')[0]} Move data out of them, or name them in a "
            ".rayignore file there."
        )
    if "No node info found" in told:
        return (
            f"this machine is no part of the cluster at {where}. Run the driver on one that is: "
            "ray submit CLUSTER_FILE STUDY_FILE, or study run there."
        )
    brief = getattr(error, "strerror", None) or (told or type(error).__name__).splitlines()[0]
    return (
        f"no Ray cluster to be had at {where}: {brief.rstrip('.')}. Is it up (ray status), and is "
        "the address HOST:PORT of its head? Without --address the cluster of this machine is "
        "taken; where one crashed, `ray stop` clears what it left. --address local starts one."
    )


def own_modules(names: Iterable[str], source: Path) -> list[str]:
    """Python files and packages of the user's own that other machines need.

    Args:
        names: `module:Class` of every own technique, metric and the like.
        source: The study file; what was imported from beside it goes along.

    Returns:
        Paths of single files or of package folders.
    """
    wanted = {name.partition(":")[0].partition(".")[0] for name in names}
    beside = source.resolve().parent
    found = {}
    for top in {name.partition(".")[0] for name in list(sys.modules)}:
        place = _place(sys.modules.get(top))
        if place is None or top == "__main__" or top.startswith("study_file_"):
            continue
        if top in wanted or (place.parent == beside and "site-packages" not in place.parts):
            found[top] = str(place)
    return sorted(found.values())


def _place(module: ModuleType | None) -> Path | None:
    """A top-level module's file, or its folder where it is a package."""
    if module is None or (file := getattr(module, "__file__", None)) is None:
        return None
    path = Path(file).resolve()
    return path.parent if path.name == "__init__.py" else path


# --- runs that must not begin any more -----------------------------------------------------------


def hold(cells: Iterable[str]) -> None:
    """Let no further run of these cells begin; Tune has handed some to workers already.

    Args:
        cells: All of them, as `Progress.held` names them: what was held before is forgotten.
    """
    _internal_kv_put(_held_by_this_job(), json.dumps(list(cells)), overwrite=True)


def is_held(cell: str) -> bool:
    """Whether a run of this cell must not begin; for workers."""
    held = json.loads(_internal_kv_get(_held_by_this_job()) or "[]")
    return ALL in held or cell in held


def _held_by_this_job() -> str:
    return f"study-held-{ray.get_runtime_context().get_job_id()}"


# --- what it can hold -------------------------------------------------------------------------


def amount(unit: str) -> float:
    """How much of a resource, such as `GPU`, the cluster has now."""
    return float(ray.cluster_resources().get(unit, 0.0))


def room(need: Mapping[str, float]) -> int:
    """Runs that the cluster's machines hold at once, as they are now.

    Args:
        need: What a run takes, by the name of the resource; a run is on one machine.
    """
    return sum(_times(node["Resources"], need) for node in machines())


def without_machine(takes: Mapping[str, Mapping[str, float]]) -> set[str]:
    """Whoever takes what no machine of the cluster has, as they are now.

    Args:
        takes: What each takes, by the name of the resource.
    """
    there = [node["Resources"] for node in machines()]
    return {who for who, need in takes.items() if not any(_times(has, need) for has in there)}


def room_when_grown(need: Mapping[str, float]) -> int:
    """The same once the autoscaler has started all that it may; 0 where that is not known.

    Ray itself does not say. `ray up` leaves its file on the head; elsewhere STUDY_ROOM says it.

    Raises:
        ClusterError: If STUDY_ROOM is no number of runs.
    """
    if told := os.environ.get("STUDY_ROOM"):
        if not told.isdecimal():
            raise ClusterError(
                f"STUDY_ROOM={told} is no number: name how many runs the cluster holds at once "
                "when it has grown."
            )
        return int(told)
    try:
        file = json.loads((Path.home() / GROWTH).read_text())
        kinds = [
            (_times(kind["resources"], need), kind.get("max_workers", file["max_workers"]))
            for name, kind in file["available_node_types"].items()
            if name != file["head_node_type"]
        ]
    except (OSError, ValueError, KeyError):  # no such file, or not one of Ray's
        return 0
    found, left = 0, file["max_workers"]
    for runs, most in sorted(kinds, reverse=True):
        count = min(most, left)
        found, left = found + runs * count, left - count
    return found


def check_room(need: Mapping[str, float], *, alone: bool) -> None:
    """Make sure that a run fits somewhere, now or once the cluster has grown.

    Args:
        need: What a run takes, by the name of the resource.
        alone: Whether the cluster is this machine.

    Raises:
        ClusterError: If it fits nowhere.
    """
    grown = 0 if alone else room_when_grown(need)  # first: it says what is wrong with STUDY_ROOM
    if room(need) or grown:
        return
    asked = ", ".join(f"{amount:g} {name}" for name, amount in need.items() if amount)
    has = [
        ", ".join(f"{node['Resources'].get(name, 0.0):g} {name}" for name in need)
        for node in machines()
    ]
    where = "this machine has" if alone else "its machines have"
    raise ClusterError(
        f"a run needs {asked}; {where} {'; '.join(dict.fromkeys(has))}. Change recipe.threads, "
        "gpus or needs, or add machines that have it; where some are still to join, wait for them "
        "(ray status)."
    )


def whole(need: Mapping[str, float]) -> float:
    """Cores of the largest machine that holds a run: only there are so many, and all are taken."""
    cores = [n["Resources"].get("CPU", 0.0) for n in machines() if _times(n["Resources"], need)]
    return max(cores, default=need["CPU"])


def machines() -> list[dict[str, Any]]:
    """Ray's word on every machine that is alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def _times(has: Mapping[str, float], need: Mapping[str, float]) -> int:
    """How often a machine holds what a run takes."""
    return int(min(has.get(name, 0.0) / amount for name, amount in need.items() if amount) + 1e-9)


# --- whether its machines are fit -------------------------------------------------------------


@dataclass(frozen=True)
class Look:
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


def look(models: list[dict[str, Any]], folder: str, token: str) -> Look:
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
    return Look(socket.gethostname(), versions(), weights, missing, _folder(Path(folder), token))


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
        for node in machines()
        if _times(node["Resources"], need)
    }
    looks: list[Look] = []
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


def _objections(seen: Look, models: list[Model], shipped: set[str]) -> list[str]:
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
