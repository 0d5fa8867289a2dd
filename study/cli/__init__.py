"""Command line `study`, one module per theme; the only package that uses `study` and `analysis`."""
