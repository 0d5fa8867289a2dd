"""Adam without bias correction: the ranges of standard fine-tuning, so that only Adam differs.

Source: Zhang et al. 2021 for the technique. Differs: the ranges are chosen here.
"""

from search_spaces import standard
from search_spaces.common import Space

TECHNIQUE = "BiasedAdam"
SPACE = Space(technique={}, recipe=standard.SPACE.recipe)
