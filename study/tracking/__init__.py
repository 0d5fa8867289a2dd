"""Finished runs: the outbox on disk, then MLflow; nothing else writes there."""
