"""Search spaces: published hyperparameter ranges of every technique and its recipe.

A space is a module of this package with `TECHNIQUE`, the name of its technique, and `SPACE`. It is
registered in `SPACES` without further code.

Example:
    >>> from search_spaces import SPACES, draw
    >>> SPACES["RDrop"].technique["alpha"].choices
    (0.1, 0.5, 1.0, 3.0, 5.0)
    >>> len(draw(SPACES["RDrop"], 3, seed=0))
    3
"""

import importlib
import pkgutil

from search_spaces.choosing import choose
from search_spaces.common import Draw, Space, draw, small

_modules = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
SPACES: dict[str, Space] = {m.TECHNIQUE: m.SPACE for m in _modules if hasattr(m, "TECHNIQUE")}

__all__ = ["SPACES", "Draw", "Space", "choose", "draw", "small"]
