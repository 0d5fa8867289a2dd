"""Ray's undocumented interfaces that are used, and what breaks when one of them is gone."""

import importlib
from pathlib import Path

import pytest
import ray

from study.execution.ray_internals import CHECKED

STUDY_ENDS = "a study ends where a worker is lost in another way than by a RayActorError"
BLOCKED = "runs of a paused cell, or after a spent budget, begin nevertheless"
USED = [
    ("ray.air.execution._internal.actor_manager", "RayActorError", STUDY_ENDS),
    ("ray.tune.execution.tune_controller", "RayActorError", STUDY_ENDS),
    ("ray.tune.experiment.trial", "RayActorError", STUDY_ENDS),
    ("ray.experimental.internal_kv", "_internal_kv_put", BLOCKED),
    ("ray.experimental.internal_kv", "_internal_kv_get", BLOCKED),
]


@pytest.mark.parametrize(("module", "name", "broken"), USED)
def test_ray_still_has_what_is_used(module, name, broken):
    gone = f"Ray {ray.__version__} (checked with {CHECKED}) has no {module}.{name}: {broken}"
    try:
        found = importlib.import_module(module)
    except ImportError:
        pytest.fail(gone)
    assert hasattr(found, name), gone


def test_actor_errors_can_be_preempted():
    """Otherwise Tune does not read it, and the other errors need not have it."""
    assert hasattr(ray.exceptions.ActorDiedError(), "preempted"), ray.__version__


def test_the_constraints_have_the_version_that_was_checked():
    constraints = Path(__file__).resolve().parents[3] / "constraints.txt"
    assert f"ray=={CHECKED}" in constraints.read_text().splitlines()
