"""Which trained models stay, whatever the order in which runs end, and across restarts."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from study import Adapters, Study
from study.core.atomic import PARTIAL
from study.execution.saved_models import ModelStore, save
from study.planning.preflight import problems
from study.planning.runs import Run
from study.training.train import Outcome, train
from tests.conftest import CPU, PAIRS

DEV = {0: 0.5, 1: 0.75, 2: 0.75}  # by seed; of equals the lowest key stays


def arrive(store: ModelStore, run: Run) -> None:
    folder = store.folder(run)
    assert folder is not None
    folder.mkdir(parents=True)
    describe(folder, run, DEV[run.seed.head])
    store.settle(run, Outcome("completed", dev=DEV[run.seed.head]))


def describe(folder: Path, run: Run, dev: float) -> None:
    """As `save` does."""
    about = {"key": folder.name, "dev": dev, **run.spec()}
    (folder / "run.json").write_text(json.dumps(about))


def stored(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("restart_after", [0, 1, 2])
def test_the_best_on_dev_stays(tmp_path, runs, order, restart_after):
    store = ModelStore(tmp_path, "best", runs)
    for number, index in enumerate(order):
        if number == restart_after:
            store = ModelStore(tmp_path, "best", runs)
        arrive(store, runs[index])
    assert stored(tmp_path) == {min(runs[1].key, runs[2].key)}


@pytest.mark.parametrize("name", ["0" * 12, ".{key}.123"])
def test_a_model_of_no_run_of_the_study_is_left_alone(tmp_path, runs, name):
    """Of rows that have changed or gone since, or of a worker that was killed on the way."""
    other = tmp_path / name.format(key=runs[1].key)
    other.mkdir()
    gone = replace(runs[1].cell, task=runs[1].cell.task.replace(train="gone.jsonl"))
    describe(other, Run(gone, runs[1].seed), dev=1.0)
    arrive(ModelStore(tmp_path, "best", runs), runs[0])
    assert stored(tmp_path) == {other.name, runs[0].key}


def test_all_or_none_stay(tmp_path, runs):
    store = ModelStore(tmp_path, "all", runs)
    for run in runs:
        arrive(store, run)
    assert stored(tmp_path) == {run.key for run in runs}
    assert ModelStore(tmp_path, "none", runs).folder(runs[0]) is None


def test_a_saved_model_takes_the_place_of_what_was_there(tmp_path, runs, data, loaded):
    outcome, model = train(runs[0].setting(PAIRS), data, loaded, CPU)
    folder = tmp_path / runs[0].key
    folder.mkdir()
    (folder / "left over").touch()
    save(model, loaded, runs[0], outcome, folder, key=runs[0].key)
    assert stored(tmp_path) == {runs[0].key}  # nothing partial
    names = {"model.safetensors", "config.json", "tokenizer.json", "run.json", "README.md"}
    assert names <= stored(folder)
    assert "left over" not in stored(folder)


def test_a_model_that_cannot_be_written_leaves_what_was_there(
    tmp_path, runs, data, loaded, monkeypatch
):
    outcome, model = train(runs[0].setting(PAIRS), data, loaded, CPU)
    folder = tmp_path / runs[0].key
    save(model, loaded, runs[0], outcome, folder, key=runs[0].key)
    mkdir = Path.mkdir
    for name in ("model.safetensors", "tokenizer.json", "run.json"):  # by who writes it

        def blocked(folder: Path, *args: object, name: str = name, **kwargs: object) -> None:
            """A folder with the name of the file is in the way."""
            mkdir(folder, *args, **kwargs)  # type: ignore[arg-type]
            if folder.suffix == PARTIAL:
                mkdir(folder / name)

        monkeypatch.setattr(Path, "mkdir", blocked)
        with pytest.raises(OSError, match="os error|Errno"):
            save(model, loaded, runs[0], outcome, folder, key=runs[0].key)
        assert stored(tmp_path) == {runs[0].key}, name


def test_a_model_that_is_not_there_displaces_none(tmp_path, runs):
    store = ModelStore(tmp_path, "best", runs)
    arrive(store, runs[0])
    store.settle(runs[1], Outcome("completed", dev=DEV[1]))  # its disk was full
    assert stored(tmp_path) == {runs[0].key}


def test_what_cannot_be_kept_is_said_before_anything_runs(task, model):
    study = Study(
        name="s", tasks=[task], models=[model], techniques=[Adapters()], seeds=[0], keep="best"
    )
    (mistake,) = problems(study)
    assert str(mistake).startswith(
        "techniques[0]: its model cannot be kept: its adapters are not linear"
    )
