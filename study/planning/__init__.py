"""Which runs a study has: cells, keys, searches, checks before the first run."""
