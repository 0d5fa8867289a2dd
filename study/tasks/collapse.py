"""Rules that decide whether a completed run has collapsed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from study.tasks.kinds import Kind, Split
from study.tasks.kinds.encoded import Encoded
from study.tasks.metrics import Metric

COLLAPSED = "not clearly better than a constant answer"  # what it means, wherever it is said


def floor(metric: Metric, kind: Kind, data: Encoded) -> float:
    """The best score of a constant prediction.

    Args:
        metric: The task's metric.
        kind: The kind of task, which determines the constant predictions.
        data: The split.

    Returns:
        The score. Where the metric is undefined for every constant (correlations), 0.0 if a perfect
        answer scores more; else NaN: 0 is the best value of an error.

    Source: Mosbach et al. 2021, the majority-class predictor; F1 as the larger of all-positive
        and 0.
    """
    if defined := _constant_scores(metric, kind, data):
        return max(defined, key=metric.oriented)
    perfect = metric.oriented(metric(data.gold, kind.perfect(data.gold)))
    return 0.0 if perfect > 0 else float("nan")


def floor_of(metric: Metric, kind: Kind, split: Split) -> float:
    """The best score of a constant prediction on a split that is not encoded; see `floor`."""
    starts = np.arange(len(split.ids) + 1)
    return floor(metric, kind, Encoded(split.ids, kind.references(split), starts, starts))


def recorded(metric: Metric, kind: Kind, data: Encoded, answers: Any) -> float:
    """The score that counts for a run's answers.

    Args:
        metric: The task's metric.
        kind: The kind of task.
        data: The split.
        answers: The run's answers, one per example.

    Returns:
        The score where it is finite; the floor for a constant answer where the metric is undefined
        for every constant. NaN otherwise: an infinite or undefined score says that the run failed,
        and any number in its place could be a good one.
    """
    score = metric(data.gold, answers)
    if np.isfinite(score):
        return score
    if np.isnan(score) and kind.is_constant(answers) and not _constant_scores(metric, kind, data):
        return floor(metric, kind, data)
    return float("nan")


def _constant_scores(metric: Metric, kind: Kind, data: Encoded) -> list[float]:
    """The finite scores of constant predictions."""
    constants = kind.constants(data)
    if metric.constant is not None:
        constants.append(np.full(len(data.ids), metric.constant(data.gold)))
    scores = [metric(data.gold, answers) for answers in constants]
    return [score for score in scores if np.isfinite(score)]


def hopeless(metric: Metric, kind: Kind, splits: Mapping[str, Split]) -> dict[str, str]:
    """Splits on whose labels no run of a task can succeed, and why.

    Args:
        metric: The task's metric.
        kind: The kind of task.
        splits: `train`, `dev` and `test`.

    Returns:
        By the name of a split: all labels of train are the same, so that there is nothing to learn;
        a perfect prediction would count as collapsed on dev; or the metric is undefined on test.
    """
    reasons = {}
    perfect = {name: kind.perfect(kind.references(split)) for name, split in splits.items()}
    constant = {name: kind.is_constant(answers) for name, answers in perfect.items()}
    same = "all {} rows have the same label"
    sizes = {name: len(split.ids) for name, split in splits.items()}
    if constant["train"]:
        reasons["train"] = f"{same.format(sizes['train'])}, so there is nothing to learn."
    if constant["dev"]:
        reasons["dev"] = (
            f"{same.format(sizes['dev'])}, so every run would count as collapsed; add rows with "
            "other labels."
        )
    # Seconds for tags, whose constants are far from right unless all tags are the same.
    elif not kind.words and (why := _too_easy(metric, kind, splits["dev"], perfect["dev"])):
        reasons["dev"] = why
    if np.isnan(metric(kind.references(splits["test"]), perfect["test"])):
        reasons["test"] = (
            f"{same.format(sizes['test'])}, for which {metric.name} is undefined; add rows with "
            "other labels."
        )
    return reasons


def _too_easy(metric: Metric, kind: Kind, split: Split, perfect: Any) -> str:
    """Why a perfect prediction would count as collapsed; empty if it would not."""
    gold, count = kind.references(split), len(split.ids)
    best, constant = metric(gold, perfect), floor_of(metric, kind, split)
    known = np.isfinite(constant)  # without tokens that of a perplexity is not
    if not known or metric.oriented(best - constant) > margin(metric, constant, count):
        return ""
    return (
        f"on its {count} rows a perfect prediction scores {best:.3g} in {metric.name} and a "
        f"constant one {constant:.3g}, so every run would count as collapsed; use more rows, or a "
        "metric on which a constant prediction scores lower."
    )


def margin(metric: Metric, floor: float, examples: int) -> float:
    """How far above the floor a score must be to count as better than a constant prediction.

    Returns:
        The larger of one point and two binomial standard errors of the floor, in units of the
        metric; for unbounded metrics one per cent of the floor.

    Source: Mosbach et al. 2021 and Dodge et al. 2020, failed runs. Differs: they use the floor
        itself; the margin excludes scores that exceed the floor by chance.
    """
    if not metric.bounded:
        return 0.01 * abs(floor)
    return max(0.01, 2 * float(np.sqrt(max(floor * (1 - floor), 0.0) / examples)))


def chance_margin(metric: Metric, floor: float, examples: int) -> float:
    """How far above the floor a score must be to rule out chance: the run has then learned.

    Returns:
        Four standard errors of an uninformed predictor, in units of the metric: binomial at the
        floor; of a correlation where the floor's are 0; for unbounded metrics with the floor itself
        as the standard deviation.
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
    """The rules by which a completed run is not clearly better than a constant answer.

    Args:
        metric: The task's metric.
        dev: The run's final dev score; NaN counts as the floor.
        floor: The constant predictor's dev score; NaN where unknown, and then no rule that compares
            with it applies.
        examples: Size of the dev split.
        constant: Whether all dev examples have the same prediction.
        train_loss: The task's mean loss over the last epoch of training.
        loss_to_beat: The loss of the best constant prediction less a margin.

    Returns:
        Names among `at_floor`, `constant`, `no_fit`; empty for a run that has not collapsed.

    Source: Mosbach et al. 2021, failed runs (`at_floor`). The other two are signs of the same
        failure where the dev score exceeds the floor by chance. `no_fit` applies only to scores
        within `chance_margin`, because a high training loss alone proves little: that of a run of
        one epoch includes the first steps, and noise in training adds to it.
    """
    known = not np.isnan(floor)
    above = metric.oriented(dev - floor)
    rules = []
    if known and not above > margin(metric, floor, examples):
        rules.append("at_floor")
    if constant:
        rules.append("constant")
    by_chance = known and not above > chance_margin(metric, floor, examples)
    if not train_loss < loss_to_beat and by_chance:
        rules.append("no_fit")
    return rules
