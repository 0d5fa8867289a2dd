"""Statistics whose sample is the test examples."""
