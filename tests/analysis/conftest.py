"""Shared fixtures: the frames of a small study."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from analysis import write_report

EFFECTS = {  # configuration: gain in the mean, sd, seconds
    "Standard": (0.0, 0.018, 30.0),
    "LayerwiseDecay(0.7)": (0.012, 0.010, 31.0),
    "FreezeLower(4)": (-0.03, 0.006, 19.0),
    "ReinitTop(2)": (0.004, 0.020, 30.5),
    "Mixout(0.1)": (0.002, 0.012, 39.0),
}
FLOORS = {"terms": 0.5, "rte": 0.527}


def one_run(task, configuration, seed, *, dev, test):
    """A row as `load_runs` returns it."""
    facts = {"family": "BERT", "parameters": 22_713_216, "domain": "general"}
    facts |= {"vocabulary": "wordpiece", "objective": "sentences"}
    facts |= {"whole_word_masking": "no", "next_sentence": ""}
    machine = {"device": "cpu", "host": "a", "seconds": EFFECTS[configuration][2]}
    machine |= {"steps_per_second": 8.0, "peak_memory_bytes": 9e8, "trained_fraction": 1.0}
    return {
        "study": "small",
        "task": task,
        "task_type": "",
        "model": "minilm",
        "technique": configuration.split("(")[0],
        "configuration": configuration,
        **dict.fromkeys(("seed", "head", "order", "noise"), seed),
        **{"stage": "final", "tried": 1, "search": ""},
        "outcome": "completed",
        "collapsed": False,
        "collapse_rule": "",
        "dev": dev,
        "test": test,
        "metric": "accuracy",
        "higher_is_better": True,
        "dev_floor": FLOORS[task],
        "test_floor": FLOORS[task] - 0.004,
        **{"train_rows": 2000, "dev_rows": 600, "test_rows": 600},
        **facts,
        **machine,
        **{"versions": "torch 2.13.0", "commit": "4f2a91c", "dirty": False},
        "key": hashlib.sha256(f"{task} {configuration} {seed}".encode()).hexdigest()[:12],
        "cell": f"{task} {configuration}",
    }


@pytest.fixture
def clean():
    """Two tasks, five techniques, seven seeds; no failed and no missing runs."""
    return clean_study()


@pytest.fixture
def runs():
    """The same study with one diverged, one collapsed and two missing runs."""
    return troubled_study()


@pytest.fixture
def curves(runs):
    """Dev scores and losses over three epochs of each finished run."""
    return curves_of(runs)


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    """The report on `runs`, written once per session."""
    runs = troubled_study()
    return write_report(runs, curves_of(runs), tmp_path_factory.mktemp("report"))


def clean_study():
    rng = np.random.default_rng(3)
    rows = []
    for task, base in (("terms", 0.78), ("rte", 0.66)):
        for configuration, (gain, sd, _) in EFFECTS.items():
            for seed in range(7):
                dev = round(base + gain + rng.normal(0, sd), 4)
                test = round(dev - 0.01 + rng.normal(0, 0.004), 4)
                rows.append(one_run(task, configuration, seed, dev=dev, test=test))
    frame = pd.DataFrame(rows)
    counts = ["seed", "head", "order", "noise", "train_rows", "dev_rows", "test_rows", "parameters"]
    return frame.astype(dict.fromkeys(counts, "Int64"))


def troubled_study():
    frame = clean_study()

    def change(task, configuration, seed, **values):
        chosen = frame["task"].eq(task) & frame["configuration"].eq(configuration)
        frame.loc[chosen & frame["seed"].eq(seed), list(values)] = list(values.values())

    nothing = {"dev": np.nan, "test": np.nan}
    change("terms", "Standard", 3, outcome="diverged", **nothing)
    change("rte", "ReinitTop(2)", 2, dev=0.53, test=0.523, collapsed=True, collapse_rule="at_floor")
    for seed in (5, 6):
        change("rte", "Mixout(0.1)", seed, outcome="missing", seconds=np.nan, **nothing)
    return frame


def curves_of(runs):
    rows = []
    for run in runs[runs["outcome"] != "missing"].itertuples():
        own = (run.key, run.task, run.model, run.configuration, run.seed)
        for epoch in (1, 2, 3):
            rows.append((*own, epoch, "dev/accuracy", run.dev_floor + 0.05 * epoch))
            rows.append((*own, epoch, "train/loss", 0.7 / epoch))
    names = ["key", "task", "model", "configuration", "seed", "epoch", "name", "value"]
    return pd.DataFrame(rows, columns=names)
