"""Checkpoints on their way to machines that lack them."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from study.core.atomic import atomic
from study.models.model import DECIDING, Model

Files = dict[str, npt.NDArray[np.uint8]]  # content by name


def is_local(model: Model) -> bool:
    """Whether a checkpoint is on this machine alone; those from the hub machines get there."""
    return model.checkpoint.startswith("package:") or Path(model.checkpoint).is_dir()


def packed(model: Model) -> Files:
    """The files of a checkpoint."""
    files = sorted(file for kind in DECIDING for file in model.folder().glob(kind))
    return {file.name: np.fromfile(file, np.uint8) for file in files}


def unpacked(model: Model, files: Mapping[str, Any], identity: str) -> Model:
    """The same model with its checkpoint in a folder of this machine, written there once.

    Args:
        model: Which.
        files: As `packed` returned them.
        identity: The checkpoint's fingerprint, which names the folder.
    """
    mine = f"study-checkpoints-{os.getuid()}"  # a machine may have several users
    place = Path(tempfile.gettempdir(), mine, identity)
    if not place.is_dir():
        try:
            with atomic(place) as partial:
                partial.mkdir()
                for name, content in files.items():
                    content.tofile(partial / name)
        except OSError:
            if not place.is_dir():  # else another worker was faster
                raise
    return model.replace(checkpoint=str(place))
