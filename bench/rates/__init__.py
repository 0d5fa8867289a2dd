"""Simulations of error rates: one module per question, each with `rates(trials)`."""
