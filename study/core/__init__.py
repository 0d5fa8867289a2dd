"""Foundations of all other packages: specs, seeds, paths, locks, provenance; imports none."""
