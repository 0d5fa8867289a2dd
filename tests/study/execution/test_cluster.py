"""What a driver checks before the first run: capacity, versions, weights, storage."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from study import Recipe, Standard, Study, Task, TaskOverrides
from study.core.paths import Home
from study.core.provenance import versions
from study.execution import capacity, cluster, machines, monitor, ray_tune
from study.execution.faults import ClusterError, Fault
from study.execution.notify import Notifier
from study.execution.queue import Progress, RunQueue
from study.execution.session import Session
from study.models import transport
from study.testing import tiny_model, tiny_task
from tests.study.tracking.conftest import free_port

HEAD = {"Alive": True, "NodeID": "a", "Resources": {"CPU": 4.0}}
SMALL = {"Alive": True, "NodeID": "b", "Resources": {"CPU": 8.0, "GPU": 1.0, "gpu_gb": 16.0}}
LARGE = {"Alive": True, "NodeID": "c", "Resources": {"CPU": 32.0, "GPU": 4.0, "gpu_gb": 320.0}}
GONE = {"Alive": False, "NodeID": "d", "Resources": {"CPU": 96.0, "GPU": 8.0}}


@pytest.fixture
def mixed(monkeypatch):
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [HEAD, SMALL, LARGE, GONE])
    monkeypatch.setattr(capacity, "runs_when_grown", lambda need: 0)


@pytest.mark.parametrize(
    ("need", "runs"),
    [
        ({"CPU": 1.0, "GPU": 0.0}, 44),  # the head too
        ({"CPU": 1.0, "GPU": 1.0}, 5),
        ({"CPU": 4.0, "GPU": 0.25}, 2 + 8),
        ({"CPU": 1.0, "GPU": 0.25, "gpu_gb": 20.0}, 16),  # the small one's memory is too small
        ({"CPU": 0.5, "GPU": 0.1}, 10 + 40),  # no share is lost to rounding
        ({"CPU": 1.0, "GPU": 8.0}, 0),
    ],
)
def test_capacity_is_what_single_machines_hold(mixed, need, runs):
    assert capacity.runs_at_once(need) == runs


def test_a_machine_to_itself_is_the_largest_that_fits(mixed):
    """A larger machine would hold several runs with the cores of a smaller one."""
    assert capacity.cores_of_largest({"CPU": 1.0, "GPU": 0.0}) == 32
    assert capacity.cores_of_largest({"CPU": 1.0, "GPU": 2.0}) == 32
    assert (
        capacity.cores_of_largest({"CPU": 1.0, "GPU": 8.0}) == 1
    )  # the only one that fits is gone


def test_a_run_that_fits_nowhere_is_refused_with_what_the_machines_have(mixed):
    with pytest.raises(ClusterError) as error:
        capacity.check_fits({"CPU": 1.0, "GPU": 8.0}, local=False)
    assert "a run needs 1 CPU, 8 GPU; its machines have 4 CPU, 0 GPU; 8 CPU, 1 GPU" in str(error)
    assert "add machines" in str(error.value)


def test_a_package_too_large_to_send_has_its_own_message(monkeypatch):
    def refuses(**_):
        raise ValueError(
            "Package size (600.00MiB) exceeds the maximum size of 500.00MiB. To exclude …"
        )

    monkeypatch.setattr(cluster.ray, "init", refuses)
    with pytest.raises(ClusterError, match="of 500.00MiB. Move data out of them") as error:
        cluster.join("auto", own=["mine"], local=False, verbose=False)
    assert "ray status" not in str(error.value)


def test_a_cluster_that_can_grow_is_waited_for(mixed, monkeypatch):
    monkeypatch.setattr(capacity, "runs_when_grown", lambda need: 2)
    capacity.check_fits({"CPU": 1.0, "GPU": 8.0}, local=False)


FILE = {  # as `ray up` leaves it
    "max_workers": 5,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "small": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 5},
        "large": {"resources": {"CPU": 48, "GPU": 4}, "max_workers": 2},
        "own": {"resources": {}},  # of a machine that exists Ray knows nothing before it joins
    },
}


@pytest.mark.parametrize(
    ("need", "runs"),
    [
        ({"CPU": 1.0, "GPU": 1.0}, 4 + 4 + 3),
        ({"CPU": 1.0, "GPU": 0.5}, 8 + 8 + 6),
        ({"CPU": 1.0, "GPU": 2.0}, 2 + 2),
        ({"CPU": 1.0, "GPU": 8.0}, 0),
    ],
)
def test_growth_is_read_from_the_file_of_ray_up(need, runs, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("STUDY_ROOM", raising=False)
    assert capacity.runs_when_grown(need) == 0  # nothing there
    (tmp_path / capacity.GROWTH).write_text("cut short")
    assert capacity.runs_when_grown(need) == 0
    (tmp_path / capacity.GROWTH).write_text(json.dumps(FILE))
    assert capacity.runs_when_grown(need) == runs
    monkeypatch.setenv("STUDY_ROOM", "7")
    assert capacity.runs_when_grown(need) == 7
    monkeypatch.setenv("STUDY_ROOM", "many")
    with pytest.raises(ClusterError, match="STUDY_ROOM=many is not a number"):
        capacity.runs_when_grown(need)


def test_a_malformed_capacity_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [SMALL])
    monkeypatch.setenv("STUDY_ROOM", "many")
    with pytest.raises(ClusterError, match="STUDY_ROOM=many"):
        capacity.check_fits({"CPU": 1.0, "GPU": 1.0}, local=False)


def test_growth_does_not_count_for_a_local_cluster(mixed, monkeypatch):
    monkeypatch.setattr(capacity, "runs_when_grown", lambda need: 2)
    with pytest.raises(ClusterError, match="this machine has"):
        capacity.check_fits({"CPU": 1.0, "GPU": 8.0}, local=True)


def test_the_limit_follows_the_machines(monkeypatch):
    there = [HEAD]
    monkeypatch.setattr(cluster.ray, "nodes", lambda: there)
    monkeypatch.setattr(capacity, "runs_when_grown", lambda need: 0)
    monkeypatch.setattr(capacity, "REFRESH_SECONDS", 0.0)
    need = {"CPU": 1.0, "GPU": 1.0}
    free, limited = capacity.Capacity(need, None), capacity.Capacity(need, 3)
    assert (free(), limited()) == (2, 3)
    there.append(LARGE)
    assert (free(), limited()) == (2 * 4 + 2, 3)


@pytest.fixture
def study(model, tmp_path):
    """A task whose runs take one thread, and one whose runs take four."""
    small = tiny_task(tmp_path / "task")
    large = Task(**small.canonical() | {"name": "large"})
    return Study(
        name="s",
        tasks=[small, large],
        models=[model],
        recipe=Recipe(threads=1),
        per_task={"large": TaskOverrides(recipe=Recipe(threads=4))},
        techniques=[Standard()],
        seeds=range(2),
    )


def test_runs_differ_in_what_they_take(study):
    least, most = ray_tune.needed(study, study.runs())
    assert (least["CPU"], most["CPU"]) == (1, 4)


def test_a_run_that_was_out_of_memory_gets_the_largest_machine(mixed, study, monkeypatch):
    progress = Progress(total=4, finished=0)
    queue = RunQueue(study.runs()[:1], progress, keep_going=False)
    tracking = SimpleNamespace(stages=SimpleNamespace(stage=lambda key: "tune"), trouble=None)
    session = Session(study, queue, tracking, models=None, notifier=Notifier("s"))
    searcher = ray_tune.RunSearcher(session, lambda: 2)
    assert searcher.suggest("a")["resources"]["CPU"] == 1
    queue.failed(study.runs()[0], Fault("memory", "why", ""))
    searcher.on_trial_complete("a")
    assert not progress.exclusive
    assert searcher.suggest("b")["resources"]["CPU"] == 32
    assert progress.exclusive == {"b"}

    monkeypatch.setattr(monitor, "STOP_SECONDS", 0.01)
    monkeypatch.setattr(monitor, "LOOK_SECONDS", 0.0)
    smallest, _ = ray_tune.needed(study, study.runs())
    with monitor.Monitor(session, Home(Path("absent")), smallest):
        until(lambda: progress.shortage == "")
        monkeypatch.setattr(cluster.ray, "nodes", lambda: [HEAD, SMALL, GONE])
        until(lambda: "needs an exclusive machine, which has left" in progress.shortage)
        monkeypatch.setattr(cluster.ray, "nodes", lambda: [GONE])
        until(lambda: progress.shortage.startswith("no machine of the cluster can hold a run"))
    searcher.on_trial_complete("b")
    assert not progress.exclusive
    assert not progress.resources


ORDINARY, WHOLE = {"CPU": 1.0}, {"CPU": 32.0}


@pytest.mark.parametrize(
    ("resources", "exclusive", "there", "ends", "ends_when_closed"),
    [
        ({}, set(), [HEAD], False, False),  # nothing is under way
        ({"a": ORDINARY}, set(), [HEAD], False, False),
        ({"a": ORDINARY}, set(), [GONE], False, True),  # one may come: waiting costs nothing
        ({"a": {"CPU": 16.0}}, set(), [SMALL], False, True),
        ({"a": WHOLE}, {"a"}, [SMALL], True, True),
        ({"a": WHOLE}, {"a"}, [GONE], False, True),  # there is none to take instead
        ({"a": WHOLE}, {"a"}, [SMALL, LARGE], False, False),
        ({"a": WHOLE, "b": ORDINARY}, {"a"}, [SMALL], False, False),  # the other is being done
    ],
)
def test_a_wave_of_which_no_run_can_be_scheduled_ends(
    monkeypatch, resources, exclusive, there, ends, ends_when_closed
):
    monkeypatch.setattr(capacity, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(cluster.ray, "nodes", lambda: there)
    progress = Progress(total=2, finished=0, resources=resources, exclusive=exclusive)
    stopper = capacity.UnschedulableStopper(progress, ORDINARY)
    assert not stopper.stop_all()  # the machine may come back
    monkeypatch.setattr(capacity, "RETURN_SECONDS", -1.0)
    assert stopper.stop_all() == ends
    progress.closed = "its budget is spent"
    monkeypatch.setattr(capacity, "RETURN_SECONDS", 900.0)
    assert not capacity.UnschedulableStopper(
        progress, ORDINARY
    ).stop_all()  # Tune may not have heard of all yet
    monkeypatch.setattr(capacity, "CLOSED_SECONDS", -1.0)
    assert capacity.UnschedulableStopper(progress, ORDINARY).stop_all() == ends_when_closed


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def model(tmp_path):
    return tiny_model(tmp_path / "model")


def report(model, **differences):
    what = {
        "host": "host2",
        "versions": versions(),
        "weights": {model.name: model.identity()},
        "missing": {},
        "folder": "shared",
    }
    return machines.MachineReport(**what | differences)


def test_a_machine_like_the_drivers_is_accepted(model):
    assert machines._objections(report(model), [model], set()) == []
    assert machines._objections(report(model, folder="own"), [model], set()) == []


def test_versions_are_compared_by_name():
    older, newer = "python 3.11.7, torch 2.13.0, numpy 2.4.6", "python 3.11.7, torch 2.13.0, peft 1"
    assert machines.other_versions(older, f"{newer}, numpy 2.4.6") == []
    (text,) = machines.other_versions(older, f"{newer}, numpy 2.5")
    assert text.startswith("has numpy 2.4.6, the driver numpy 2.5")


def test_another_version_is_named_with_the_drivers(model):
    other = versions().replace("torch ", "torch 0")
    (text,) = machines._objections(report(model, versions=other), [model], set())
    assert text.startswith("has torch 0")
    assert "the driver torch" in text


def test_other_code_under_the_same_version_is_named(model):
    """As on a machine with an older image."""
    before, _, digest = versions().rpartition(" ")
    (text,) = machines._objections(report(model, versions=f"{before} 0"), [model], set())
    assert text == f"has code 0, the driver code {digest}; copy the driver's there (ray up)."


def test_another_patch_version_of_python_is_accepted(model):
    other = "python 3.11.0, " + versions().partition(", ")[2]
    assert machines._objections(report(model, versions=other), [model], set()) == []


def test_weights_must_be_the_same_or_be_sent(model):
    other = {model.name: "0123456789abcdef"}
    (text,) = machines._objections(report(model, weights=other), [model], {model.name})
    assert "other weights for model 'tiny'" in text
    absent = {"weights": {model.name: None}, "missing": {model.name: "no folder '/x'."}}
    (text,) = machines._objections(report(model, **absent), [model], set())
    assert text == "lacks model 'tiny': no folder '/x'."
    assert machines._objections(report(model, **absent), [model], {model.name}) == []


def test_a_folder_that_cannot_be_written_is_reported(model):
    wrong = "cannot write to /shared/studies/s (Permission denied)"
    (text,) = machines._objections(report(model, folder=wrong), [model], set())
    assert text.startswith(wrong)


def test_a_folder_is_shared_where_the_drivers_file_is(tmp_path):
    assert machines._folder(tmp_path, ".token") == "own"
    (tmp_path / ".token").touch()
    assert machines._folder(tmp_path, ".token") == "shared"
    assert [path.name for path in tmp_path.iterdir()] == [".token"]


def test_a_checkpoint_is_sent_with_all_its_files(model, tmp_path, monkeypatch):
    monkeypatch.setattr(transport.tempfile, "gettempdir", lambda: str(tmp_path / "there"))
    there = transport.unpacked(model, transport.packed(model), model.identity())
    assert there.checkpoint != model.checkpoint
    assert there.identity() == model.identity()
    assert transport.unpacked(model, {}, model.identity()) == there  # written once


def test_users_of_one_machine_unpack_into_folders_of_their_own(model, tmp_path, monkeypatch):
    monkeypatch.setattr(transport.tempfile, "gettempdir", lambda: str(tmp_path / "there"))
    places = []
    for user in (1000, 1001):
        monkeypatch.setattr(transport.os, "getuid", lambda user=user: user)
        places.append(transport.unpacked(model, transport.packed(model), "id").folder().parent)
    assert places[0] != places[1]


def test_a_checkpoint_from_the_hub_is_not_sent(model):
    assert not transport.is_local(model.replace(checkpoint="google/bert_uncased_L-2"))
    assert transport.is_local(model)


def test_the_users_modules_are_sent_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "my_losses.py").write_text("X = 1\n")
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("import my_losses\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "their_metrics.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(elsewhere))
    import my_package  # noqa: F401
    import their_metrics  # noqa: F401

    beside = [str(tmp_path / "my_losses.py"), str(tmp_path / "my_package")]
    assert cluster.own_modules([], tmp_path) == beside
    named = cluster.own_modules(["their_metrics:f1"], tmp_path)
    assert named == [str(elsewhere / "their_metrics.py"), *beside]
    for name in ("my_losses", "my_package", "their_metrics"):
        sys.modules.pop(name)


def test_a_cluster_that_the_environment_names_is_named_with_it(monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=rf"no Ray cluster at {address} \(RAY_ADDRESS\)"):
        cluster.join(address, own=[], local=False, verbose=False)


def test_a_folder_that_is_too_long_for_rays_sockets_is_named(monkeypatch, tmp_path):
    """As of the jobs of Slurm, whose TMPDIR is often long."""
    long = tmp_path / "scratch-of-a-user-with-a-long-name" / "slurm-job-1355700" / "temporary"
    long.mkdir(parents=True)
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with pytest.raises(ClusterError, match=rf"files, {long}, is too long .* RAY_TMPDIR to a short"):
        cluster.join("local", own=[], local=True, verbose=False)
