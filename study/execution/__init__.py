"""Missing runs to Ray Tune and back; the only place that imports Ray."""
