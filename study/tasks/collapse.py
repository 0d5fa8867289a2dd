"""When a completed run counts as collapsed."""

import numpy as np

from study.tasks.kinds import Kind
from study.tasks.kinds.encoded import Encoded
from study.tasks.metrics import Metric


def floor(metric: Metric, kind: Kind, data: Encoded) -> float:
    """The best score that a constant answer reaches.

    Args:
        metric: The deciding metric.
        kind: The kind of task; says which constant answers there are.
        data: The split.

    Returns:
        The score; 0.0 where the metric is undefined for constants (correlations).

    Source: Mosbach et al. 2021, the majority-class predictor; F1 as the larger of all-positive
        and 0.
    """
    scores = [metric(data.gold, answer) for answer in kind.constants(data)]
    defined = [score for score in scores if np.isfinite(score)]
    if not defined:
        return 0.0
    return max(defined, key=metric.oriented)


def margin(metric: Metric, floor: float, examples: int) -> float:
    """How far above the floor a score must be to count as better than a constant answer.

    Returns:
        The larger of one point and two binomial standard errors of the floor, in units of the
        metric; for unbounded metrics one per cent of the floor.

    Source: Mosbach et al. 2021 and Dodge et al. 2020, failed runs. Differs: they take the floor
        itself; a margin keeps a lucky constant answer from counting as learnt.
    """
    if not metric.bounded:
        return 0.01 * abs(floor)
    return max(0.01, 2 * float(np.sqrt(max(floor * (1 - floor), 0.0) / examples)))


def luck(metric: Metric, floor: float, examples: int) -> float:
    """How far above the floor a score is no luck, whatever else speaks against the run.

    Returns:
        Four standard errors of what knows nothing, in units of the metric: binomial ones of the
        floor, those of a correlation where that is 0, for unbounded metrics the floor's own size.
    """
    scale = float(np.sqrt(max(floor * (1 - floor), 0.0))) or 1.0
    return 4 * (scale if metric.bounded else abs(floor)) / float(np.sqrt(examples))


def collapse_rules(
    metric: Metric,
    *,
    dev: float,
    floor: float,
    examples: int,
    constant: bool,
    train_loss: float,
    loss_to_beat: float,
) -> list[str]:
    """Which signs say that a completed run learnt no more than a constant answer.

    Args:
        metric: The deciding metric.
        dev: The run's final dev score; NaN where the metric is undefined for its predictions.
        floor: The constant predictor's dev score.
        examples: Size of the dev split.
        constant: Whether all dev examples have the same answer.
        train_loss: The task's mean loss over the last epoch of training.
        loss_to_beat: What a run that fits anything stays below.

    Returns:
        Names among `at_floor`, `constant`, `no_fit`; empty for a run that learnt.

    Source: Mosbach et al. 2021, failed runs (`at_floor`); the other two are signs of the same
        failure that a lucky split can hide. So `no_fit` counts only where it can: a run of one
        epoch has the loss of its first steps, and noise in training adds to it.
    """
    above = metric.oriented(dev - floor)  # NaN is at the floor
    rules = []
    if not above > margin(metric, floor, examples):
        rules.append("at_floor")
    if constant:
        rules.append("constant")
    if not train_loss < loss_to_beat and not above > luck(metric, floor, examples):
        rules.append("no_fit")
    return rules
