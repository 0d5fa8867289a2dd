"""A study of two stages, killed in each: the same choices, and each run once."""

import json

import pytest

from analysis import best_strategy, load_runs, trials
from analysis.per_task.search import progress, protocol
from tests.end_to_end.conftest import tracked
from tests.once import once

pytestmark = pytest.mark.slow

FILE = """\
from search_spaces import Space
from optuna.distributions import CategoricalDistribution, FloatDistribution
from study import LayerwiseDecay, Model, Recipe, Search, Standard, Study, Task, Tune, main

HERE = {here!r}
LR = FloatDistribution(1e-3, 1e-2, log=True)
RATE = CategoricalDistribution((0.5, 0.7, 0.9))
STUDY = Study(
    name="kills",
    tasks=[Task(name="pairs", train="train.jsonl", dev="dev.jsonl", test="test.jsonl",
                text_pair="text_pair")],
    data=HERE + "/task",
    models=[Model(name="tiny", checkpoint=HERE + "/model")],
    recipe=Recipe(lr=3e-3, epochs=5, batch_size=8),
    techniques=[
        Standard(),
        Search(Standard, Space({{}}, {{"lr": LR}})),
        Search(LayerwiseDecay, Space({{"rate": RATE}}, {{"lr": LR}})),
    ],
    tune=Tune(trials=13, seeds=2, sampler="tpe"),
    seeds=range(100, 103),
)

if __name__ == "__main__":
    main(STUDY)
"""
TUNING = 2 * 13 * 2
RUNS = TUNING + 3 * 3


@pytest.fixture
def tuned(bench):
    (bench.folder / "kills.py").write_text(FILE.format(here=str(bench.folder)))
    return bench


def frame(home):
    return load_runs("kills", f"sqlite:///{home / 'mlflow.db'}")


def outcome_of(home):
    """What was tried and chosen, and every score."""
    runs = frame(home).sort_values(["stage", "key"], ignore_index=True)
    return runs[["stage", "key", "configuration", "seed", "search", "dev", "test"]]


@pytest.fixture(scope="module")
def whole(bench, tmp_path_factory):
    """The study undisturbed, with one worker."""

    def make(folder):
        (bench.folder / "kills.py").write_text(FILE.format(here=str(bench.folder)))
        driver = bench.start(folder / "home", "--workers", "1")
        assert driver.finish(600) == 0, driver.said()
        assert f"finished: {RUNS} of {RUNS} runs done" in driver.said()

    return once(tmp_path_factory, "whole", make) / "home"


def test_both_stages_are_in_the_frame(whole):
    runs = frame(whole)
    assert len(tracked(whole)) == len(set(tracked(whole))) == RUNS
    assert dict(runs["stage"].value_counts()) == {"tune": TUNING, "final": 9}
    tried = trials(runs)
    assert len(tried) == 26
    for _, part in tried.groupby("technique"):
        (won,) = part.index[part["chosen"]]
        assert won == part["dev"].idxmax()  # the first of equals
    final = runs[runs["stage"] == "final"]
    assert set(final["seed"]) == {100, 101, 102}
    assert sorted(final.groupby("configuration")["tried"].first()) == [1, 13, 13]
    assert best_strategy(runs)["n"].tolist() == [3]
    assert "13 configurations (by TPE, of which the first 10 are drawn" in protocol(runs)
    assert progress(runs) == (
        "tune: 52 of 52 runs; 2 of 2 searches have chosen\nfinal: 9 of 9 runs"
    )


def test_killed_in_each_stage(tuned, whole, tmp_path):
    home = tmp_path / "home"
    for reached in (14, TUNING - 6, TUNING + 4):  # startup, a batch of TPE, the final stage
        driver = tuned.start(home)
        driver.wait_for_runs(reached)
        driver.wait_for(lambda driver=driver: bool(driver.workers()))
        driver.kill()
        assert reached <= len(tracked(home)) < RUNS, "the kill came too late"
    driver = tuned.start(home)
    assert driver.finish(600) == 0, driver.said()
    assert len(tracked(home)) == len(set(tracked(home))) == RUNS
    assert outcome_of(home).equals(outcome_of(whole))
    assert list((home / "studies" / "kills" / "outbox").iterdir()) == []


def test_again_runs_nothing_and_says_how_many_there_are(tuned, whole):
    driver = tuned.start(whole, "--dry-run", "--json")
    assert driver.finish() == 0, driver.said()
    answer = json.loads(driver.said().splitlines()[-1])
    assert (answer["runs"], answer["missing"]) == (RUNS, 0)
