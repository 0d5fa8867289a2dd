"""Statistics on NumPy arrays, independent of data frames, tasks and files."""
