"""Load the frame of runs from MLflow or from score files."""
