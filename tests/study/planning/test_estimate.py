"""Estimates: seconds from finished runs, memory from their peak, and both rough without any."""

import math

import pytest

from study import FreezeLower, Recipe, Standard, Study
from study.cli.progress import span_text
from study.planning.estimate import estimate_runs
from study.planning.memory import predicted_split


def test_what_was_measured_replaces_what_is_rough(task, model):
    techniques = [Standard(), FreezeLower(layers=1)]
    study = Study(
        name="s", tasks=[task], models=[model], techniques=techniques, recipe=Recipe(), seeds=[0]
    )
    plain, frozen = study.cells()
    parameters = 45 * 16 + 128 * 16 + 2 * 16 + 2 * 16  # words, positions, segments, norm
    layer = 4 * (16 * 16 + 16) + 2 * 16 + (16 * 32 + 32) + (32 * 16 + 16) + 2 * 16
    parameters += 2 * layer + (16 * 16 + 16) + (16 * 2 + 2)  # pooler and head
    low = study.replace(recipe=Recipe(precision="bfloat16")).cells()[0]  # is not predicted
    rough = estimate_runs([low], {}, gpus=1, peaks={})[low.key]
    assert rough.memory == 16 * parameters  # weights, gradients, two moments, as float32
    assert (rough.basis, rough.peak, rough.predicted) == ("rough", False, False)
    longest = max(len(f"{a} {b}".split()) for a, b in both(task))
    split = predicted_split(
        model, "classification", Recipe(), length=int(longest * 1.4) + 3, gpu=True
    )
    rough = estimate_runs([plain], {}, gpus=1, peaks={})[plain.key]
    assert (rough.memory, rough.predicted) == (sum(split), True)
    assert split.gradients == 4 * parameters
    found = estimate_runs(
        [plain, frozen],
        {plain.key: [2.0, 4.0]},
        gpus=0,
        peaks={plain.key: 5e8, frozen.key: math.nan},
    )
    own, other = found[plain.key], found[frozen.key]
    assert (own.seconds, own.basis, own.memory, own.peak) == (3.0, "measured", 5e8, True)
    assert (other.seconds, other.basis, other.peak) == (3.0, "similar", False)


def both(task):
    """The texts of every training row."""
    split = task.load().splits["train"]
    return zip(split.text, split.text_pair or [""] * len(split.text), strict=True)


@pytest.mark.parametrize(
    ("rough", "text"), [(True, "roughly 2 min to 7 min"), (False, "about 3 min")]
)
def test_a_rough_estimate_is_a_range(rough, text):
    assert span_text(200.0, rough=rough) == text
