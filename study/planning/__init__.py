"""Planning of a study: cells, runs and keys, searches, checks before the start, and estimates."""
