"""Statistics whose sample is the seeds of each task."""
