"""Benchmark of the analysis: against rliable and deepsig, on 100,000 runs, and loading a store.

Each figure is measured in a separate single-threaded process, excluding imports.

- `bootstrap`: mean, median and interquartile mean of 50 techniques on 10 tasks × 100 seeds with
  stratified intervals, 2,000 resamples. Bar: 100 times as fast as rliable.
- `dominance`: almost stochastic order of 2 × 100 scores, 1,000 resamples. Bar: 10 times
  as fast as deepsig.
- `tables`: from a frame of 4 tasks × 5 models × 25 techniques × 200 seeds to every cell, the best
  strategies, stability, ranks and aggregates. Bar: 60 s and 4 GB.
- `seeds`: from ten cells of 1,000 seeds each to every cell, stability, the sources of variance, all
  pairs and the Pareto front. Bar: 10 s, a second a cell.
- `predictions`: agreement of 200 runs on 10,000 examples of three classes. Bar: 10 s.
- `load 10k`, `load 100k`: all runs of a study from the SQLite store. Bars: 5 s and 60 s.

rliable 1.2.0 and deepsig 1.2.8 need pandas below 3, so they are installed in another environment:
`--against PYTHON` names its interpreter and measures them in the same run. Without it the figures
of STORED are used, which say when and where they were taken.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import common
import overhead
from support import analysing, many_runs

STORED = {"bootstrap": 15.2, "dominance": 3.2}  # seconds; 2026-11-26, two shared CPU cores
GIGABYTE = 1e9


class Figure(NamedTuple):
    """One line of the result."""

    name: str
    text: str
    met: bool


def main() -> int:
    """Run the benchmarks and print which bars are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="PYTHON", help="interpreter with rliable and deepsig")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the runs and examples")
    arguments = parser.parse_args()
    share = 20 if arguments.quick else 1
    theirs = peers(arguments.against) if arguments.against else STORED
    figures = [
        versus(
            "bootstrap", common.measured(analysing.bootstrap).answer, theirs["bootstrap"], times=100
        ),
        versus(
            "dominance", common.measured(analysing.dominance).answer, theirs["dominance"], times=10
        ),
        tables_figure(100_000 // share),
        within("seeds", common.measured(analysing.seeds, 1_000 // share).answer, bar=10),
        within(
            "predictions", common.measured(analysing.predictions, 10_000 // share).answer, bar=10
        ),
        *loading(share),
    ]
    for name, text, met in figures:
        print(f"{name:<12}{text}{'' if met else '  short'}")
    short = [figure.name for figure in figures if not figure.met]
    figure = f"{len(figures) - len(short)} of {len(figures)} bars met"
    return common.ending("analysis", figure, bar="all", met=not short)


def peers(python: str) -> dict[str, float]:
    """Seconds that rliable and deepsig take, by benchmark."""
    script = Path(__file__).with_name("support") / "peers.py"
    words = [python, str(script), *map(str, analysing.SUITE)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def versus(name: str, ours: float, theirs: float, *, times: int) -> Figure:
    """The speed-up over another library, against a bar."""
    ratio = theirs / ours
    text = f"{ours:.3f} s against {theirs:.1f} s: {ratio:.0f} times as fast (bar {times})"
    return Figure(name, text, ratio >= times)


def within(name: str, seconds: float, *, bar: float) -> Figure:
    """Seconds, against a bar."""
    return Figure(name, f"{seconds:.1f} s (bar {bar:g} s)", seconds <= bar)


def tables_figure(runs: int) -> Figure:
    """Seconds and memory of the tables, from a frame of runs."""
    found = common.measured(analysing.tables, runs).answer
    seconds, size = sum(found["seconds"].values()), found["bytes"] / GIGABYTE
    parts = ", ".join(f"{name} {taken:.1f}" for name, taken in found["seconds"].items())
    text = f"{runs:,} runs: {seconds:.1f} s ({parts}), {size:.1f} GB (bars 60 s, 4 GB)"
    return Figure("tables", text, seconds <= 60 and size <= 4)


def loading(share: int) -> list[Figure]:
    """Seconds to load two stores."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "store")
        common.measured(overhead.ours, overhead.CELLS, environment={"STUDY_HOME": str(home)})
        for name, runs, bar in (("load 10k", 10_000, 5), ("load 100k", 100_000, 60)):
            database = Path(folder, f"{runs}.db")
            many_runs.multiply(str(home / "mlflow.db"), str(database), runs // share)
            seconds = common.measured(analysing.load, str(database), runs // share).answer
            figures.append(within(name, seconds, bar=bar))
            database.unlink()
    return figures


if __name__ == "__main__":
    sys.exit(main())
