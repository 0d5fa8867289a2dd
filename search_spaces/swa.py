"""SWA: share of the steps after which averaging starts.

Source: Izmailov et al. 2018 start after 75% of the budget. Differs: half of it as well; the recipe
    is that of standard fine-tuning.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces import standard
from search_spaces.common import Space

TECHNIQUE = "SWA"
SPACE = Space(
    technique={"start": CategoricalDistribution((0.5, 0.75))},
    recipe=standard.SPACE.recipe,
)
