"""Figures; each function takes a frame and returns a matplotlib figure."""
