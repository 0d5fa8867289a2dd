"""Transfer of local checkpoints to machines that do not have them."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from study.core.atomic import atomic
from study.models.model import Model, checkpoint_files

Files = dict[str, npt.NDArray[np.uint8]]  # content by name


def is_local(model: Model) -> bool:
    """Whether the checkpoint exists only here; other machines download hub checkpoints."""
    return model.checkpoint.startswith("package:") or Path(model.checkpoint).is_dir()


def packed(model: Model) -> Files:
    """The contents of a checkpoint's files, by name."""
    return {file.name: np.fromfile(file, np.uint8) for file in checkpoint_files(model.folder())}


def unpacked(model: Model, files: Mapping[str, Any], identity: str) -> Model:
    """The same model with its checkpoint in a temporary folder here, written once per machine.

    Args:
        model: The model as the driver has it.
        files: As `packed` returned them.
        identity: The checkpoint's fingerprint, which names the folder.
    """
    user_folder = f"study-checkpoints-{os.getuid()}"  # a machine may have several users
    folder = Path(tempfile.gettempdir(), user_folder, identity)
    if not folder.is_dir():
        try:
            with atomic(folder) as partial:
                partial.mkdir()
                for name, content in files.items():
                    content.tofile(partial / name)
        except OSError:
            if not folder.is_dir():  # else another worker was faster
                raise
    return model.replace(checkpoint=str(folder))
