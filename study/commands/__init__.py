"""What each command does, by theme; the only place that joins `study` and `analysis`."""
