"""MLflow's undocumented interfaces that are used, and what breaks when one of them is gone."""

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from study.tracking.mlflow_internals import CHECKED
from tests.needs import ROOT

UTILS = "mlflow.tracking._tracking_service.utils"
STORE = "mlflow.store.tracking.sqlalchemy_store"
UNREACHABLE = "a server that cannot be used is not noticed at the start of a study"
USED = [
    (UTILS, "_get_store", "writes go on to a store file that was moved away"),
    (STORE, "SqlAlchemyStore._hard_delete_run", "`study gc` only marks runs as deleted"),
    ("mlflow.utils.credentials", "get_default_host_creds", UNREACHABLE),
    ("mlflow.utils.rest_utils", "http_request", UNREACHABLE),
]


@pytest.mark.parametrize(("module", "name", "broken"), USED)
def test_mlflow_still_has_what_is_used(module, name, broken):
    gone = f"MLflow {mlflow.__version__} (checked with {CHECKED}) has no {module}.{name}: {broken}"
    try:
        found = importlib.import_module(module)
    except ImportError:
        pytest.fail(gone)
    for part in name.split("."):
        assert hasattr(found, part), gone
        found = getattr(found, part)


def test_a_request_can_be_sent_once_and_quickly():
    from mlflow.utils.rest_utils import http_request

    assert {"timeout", "max_retries", "raise_on_status"} <= {
        *inspect.signature(http_request).parameters
    }, mlflow.__version__


def test_a_stores_connections_can_be_closed(home):
    from mlflow.tracking._tracking_service.utils import _get_store

    from study.tracking.store import Store

    store = Store(home.uri, home.artifacts)
    assert hasattr(_get_store(store.uri).engine, "dispose"), mlflow.__version__


def test_the_constraints_have_the_version_that_was_checked():
    constraints = Path(__file__).resolve().parents[3] / "constraints.txt"
    assert f"mlflow=={CHECKED}" in constraints.read_text().splitlines()


@pytest.mark.parametrize(
    ("code", "reports"),
    [
        ("import mlflow", True),  # else this test could not fail
        ("import study.tracking.store", False),
        ("from analysis.frames.store import _mlflow; _mlflow()", False),
    ],
)
def test_use_is_not_reported_to_mlflows_makers(code, reports):
    off = (
        "MLFLOW_DISABLE_TELEMETRY",
        "DO_NOT_TRACK",
        "CI",
        "PYTEST_CURRENT_TEST",
        "PYTEST_VERSION",
    )
    environment = {name: value for name, value in os.environ.items() if name not in off}
    show = "; from mlflow.telemetry.client import get_telemetry_client as get; print(get() is None)"
    told = subprocess.run(
        [sys.executable, "-c", code + show],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=ROOT,
    )
    assert told.stdout.split() == [str(not reports)]
