"""Statistics whose sample is the tasks of a suite."""
