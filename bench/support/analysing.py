"""Measurements of `bench/analysis.py`; each function is called in a separate process."""

import time
from typing import TYPE_CHECKING

from reading import peak

from support import many_runs

if TYPE_CHECKING:
    import pandas as pd

SUITE = (10, 100, 50, 2000)  # tasks, runs, techniques, resamples


def bootstrap() -> float:
    """Seconds that the stratified bootstrap takes."""
    import numpy as np

    from analysis.statistics.aggregate import aggregate

    tasks, runs, techniques, resamples = SUITE
    rng = np.random.default_rng(0)
    scores = rng.normal(0.7, 0.02, (runs, tasks, techniques))
    began = time.perf_counter()
    aggregate(scores, unit="cell", tasks="fixed", resamples=resamples, rng=rng)
    return time.perf_counter() - began


def dominance() -> float:
    """Seconds that almost stochastic order takes."""
    import numpy as np

    from analysis.statistics.dominance import almost_stochastic_order

    rng = np.random.default_rng(0)
    first, second = rng.normal(0.7, 0.02, (2, SUITE[1]))
    began = time.perf_counter()
    almost_stochastic_order(first, second, failed=False, comparisons=1, resamples=1000, rng=rng)
    return time.perf_counter() - began


def tables(runs: int) -> dict[str, object]:
    """Seconds that each table takes, and the peak memory of the process in bytes."""
    import analysis

    frame = frame_of(runs)
    parts = {
        "cells": analysis.cells,
        "best": analysis.best_strategy,
        "stability": analysis.stability,
        "ranks": analysis.ranks,
        "aggregates": analysis.aggregates,
    }
    seconds = {}
    for name, compute in parts.items():
        began = time.perf_counter()
        compute(frame)
        seconds[name] = time.perf_counter() - began
    return {"seconds": seconds, "bytes": peak()}


def seeds(each: int) -> float:
    """Seconds that the tables of ten cells with so many seeds take."""
    import numpy as np

    import analysis

    number, seed = np.divmod(np.arange(10 * each), each)
    labels = np.where(number > 0, "T" + number.astype(str).astype(object), "Standard")
    names = dict.fromkeys(("technique", "configuration", "cell"), labels)
    streams = dict.fromkeys(("seed", "head", "order", "noise"), seed)
    frame = frame_of(10_000).head(10 * each).assign(task="t", model="m", **names, **streams)
    began = time.perf_counter()
    for compute in (
        analysis.cells,
        analysis.stability,
        analysis.sources,
        analysis.pairs,
        analysis.pareto,
    ):
        compute(frame)
    return time.perf_counter() - began


def frame_of(runs: int) -> "pd.DataFrame":
    """A frame of runs with random scores, one in fifty collapsed."""
    import numpy as np
    import pandas as pd

    from analysis.frames.columns import COLUMNS

    tasks, models, techniques = many_runs.TASKS, many_runs.MODELS, many_runs.TECHNIQUES
    number = np.arange(runs)
    cell, seed = np.divmod(number, runs // (tasks * models * techniques))
    pair, technique = np.divmod(cell, techniques)
    task, model = np.divmod(pair, models)
    rng = np.random.default_rng(0)
    dev, test = 0.7 + 0.002 * technique + rng.normal(0, 0.02, (2, runs))
    collapsed = rng.random(runs) < 0.02
    frame = pd.DataFrame({"task": task, "model": model, "technique": technique, "seed": seed})
    frame = frame.assign(
        **{name: "t" + frame[name].astype(str) for name in ("task", "model", "technique")},
        **dict.fromkeys(("head", "order", "noise"), seed),
        configuration=lambda rows: rows["technique"].where(technique > 0, "Standard"),
        cell=cell.astype(str),
        key=number.astype(str),
        dev=np.where(collapsed, 0.5, dev),
        test=np.where(collapsed, 0.5, test),
        **{"collapsed": collapsed, "outcome": "completed", "study": "many", "stage": "final"},
        **{"metric": "accuracy", "higher_is_better": True, "dev_floor": 0.5, "test_floor": 0.5},
        **{"train_rows": 1000, "dev_rows": 1000, "test_rows": 1000, "seconds": 60.0, "tried": 1},
    )
    frame["technique"] = frame["technique"].where(technique > 0, "Standard")
    return frame.reindex(columns=COLUMNS).fillna({"family": "BERT", "search": "", "task_type": ""})


def predictions(examples: int) -> float:
    """Seconds that all measures of agreement take, for the predictions of 200 runs."""
    import numpy as np
    import pandas as pd

    import analysis

    runs, classes = 200, 3
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(examples, classes)) + rng.normal(0, 0.5, (runs, examples, classes))
    frame = pd.DataFrame(
        logits.reshape(-1, classes), columns=[f"logit_{name}" for name in ("maybe", "no", "yes")]
    )
    seed = np.repeat(np.arange(runs), examples)
    frame = frame.assign(
        **{"task": "t", "model": "m", "configuration": "Standard", "stage": "final"},
        **{"split": "test", "seed": seed, "key": pd.Categorical(seed.astype(str))},
        id=pd.Categorical(np.tile(np.arange(examples), runs).astype(str)),
        label=pd.Categorical(np.tile(rng.choice(["maybe", "no", "yes"], examples), runs)),
    )
    began = time.perf_counter()
    analysis.agreement(frame)
    return time.perf_counter() - began


def load(database: str, runs: int) -> float:
    """Seconds to load all runs of a store."""
    from analysis import load_runs

    began = time.perf_counter()
    found = load_runs("overhead", f"sqlite:///{database}")
    took = time.perf_counter() - began
    if len(found) != runs or (found["outcome"] != "completed").any():
        raise RuntimeError(f"{len(found)} of {runs} runs were loaded")
    return took
