"""Component-wise clipping: the largest gradient norm of a component.

Source: Yang & Ma 2022 for the technique. Differs: the range is chosen here; the recipe is that of
    standard fine-tuning.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces import standard
from search_spaces.common import Space

TECHNIQUE = "ComponentClip"
SPACE = Space(
    technique={"max_norm": CategoricalDistribution((0.05, 0.1, 0.5, 1.0))},
    recipe=standard.SPACE.recipe,
)
