"""Resumable checkpoints: saved atomically, verified before use, resumed bit for bit."""

import importlib
import math
import multiprocessing
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch

from study.core.provenance import environment
from study.core.seeding import Seed
from study.tasks.metrics import METRICS
from study.techniques import EMA, BitFit, ProbeThenTune, Restarts, Standard
from study.techniques.base import Technique
from study.training.checkpoint import ResumableCheckpoint, restore
from study.training.fit import Setting
from study.training.tensor_file import CheckpointError
from study.training.train import train
from tests.conftest import CPU, PAIRS, RECIPE
from tests.interrupting import (
    Heartbeats,
    Interrupted,
    bits,
    count_heartbeats,
    resumed,
    uninterrupted,
)
from tests.needs import ROOT

ABOUT = {"device": "one", "packages": "some", "code": "this"}
TREE = {
    "numbers": [1, 0.1, math.inf, math.nan, True, None, "text"],
    "pair": (torch.tensor(3), torch.arange(6).reshape(2, 3).T),
    "kinds": {
        1: torch.tensor([True, False, True]),
        "b": torch.tensor([0.1, math.nan], dtype=torch.bfloat16),
        "empty": torch.empty(0, 2, dtype=torch.float64),
    },
}


def setting(technique: Technique = Standard(), seed: int = 0, **recipe: object) -> Setting:
    seeds = Seed(seed, seed, seed)
    return Setting(RECIPE.replace(**recipe), technique, seeds, METRICS["accuracy"], PAIRS)


def saved(folder: Path, tree: object = TREE, key: str = "key") -> ResumableCheckpoint:
    checkpoint = ResumableCheckpoint(folder, 0.0, key)
    assert checkpoint.load(ABOUT) is None
    checkpoint.save(lambda: tree)
    return checkpoint


def test_a_saved_tree_is_read_back_unchanged(tmp_path):
    saved(tmp_path / "run")
    again = ResumableCheckpoint(tmp_path / "run", 0.0, "key")
    assert repr(again.load(ABOUT)) == repr(TREE)  # repr: NaN is not equal to itself
    again.check(TREE)
    with pytest.raises(CheckpointError):
        again.check({**TREE, "more": 1})


def test_any_reader_of_safetensors_can_open_it(tmp_path):
    from safetensors.torch import load_file

    saved(tmp_path)
    tensors = load_file(tmp_path / "checkpoint.safetensors")
    assert tensors["1"].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda content: content[: len(content) // 2], "damaged"),
        (lambda content: b"", "damaged"),
        (lambda content: content[:-40] + b"\x01" + content[-39:], "damaged"),
        (lambda content: b"something else entirely, and long enough to be read", "damaged"),
    ],
    ids=["truncated", "empty", "one byte", "foreign"],
)
def test_a_damaged_file_is_not_used(spoil, why, tmp_path, caplog):
    saved(tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(spoil(file.read_bytes()))
    assert ResumableCheckpoint(tmp_path, 0.0, "key").load(ABOUT) is None
    assert "the run starts from scratch" in caplog.text
    assert why in caplog.text


@pytest.mark.parametrize("other", ["run", "device", "packages", "code"])
def test_another_run_or_device_or_code_does_not_use_it(other, tmp_path, caplog):
    saved(tmp_path)
    about = {**ABOUT, other: "another"} if other != "run" else ABOUT
    key = "another" if other == "run" else "key"
    assert ResumableCheckpoint(tmp_path, 0.0, key).load(about) is None
    assert f"saved under another {other}" in caplog.text


def test_the_code_of_a_user_technique_counts(tmp_path):
    ours, theirs = environment(CPU, [Standard]), environment(CPU, [Standard, MovesFrozen])
    assert ours["code"] != theirs["code"]
    assert ours["packages"] == theirs["packages"]


OWN = {
    "a/my_techniques.py": "from my_layers import RATE\nimport my_package.deep.one\nclass Mine: ...",
    "b/my_layers.py": "RATE = 1",  # on a cluster each lies in a folder of its own
    "c/my_package/__init__.py": "from os import path",
    "c/my_package/deep/__init__.py": "",
    "c/my_package/deep/one.py": "from ..other import two\nfrom . import three",
    "c/my_package/deep/three.py": "",
    "c/my_package/other.py": "import numpy\ntwo = 2",
    "d/my_study.py": "SEEDS = 3",
}


def code_of(folder: Path, *names: str) -> str:
    """The digest of `my_techniques` in a process that has loaded these modules too."""
    sys.path[:0] = [str(each) for each in folder.iterdir()]
    for name in names:
        importlib.import_module(name)
    own = importlib.import_module("my_techniques").Mine
    return environment(CPU, [own])["code"]


def test_what_code_of_ones_own_imports_counts_and_nothing_else(tmp_path):
    def changed(file: str | None, *names: str) -> str:
        folder = tmp_path / uuid.uuid4().hex
        for name, text in OWN.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text + "\nCHANGED = True" * (name == file))
        with multiprocessing.get_context("fork").Pool(1) as process:
            return process.apply(code_of, (folder, *names))

    before = changed(None)
    others = {file for file in OWN if changed(file) != before}
    assert others == OWN.keys() - {"d/my_study.py"}
    assert changed("d/my_study.py", "my_study") == before  # loaded for another run


def test_an_installed_package_counts_by_its_version_however_much_of_it_is_loaded():
    def environment_with(names: str) -> str:
        code = f"""
import {names}, torch
from study.core.provenance import environment
from study.tasks.metrics import METRICS
print(environment(torch.device("cpu"), [METRICS["accuracy"].score]))
"""
        return subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)

    little, much = environment_with("sys"), environment_with("sklearn.ensemble, sklearn.svm")
    assert "scikit-learn" in little
    assert little == much


def test_a_process_killed_while_saving_resumes_from_the_save_before(
    task, data, model, tmp_path, caplog
):
    script = f"""
import os, signal
from pathlib import Path
import torch
from study import EMA, Recipe, Study, Task
from study.training.checkpoint import ResumableCheckpoint
from study.training.prepare import prepare
from study.models.loading import Loaded
from study.models.model import Model
from study.training.train import train
task, model = Task(**{task.model_dump()!r}), Model(**{model.model_dump()!r})
recipe = Recipe(epochs=2, batch_size=8, lr=0.01)
(run,) = Study(name="s", tasks=[task], models=[model], seeds=[0], recipe=recipe,
               techniques=[EMA(beta=0.9)]).runs()
loaded = Loaded(model, task.load().kind)
data = prepare(task.load(), loaded.processor, 32)
saves, fsync = 0, os.fsync
def killed(handle):
    global saves
    saves += 0.5  # the file, then its folder
    if saves > 6:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)
os.fsync = killed
checkpoint = ResumableCheckpoint(Path({str(tmp_path)!r}), 0.0, "key")
train(run.setting(data.kind), data.splits, loaded, torch.device("cpu"), checkpoint)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("*.partial"))) == 1
    run = setting(EMA(beta=0.9))
    outcome, trained, steps = resumed(run, data, model, tmp_path, stops=[])
    assert not caplog.records
    assert steps == 2  # of 8
    assert bits(outcome, trained) == bits(*uninterrupted(run, data, model))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]


@pytest.fixture
def small_disk(tmp_path):
    """A 64 KB file system."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no `mount` here to make a small disk with")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_costs_the_checkpoint_alone(small_disk, data, model, loaded, caplog):
    checkpoint = saved(small_disk / "run", {"step": 1})
    checkpoint.save(lambda: {"weights": torch.ones(100_000)})
    assert "No space left" in caplog.text
    assert ResumableCheckpoint(small_disk / "run", 0.0, "key").load(ABOUT) == {"step": 1}
    outcome, _ = train(
        setting(), data, loaded, CPU, ResumableCheckpoint(small_disk / "new", 0.0, "key")
    )
    assert outcome.dev == uninterrupted(setting(), data, model)[0].dev
    assert list((small_disk / "new").iterdir()) == []


def test_a_short_run_leaves_nothing_and_a_cleared_one_neither(data, loaded, tmp_path):
    train(setting(), data, loaded, CPU, ResumableCheckpoint(tmp_path / "short", 300.0, "key"))
    assert not (tmp_path / "short").exists()
    checkpoint = ResumableCheckpoint(tmp_path / "long", 0.0, "key")
    train(setting(), data, loaded, CPU, checkpoint)
    assert [file.name for file in (tmp_path / "long").iterdir()] == ["checkpoint.safetensors"]
    checkpoint.clear()
    assert not (tmp_path / "long").exists()
    checkpoint.clear()


def test_checkpoints_change_nothing(data, model, loaded, tmp_path):
    checkpoint = ResumableCheckpoint(tmp_path, 0.0, "key")
    assert bits(*train(setting(), data, loaded, CPU, checkpoint)) == bits(
        *uninterrupted(setting(), data, model)
    )


@pytest.mark.parametrize(
    "technique",
    [ProbeThenTune(epochs=1, lr=1e-2) + EMA(beta=0.9), Restarts(heads=2) + EMA(beta=0.9)],
    ids=lambda technique: technique.title,
)
def test_a_run_resumes_from_every_point(technique, data, model, tmp_path):
    """Every step and evaluation batch, with ends of epochs, a change of phase and every start."""
    run = setting(technique, epochs=2, batch_size=16, checkpoint="best_dev", lr=0.03)
    expected = bits(*uninterrupted(run, data, model))
    for last in range(count_heartbeats(run, data, model, tmp_path)):
        outcome, trained, steps = resumed(run, data, model, tmp_path / str(last), stops=[last])
        assert bits(outcome, trained) == expected, last
        assert steps < outcome.facts["steps"] or last < 2


@pytest.mark.gpu
def test_a_run_on_a_gpu_resumes(data, model, tmp_path, caplog):
    """A GPU need not repeat its bits, but it must resume; else there would be a warning."""
    cuda = torch.device("cuda")
    _, _, steps = resumed(setting(EMA(beta=0.9)), data, model, tmp_path, stops=[6], device=cuda)
    assert steps == 3
    assert not caplog.records


def test_a_diverging_run_goes_on_to_its_divergence(data, model, tmp_path):
    run = setting(lr=1e30, clip_norm=None)
    outcome, trained, steps = resumed(run, data, model, tmp_path, stops=[3])
    assert outcome.outcome == "diverged"
    assert bits(outcome, trained) == bits(*uninterrupted(run, data, model))
    assert (steps, outcome.facts["steps"]) == (1, 4)


def test_seconds_and_memory_are_those_of_all_processes(data, loaded, tmp_path):
    first = ResumableCheckpoint(tmp_path, 0.0, "key", heartbeat=Heartbeats(6))
    with pytest.raises(Interrupted):
        train(setting(), data, loaded, CPU, first)
    second = ResumableCheckpoint(tmp_path, 0.0, "key")
    state = second.load(environment(CPU, [Standard, METRICS["accuracy"].score]))
    second.save(lambda: {**state, "before": [1000.0, 10**15]})
    facts = train(setting(), data, loaded, CPU, ResumableCheckpoint(tmp_path, 0.0, "key"))[0].facts
    assert 1000.0 < facts["seconds"] < 1100.0
    assert facts["peak_memory_bytes"] == 10**15


def test_what_is_frozen_is_not_written(data, model, tmp_path):
    sizes = {}
    for technique in (Standard(), BitFit()):
        folder = tmp_path / technique.title
        resumed(setting(technique), data, model, folder, stops=[])
        sizes[technique.title] = (folder / "checkpoint.safetensors").stat().st_size
    assert sizes["BitFit"] < sizes["Standard"] / 3


class MovesFrozen(Technique):
    """Changes a frozen weight, which a resumable checkpoint does not save."""

    def prepare(self, state):  # type: ignore[no-untyped-def]
        state.freeze(["bert.pooler.dense.bias"])

    @torch.no_grad()
    def after_step(self, state):  # type: ignore[no-untyped-def]
        state.model.get_parameter("bert.pooler.dense.bias").add_(0.01)


def test_a_technique_that_moves_what_is_frozen_starts_anew(data, model, tmp_path, caplog):
    run = setting(MovesFrozen())
    outcome, trained, steps = resumed(run, data, model, tmp_path, stops=[5])
    assert "is not used, the run starts from scratch: what is rebuilt at a start" in caplog.text
    assert steps == outcome.facts["steps"]
    assert bits(outcome, trained) == bits(*uninterrupted(run, data, model))


class KeepsGenerator(Technique):
    """Keeps a generator from step to step, which a checkpoint cannot hold."""

    where: str

    def prepare(self, state):  # type: ignore[no-untyped-def]
        getattr(state, self.where)["KeepsGenerator"] = {"rng": state.rng("noise", "KeepsGenerator")}


@pytest.mark.parametrize("where", ["memo", "fixed"])
def test_what_cannot_be_saved_is_logged_once_and_the_run_goes_on(
    where, data, loaded, tmp_path, caplog
):
    outcome, _ = train(
        setting(KeepsGenerator(where=where)),
        data,
        loaded,
        CPU,
        ResumableCheckpoint(tmp_path, 0.0, "key"),
    )
    assert outcome.outcome == "completed"
    (record,) = caplog.records
    assert "this run saves no checkpoints and continues" in record.getMessage()
    assert "/KeepsGenerator/rng is a Generator; a checkpoint holds numbers" in record.getMessage()


def test_values_beside_state_memo_are_refused(tiny_state):
    with pytest.raises(AttributeError):
        tiny_state.mine = 1
    with pytest.raises(TypeError, match="belongs in `state.memo`"):
        type("Hiding", (Technique,), {"_count": 0, "__module__": "mine"})


def test_tensors_and_containers_are_restored_in_place():
    target = {"a": torch.zeros(2), "deep": [{"b": torch.zeros(1)}], "gone": 1}
    tensor, inside = target["a"], target["deep"][0]
    restore({"a": torch.ones(2), "deep": [{"b": torch.ones(1)}, 2]}, target, CPU)
    assert target["a"] is tensor
    assert target["deep"][0] is inside
    assert repr(target) == repr({"a": torch.ones(2), "deep": [{"b": torch.ones(1)}, 2]})
