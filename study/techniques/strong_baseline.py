"""The strong baseline: train longer, with the schedule stretched over all of it."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from study.core.recipe import Recipe
from study.techniques.base import Technique


class StrongBaseline(Technique):
    """Train for many epochs with corrected Adam, a tenth of them warm-up, then linear decay.

    Longer training means more steps at rates that matter: the schedule is that of all the epochs,
    not that of a short run with a tail at rate 0. The rest of the recipe is the study's, so that
    at equal epochs it is `Standard`.

    Attributes:
        epochs: Passes over the training data, instead of the recipe's.

    Source: Mosbach et al. 2021, section 6: 20 epochs, bias correction, warm-up over the first 10 %
        of the steps. Differs: the learning rate is the study's (theirs is 2e-5).
    """

    clashes: ClassVar[Mapping[str, str]] = {
        "BiasedAdam": "it corrects Adam's bias and warms up, and the other undoes both"
    }

    epochs: int = Field(default=20, gt=0)

    def recipe(self, recipe: Recipe) -> Recipe:
        """More epochs; warm-up and decay are shares of the steps, so they stretch with them."""
        return recipe.replace(epochs=self.epochs, warmup=0.1, schedule="linear")
