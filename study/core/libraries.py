"""Libraries that must be loaded with care."""

import logging
import sys
from types import ModuleType


def bitsandbytes() -> ModuleType:
    """Bitsandbytes, kept from loading code from a hub while it is imported.

    Where the package `kernels` is installed it would fetch a matrix product that nothing here
    needs, and elsewhere warn that it could not. peft imports it as well, so whoever uses peft calls
    this first. It takes two seconds.

    Raises:
        ImportError: If it is not installed.
    """
    if "bitsandbytes" not in sys.modules:
        logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
        level, kernels = logger.level, sys.modules.get("kernels")
        logger.setLevel(logging.ERROR)
        sys.modules["kernels"] = None  # type: ignore[assignment]  # an import of it fails
        try:
            import bitsandbytes  # noqa: F401
        finally:
            logger.setLevel(level)
            del sys.modules["kernels"]
            if kernels:
                sys.modules["kernels"] = kernels
    return sys.modules["bitsandbytes"]
