"""Seconds that rliable and deepsig take; for an interpreter with both, and pandas below 3.

`python peers.py TASKS RUNS TECHNIQUES RESAMPLES` prints them as JSON.
"""

import json
import sys
import time

import numpy as np


def main() -> None:
    """Measure both, called as in their documentation."""
    from deepsig import aso
    from rliable import library, metrics

    tasks, runs, techniques, resamples = map(int, sys.argv[1:])
    rng = np.random.default_rng(0)
    scores = {str(k): rng.normal(0.7, 0.02, (runs, tasks)) for k in range(techniques)}

    def aggregates(x: np.ndarray) -> np.ndarray:
        return np.array(
            [metrics.aggregate_mean(x), metrics.aggregate_median(x), metrics.aggregate_iqm(x)]
        )

    began = time.perf_counter()
    library.get_interval_estimates(scores, aggregates, reps=resamples)
    bootstrap = time.perf_counter() - began
    first, second = scores["0"].ravel()[:runs], scores["1"].ravel()[:runs]
    began = time.perf_counter()
    aso(first, second, num_bootstrap_iterations=1000, show_progress=False, num_jobs=1)
    dominance = time.perf_counter() - began
    print(json.dumps({"bootstrap": bootstrap, "dominance": dominance}))


if __name__ == "__main__":
    main()
