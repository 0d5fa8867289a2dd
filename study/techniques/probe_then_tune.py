"""Linear probing, then fine-tuning (LP-FT): train the head on frozen features first."""

from pydantic import Field

from study.core.recipe import Recipe
from study.core.spec import Mistake, SpecError
from study.models.families import Depths
from study.tasks.kinds import KINDS
from study.techniques.base import Technique, check_epochs
from study.techniques.state import Phase, TrainState


class ProbeThenTune(Technique):
    """Train the head alone for some epochs, then everything from there.

    A random head sends gradients that distort the features; a fitted one does not. While probing,
    the encoder's dropout is off, so that its features are fixed; the head's own dropout is on. Each
    phase has its own optimizer, warm-up and schedule.

    The recipe's epochs cover both phases. A probing epoch costs less than a tuning epoch, because
    no gradient passes through the encoder, so equal epochs favour the other techniques.

    Attributes:
        epochs: Epochs of probing, fewer than the recipe's.
        lr: Peak learning rate of probing.

    Example:
        >>> from study import ProbeThenTune
        >>> ProbeThenTune(epochs=2).label
        'ProbeThenTune(2)'

    Source: Kumar et al. 2022, LP-FT. Differs: probing lasts a fixed number of epochs instead of
        to convergence; both defaults are chosen here.
    """

    epochs: int = Field(default=1, gt=0)
    lr: float = Field(default=1e-3, gt=0.0)

    def objection(self, depths: Depths, kind: str) -> str | None:
        """There must be a new head."""
        if not KINDS[kind].pretrained_head:
            return None
        return "its head is that of pretraining, so there is no new one to train first"

    def recipe(self, recipe: Recipe) -> Recipe:
        """Refuse a recipe that is too short for both phases, or counts in steps."""
        check_epochs(recipe, self.title)
        if self.epochs >= recipe.epochs:
            text = f"{self.epochs} epochs of probing leave none of the recipe's {recipe.epochs}."
            raise SpecError("ProbeThenTune", [Mistake("epochs", text)])
        return recipe

    def phases(self, phases: list[Phase], state: TrainState) -> list[Phase]:
        """The head, then everything that would be trained without probing."""
        (whole,) = phases
        head = tuple(n for n in whole.names if state.depths.of(n) == state.depths.head)
        probing = Phase(whole.recipe.replace(epochs=self.epochs, lr=self.lr), head)
        left = whole.recipe.epochs - self.epochs
        return [probing, Phase(whole.recipe.replace(epochs=left), whole.names)]

    def before_step(self, state: TrainState) -> None:
        """Turn off the encoder's dropout while probing; the loop turns it on in every epoch."""
        if state.phase == 0:
            state.model.get_submodule(state.depths.family.body).eval()
