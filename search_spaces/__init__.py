"""Published ranges of every technique and its recipe, as plain values for a study file.

A space is a file with `TECHNIQUE`, the name of its technique, and `SPACE`; it is found by itself.
"""

import importlib
import pkgutil

from search_spaces.choosing import choose
from search_spaces.common import Draw, Space, draw, small

_found = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
SPACES: dict[str, Space] = {m.TECHNIQUE: m.SPACE for m in _found if hasattr(m, "TECHNIQUE")}

__all__ = ["SPACES", "Draw", "Space", "choose", "draw", "small"]
