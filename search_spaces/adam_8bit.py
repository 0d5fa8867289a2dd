"""Adam with 8-bit moments: the ranges of standard fine-tuning, so that only the moments differ.

Source: Dettmers et al. 2022 use the hyperparameters of 32-bit Adam.
"""

from search_spaces import standard
from search_spaces.common import Space

TECHNIQUE = "Adam8bit"
SPACE = Space(technique={}, recipe=standard.SPACE.recipe)
