"""Restarts: several new heads begin, the one that is best on dev goes on."""

from pydantic import Field

from study.core.recipe import Recipe
from study.core.seeding import Seed, derive
from study.core.spec import Mistake, SpecError
from study.techniques.base import Technique
from study.techniques.state import Starts


class Restarts(Technique):
    """Begin several times with other heads and stop all but the best on dev.

    Where dev scores tie, the lower training loss decides. All starts happen inside one run and
    belong to its seed; a seed of the study is never dropped. The first start is the run as it
    would be without restarts. What all of them cost is in the run's steps and seconds.

    Attributes:
        heads: How many starts, each with a new head of its own.
        epochs: After how many epochs they are compared.

    Source: Dodge et al. 2020, early stopping: start many, stop early, continue the best. Differs:
        they restart with other data orders as well, and compare several times before the end of
        the first epoch of three; here one start goes on, and epochs are the unit. The numbers are
        chosen here.
    """

    heads: int = Field(default=5, ge=2)
    epochs: int = Field(default=1, ge=1)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Refuse to compare after the end."""
        if self.epochs >= recipe.epochs:
            text = f"{self.epochs} leaves nothing to train of the recipe's {recipe.epochs} epochs."
            raise SpecError("Restarts", [Mistake("epochs", text)])
        return recipe

    def starts(self, seed: Seed) -> Starts:
        """The run's own head stream first, then others derived from it."""
        name = type(self).__name__
        heads = [derive(seed, "head", name, number) for number in range(1, self.heads)]
        return Starts((seed, *(seed._replace(head=head) for head in heads)), self.epochs)
