"""Finished runs: the outbox on disk, then MLflow; nothing else writes there."""

import os

# Read when MLflow is loaded: it reports its use to its makers unless told not to.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
