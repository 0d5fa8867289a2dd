"""Benchmark of the overhead per run: the platform against plain Ray Tune, without training.

Ours is all that `study run` does: checks, keys, the searcher, warm workers, spec and checkpoint on
the worker, entry and predictions, the outbox, and MLflow until it has the last run. Only the
training is replaced: `train` returns a fixed outcome immediately. To this end the driver gives Tune
a `Worker` whose `setup` replaces it.

Plain Tune is a class Trainable whose step returns immediately, over a grid of as many keys, with
reused actors and without loggers. It stores nothing.

Each figure is the median over fresh processes; the two sides alternate. The clock starts after the
imports and stops when everything is written and Ray has shut down, so it includes starting Ray, its
workers and the store. `per run` divides that by the number of runs; `marginal` is the slope between
a row and the row above it, without the fixed costs.

The bar: at 500 runs, ours is at most 40 ms per run above plain Tune. With `--long`, the marginal
cost between 500 and 2,000 runs must also be at most 1.15 times that between 50 and 500; fixed costs
would bias a ratio of the `per run` figures. `--quick` does 50 runs, where fixed costs weigh ten
times as much: it shows that the benchmark works, and usually misses the bar.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common

if TYPE_CHECKING:
    import torch
    from torch import nn

    from study import Study
    from study.models.loading import Loaded
    from study.tasks.kinds.encoded import Encoded
    from study.training.checkpoint import ResumableCheckpoint
    from study.training.fit import Setting
    from study.training.train import Outcome

BAR_MS = 40.0
BAR_GROWTH = 1.15
CELLS = 5
FIXED_DEV = 0.8125  # runs that were really trained would not all score this
NO_LOGGERS = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}


def main() -> int:
    """Run the benchmark and print whether the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="50 runs, once")
    length.add_argument("--long", action="store_true", help="also 2,000 runs, once")
    arguments = parser.parse_args()
    sizes = [50] if arguments.quick else [50, 500]
    rounds = 1 if arguments.quick else 3
    took = measure(sizes, rounds)
    if arguments.long:
        took |= measure([2000], rounds=1)
    print_table(took)

    largest = sizes[-1]
    plain_ms, ours_ms = (1000 * seconds / largest for seconds in took[largest])
    above = ours_ms - plain_ms
    figure = f"{above:+.1f} ms per run against plain Tune at {largest} runs"
    bar, met = f"+{BAR_MS:.0f} ms", above <= BAR_MS
    if arguments.long:
        early, late = (slopes[1] for slopes in marginal(took)[-2:])
        figure += f", marginal cost at 2000 is {late / early:.2f} times that at 500"
        bar, met = f"{bar}, {BAR_GROWTH}", met and late <= early * BAR_GROWTH
    return common.ending("overhead", figure, bar=bar, met=met)


def measure(sizes: list[int], rounds: int) -> dict[int, tuple[float, float]]:
    """Median seconds of plain Tune and of ours, by number of runs."""
    taken: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            baseline = common.measured(plain, size, environment=NO_LOGGERS).answer
            taken[size].append((baseline, common.measured(ours, size).answer))
    return {
        size: (statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs))
        for size, pairs in taken.items()
    }


def marginal(took: dict[int, tuple[float, float]]) -> list[tuple[float, float]]:
    """Marginal seconds per run of plain Tune and of ours, between neighbouring sizes."""
    return [
        ((c[0] - a[0]) / (many - few), (c[1] - a[1]) / (many - few))
        for (few, a), (many, c) in pairwise(sorted(took.items()))
    ]


def print_table(took: dict[int, tuple[float, float]]) -> None:
    """Print milliseconds per run, with and without fixed costs."""
    print(f"ms; {common.WORKERS} workers   plain Tune              ours")
    print("runs          per run    marginal  per run    marginal")
    slopes = [None, *marginal(took)]
    for (size, seconds), slope in zip(sorted(took.items()), slopes, strict=True):
        cells = [
            f"{1000 * seconds[side] / size:9.1f}  "
            + (f"{1000 * slope[side]:10.1f}" if slope else f"{'':10}")
            for side in (0, 1)
        ]
        print(f"{size:<12}{'  '.join(cells)}".rstrip())


# --- called in a separate process ---------------------------------------------------------------


def plain(runs: int) -> float:
    """Seconds that plain Tune takes."""
    import ray  # here, because the process that starts the benchmarks does not need it
    from ray import tune

    class Idle(tune.Trainable):
        def setup(self, config: dict[str, int]) -> None:
            """Nothing to set up."""

        def reset_config(self, new_config: dict[str, int]) -> bool:
            return True

        def step(self) -> dict[str, bool]:
            return {"done": True}

    began = time.perf_counter()
    ray.init("local", num_cpus=common.WORKERS, include_dashboard=False, log_to_driver=False)
    tuner = tune.Tuner(
        Idle,
        param_space={"key": tune.grid_search(list(range(runs)))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(Path("tune").resolve()),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    results = tuner.fit()
    ray.shutdown()
    took = time.perf_counter() - began
    if len(results) != runs or results.errors:
        raise RuntimeError(f"{len(results)} of {runs} trials, {len(results.errors)} errors")
    return took


def ours(runs: int) -> float:
    """Seconds that a study takes without training."""
    study = idle(runs)
    began = time.perf_counter()
    records = common.complete(study)
    took = time.perf_counter() - began
    if {record.dev for record in records.values()} != {FIXED_DEV}:
        raise RuntimeError("the training was not replaced")
    return took


def idle(runs: int) -> "Study":
    """A study of this many runs, whose workers skip the training."""
    from study import LayerwiseDecay, Recipe, Standard, Study
    from study.execution import ray_tune, worker
    from study.testing import tiny_model, tiny_task

    class Untrained(worker.Worker):  # local, so that it is pickled by value
        def setup(self, config: dict[str, str], **shared: Any) -> None:
            worker.train = untrained
            super().setup(config, **shared)

    ray_tune.Worker = Untrained
    rates = (0.9, 0.8, 0.7, 0.6)
    return Study(
        name="overhead",
        tasks=[tiny_task(Path("task"))],
        models=[tiny_model(Path("model"))],
        recipe=Recipe(max_length=32),
        techniques=[Standard(), *(LayerwiseDecay(rate=rate) for rate in rates)],
        seeds=range(runs // CELLS),
    )


def untrained(
    setting: "Setting",
    data: Mapping[str, "Encoded"],
    loaded: "Loaded",
    device: "torch.device",
    checkpoint: "ResumableCheckpoint",
    skills: object,
) -> tuple["Outcome", "nn.Module"]:
    """Replaces `train`: a fixed outcome, with as many numbers as after 3 epochs."""
    import numpy as np
    from torch import nn

    from study.training.train import Outcome

    shapes = {split: (len(data[split].ids), setting.kind.outputs) for split in ("dev", "test")}
    outcome = Outcome(
        "completed",
        dev=FIXED_DEV,
        test=0.75,
        dev_floor=0.5,
        test_floor=0.5,
        curves={
            "train/loss": [0.6, 0.5, 0.4],
            f"dev/{setting.metric.name}": [0.5, 0.75, FIXED_DEV],
        },
        logits={split: np.zeros(shape, np.float32) for split, shape in shapes.items()},
        facts={
            "seconds": 0.001,
            "steps": 6.0,
            "steps_per_second": 6000.0,
            "peak_memory_bytes": 1e8,
            "trained_fraction": 1.0,
        },
    )
    return outcome, nn.Identity()


if __name__ == "__main__":
    sys.exit(main())
