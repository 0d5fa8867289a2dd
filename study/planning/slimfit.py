"""SlimFit at a freeze rate that fits a budget of memory."""

from study.core.recipe import Recipe
from study.core.sizes import size_of
from study.core.spec import Invalid, Mistake, SpecError
from study.models.model import Model
from study.planning.memory import predicted_split
from study.planning.savings import SLIMFIT_RATES
from study.techniques import CompressedActivations, InterLayerScheduling, Technique


def slimfit(
    memory_budget: str,
    *,
    model: Model,
    recipe: Recipe,
    kind: str = "classification",
    gpu: bool = True,
) -> Technique:
    """SlimFit at the lowest published freeze rate whose step is predicted to fit a budget.

    The rate is found when the study file is read, and the technique, so the key of a run, holds it
    and not the budget. What kernels need while they run is not predicted: leave some room.

    Args:
        memory_budget: Such as `8GB`: for weights, gradients, optimizer states and activations.
        model: The checkpoint; its configuration is read.
        recipe: Its batch size and maximum length count, as of a batch whose rows all have it.
        kind: The kind of task.
        gpu: Whether the runs are on GPUs, where masks of dropout take a byte instead of four.

    Returns:
        `InterLayerScheduling(freeze_rate=...) + CompressedActivations()`. If no rate fits, or the
        budget is no size, a mistake, which a study reports with all others.

    Example:
        >>> from study import Recipe, slimfit
        >>> from study.models import MINILM
        >>> slimfit("530MB", model=MINILM, recipe=Recipe(batch_size=32)).label
        'InterLayerScheduling(0.85) + CompressedActivations'

    Source: Ardakani et al. 2023 (SlimFit) for the rates.
    """
    try:
        budget = size_of(memory_budget)
        return _fitting(budget, model, recipe, kind, gpu=gpu)
    except ValueError as error:  # of which SpecError is one
        mistakes = error.mistakes if isinstance(error, SpecError) else []
        found = mistakes or [Mistake("memory_budget", f"{error}.")]
        return Invalid(SpecError("slimfit", found))  # type: ignore[return-value]


def _fitting(budget: float, model: Model, recipe: Recipe, kind: str, *, gpu: bool) -> Technique:
    least = float("inf")
    for rate in sorted(SLIMFIT_RATES):
        technique = InterLayerScheduling(freeze_rate=rate) + CompressedActivations()
        split = predicted_split(model, kind, recipe, technique, length=recipe.max_length, gpu=gpu)
        if split is None:
            raise ValueError(
                f"what a step of model {model.name!r} holds cannot be predicted with this recipe; "
                "write InterLayerScheduling(freeze_rate=...) + CompressedActivations()"
            )
        if sum(split) <= budget:
            return technique
        least = min(least, sum(split))
    raise ValueError(
        f"{budget / 1e9:.3g} GB is not enough for model {model.name!r}: at a freeze rate of "
        f"{max(SLIMFIT_RATES)} a step of {recipe.batch_size} rows of {recipe.max_length} tokens "
        f"holds {least / 1e9:.3g} GB; take fewer or shorter rows, or see `study memory`"
    )
