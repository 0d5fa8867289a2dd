"""Restarts: start with several heads, continue with the best on dev."""

from pydantic import Field

from study.core.recipe import Recipe
from study.core.seeding import Seed, derive
from study.core.spec import Mistake, SpecError
from study.models.families import Depths
from study.tasks.kinds import KINDS
from study.techniques.base import Technique, check_epochs
from study.techniques.state import Starts


class Restarts(Technique):
    """Start several times with different heads and stop all but the best on dev.

    Where dev scores tie, the lower training loss decides. All starts are inside one run and belong
    to its seed; no seed of the study is ever dropped. The first start is identical to the run
    without restarts. The run's steps and seconds include all starts.

    Attributes:
        heads: Number of starts, each with its own new head.
        epochs: Number of epochs after which they are compared.

    Example:
        >>> from study import Restarts
        >>> from study.core.seeding import Seed
        >>> len(Restarts(heads=3).starts(Seed(0, 0, 0)).seeds)
        3

    Source: Dodge et al. 2020, early stopping: start many, stop early, continue the best. Differs:
        they also restart with other data orders, and compare several times before the end of
        the first epoch of three; here one start continues, and epochs are the unit. The defaults
        are chosen here.
    """

    heads: int = Field(default=5, ge=2)
    epochs: int = Field(default=1, ge=1)

    def objection(self, depths: Depths, kind: str) -> str | None:
        """There must be a new head."""
        if not KINDS[kind].pretrained_head:
            return None
        return "its head is that of pretraining, so there are no heads to choose from"

    def recipe(self, recipe: Recipe) -> Recipe:
        """Refuse a recipe that ends before the comparison, or counts in steps."""
        check_epochs(recipe, self.title)
        if self.epochs >= recipe.epochs:
            text = f"{self.epochs} leaves nothing to train of the recipe's {recipe.epochs} epochs."
            raise SpecError("Restarts", [Mistake("epochs", text)])
        return recipe

    def starts(self, seed: Seed) -> Starts:
        """The run's own head seed first, then others derived from it."""
        name = type(self).__name__
        heads = [derive(seed, "head", name, number) for number in range(1, self.heads)]
        return Starts((seed, *(seed._replace(head=head) for head in heads)), self.epochs)
