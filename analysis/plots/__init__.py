"""Drawings, each a function of a frame."""
