"""The strong baseline: train longer, with the schedule stretched over all epochs."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from study.core.recipe import Recipe
from study.techniques.base import Technique


class StrongBaseline(Technique):
    """Train for many epochs with bias-corrected Adam, 10% warm-up and linear decay.

    The schedule covers all epochs; it is not that of a short run followed by epochs at rate 0. The
    rest of the recipe is the study's, so that at equal epochs it is `Standard`.

    Attributes:
        epochs: Passes over the training data, instead of the recipe's.

    Example:
        >>> from study import Recipe, StrongBaseline
        >>> StrongBaseline(epochs=10).recipe(Recipe(epochs=3)).epochs
        10

    Source: Mosbach et al. 2021, section 6: 20 epochs, bias correction, warm-up over the first 10%
        of the steps. Differs: the learning rate is the study's (theirs is 2e-5).
    """

    clashes: ClassVar[Mapping[str, str]] = {
        "BiasedAdam": "it uses bias correction and warm-up, and the other removes both"
    }

    epochs: int = Field(default=20, gt=0)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Set the epochs; warm-up and decay are shares of the steps, so they stretch along."""
        return recipe.replace(epochs=self.epochs, steps=None, warmup=0.1, schedule="linear")
