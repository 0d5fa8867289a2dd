"""The Ray cluster: joining or starting it, what it can hold, and whether its machines are fit."""

import json
import logging
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from study.execution.faults import ClusterError
from study.execution.queue import ALL

REACH_SECONDS = 10.0


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


def own_modules(names: Iterable[str], folder: Path) -> list[str]:
    """Python files and packages of the user's own that other machines need.

    Args:
        names: `module:Class` of every own technique, metric and the like.
        folder: Of the study file; what was imported from there goes along.

    Returns:
        Paths of single files or of package folders.
    """
    wanted = {name.partition(":")[0].partition(".")[0] for name in names}
    beside = folder.resolve()
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
