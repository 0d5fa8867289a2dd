"""Who drives a study: a file lock, and requests to stop."""

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class StudyLockedError(RuntimeError):
    """Another driver runs this study."""


def holder(command: str) -> dict[str, Any]:
    """This process, as another driver is told of it."""
    return {
        "command": command,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.time(),
    }


def told(holder: Mapping[str, Any]) -> str:
    """A holder in words: a driver as `process 4711 on host, since 14:02`, others by command."""
    process = f"process {holder['pid']} on {holder['host']}, since {clock(holder['since'])}"
    command = holder.get("command", "run")
    return process if command == "run" else f"study {command} ({process})"


def clock(seconds: float) -> str:
    """A time of day, with the date where it is not today's."""
    then = time.localtime(seconds)
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)


def _told(path: Path) -> str:
    try:
        return told(json.loads(path.read_text()))
    except json.JSONDecodeError:  # a network file system may show it late
        return "another process"
