"""The Ray cluster: joining or starting it, and runs that must not begin any more."""

import json
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import ray

from study.execution.faults import ClusterError
from study.execution.queue import ALL
from study.execution.ray_internals import get_value, put_value

REACH_SECONDS = 10.0


# --- joining ----------------------------------------------------------------------------------


def join(address: str | None, *, own: list[str], local: bool, verbose: bool) -> None:
    """Connect to a Ray cluster, or start one here that listens on loopback only.

    Args:
        address: A cluster; None takes the one that runs on this machine, or starts one.
        own: The user's Python files and packages that workers import.
        local: Whether one is started here; its workers then have this process's import path.
        verbose: Show Ray's own messages.

    Raises:
        ClusterError: If there is no such cluster, or it does not accept this driver.
    """
    variables = {
        "OMP_NUM_THREADS": "1",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    environment: dict[str, Any] = {"env_vars": variables}
    if local:
        paths = (path or os.getcwd() for path in sys.path)
        variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
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
    """Make sure that something listens at HOST:PORT; Ray itself tries for minutes.

    Raises:
        OSError: If nothing does.
    """
    host, _, port = (address or "").rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()


def leave() -> None:
    """Leave the cluster; one that `join` started ends with it."""
    ray.shutdown()


def _why_not(error: BaseException, address: str | None) -> str:
    """What is wrong with a cluster, and what to do, from Ray's error."""
    text, where = str(error).strip(), "this machine" if address in (None, "auto") else address
    if address and address == os.environ.get("RAY_ADDRESS"):
        where = f"{address} (RAY_ADDRESS)"
    if "ersion mismatch" in text:
        parts = [line.strip() for line in text.splitlines() if line.strip()]
        return (
            f"the cluster at {where} has other versions than this driver ({' '.join(parts[:5])}). "
            "Install the same Ray and Python on both; constraints.txt names them."
        )
    if "AuthenticationError" in f"{type(error).__name__} {error.__cause__}":
        return (
            f"the cluster at {where} refuses this driver's token. Copy the cluster's token to "
            "~/.ray/auth_token, or set RAY_AUTH_TOKEN to it; see docs/cluster.md."
        )
    if "Package size" in text:
        return (
            "your own modules are sent to all machines, packages with their whole folders. "
            f"{text.partition(' To exclude')[0]} Move data out of them, or list it in a "
            ".rayignore file there."
        )
    if "No node info found" in text:
        return (
            f"this machine is not part of the cluster at {where}. Run the driver on one that is: "
            "ray submit CLUSTER_FILE STUDY_FILE, or study run there."
        )
    if "AF_UNIX" in text:  # its sockets are in the folder of temporary files
        folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
        return (
            f"Ray cannot start: the path of its folder of temporary files, {folder}, is too long "
            "for a socket. Set RAY_TMPDIR to a short one, such as /tmp."
        )
    brief = getattr(error, "strerror", None) or (text or type(error).__name__).splitlines()[0]
    return (
        f"no Ray cluster at {where}: {brief.rstrip('.')}. Check that it is running "
        "(ray status) and that the address is HOST:PORT of its head. Without --address and "
        "RAY_ADDRESS the cluster that runs on this machine is used; if it crashed, `ray stop` "
        "clears what it left. --address local starts one."
    )


def own_modules(names: Iterable[str], folder: Path) -> list[str]:
    """The user's own Python files and packages that other machines need.

    Args:
        names: `module:Class` of every technique, metric and the like that is the user's own.
        folder: The study file's; modules that were imported from it are included.

    Returns:
        Paths of single files or of package folders.
    """
    wanted = {name.partition(":")[0].partition(".")[0] for name in names}
    beside = folder.resolve()
    paths = {}
    for top in {name.partition(".")[0] for name in list(sys.modules)}:
        path = _module_path(sys.modules.get(top))
        if path is None or top == "__main__" or top.startswith("study_file_"):
            continue
        if top in wanted or (path.parent == beside and "site-packages" not in path.parts):
            paths[top] = str(path)
    return sorted(paths.values())


def _module_path(module: ModuleType | None) -> Path | None:
    """A top-level module's file, or its folder if it is a package."""
    if module is None or (file := getattr(module, "__file__", None)) is None:
        return None
    path = Path(file).resolve()
    return path.parent if path.name == "__init__.py" else path


# --- runs that must not begin any more -----------------------------------------------------------


def block(cells: Iterable[str]) -> None:
    """Let no further run of these cells begin, including those that Tune has given to workers.

    Args:
        cells: All of them, as `Progress.blocked` names them; they replace those of earlier calls.
    """
    put_value(_key_of_this_job(), json.dumps(list(cells)))


def is_blocked(cell: str) -> bool:
    """Whether a run of this cell must not begin; for workers."""
    blocked = json.loads(get_value(_key_of_this_job()) or "[]")
    return ALL in blocked or cell in blocked


def _key_of_this_job() -> str:
    return f"study-blocked-{ray.get_runtime_context().get_job_id()}"
