"""Lost runs: classified and retried; the watchdog, budgets, and notifications."""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from study import Budget, SpecError, Standard
from study.core.lock import StudyLockedError
from study.core.paths import Home
from study.execution import runner
from study.execution.faults import RETRIES, ClusterError, Fault, classify
from study.execution.notify import Notifier
from study.execution.queue import Progress, RunQueue
from study.planning.budget import Meter
from study.planning.study import Study
from study.testing import tiny_model, tiny_task

NODE = """The actor died unexpectedly before finishing this task.
The actor died because its node has died. Node Id: 8a3f"""
MEMORY = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node was 10 GB"
)
UNAVAILABLE = "The actor 9c3d is unavailable: The actor is temporarily unavailable: IOError"
DEVICE = """ray::Worker.train()
torch.AcceleratorError: CUDA error: out of memory
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."""
SET_UP = """The actor died because of an error raised in its creation task, ray::Worker.__init__()
ModuleNotFoundError: No module named 'my_losses'"""
PROCESS = """The actor died unexpectedly before finishing this task.
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"""


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (NODE, "machine"),
        (UNAVAILABLE, "machine"),
        (MEMORY, "memory"),
        (DEVICE, "memory"),
        (PROCESS, "process"),
        (SET_UP, "refused"),
        ("", "process"),
    ],
)
def test_errors_are_classified_by_cause(error, cause):
    assert classify(error, "").cause == cause


def test_tune_treats_every_loss_of_a_worker_alike():
    from ray import exceptions
    from ray.air.execution._internal import actor_manager
    from ray.tune.execution import tune_controller
    from ray.tune.experiment import trial

    from study.execution import ray_internals, ray_tune  # noqa: F401

    losses = {
        exceptions.ActorDiedError(): "process",
        exceptions.OutOfMemoryError(MEMORY): "memory",
        exceptions.WorkerCrashedError(): "process",
        exceptions.OwnerDiedError("a" * 56, None, ""): "machine",
        exceptions.ObjectLostError("a" * 56, None, ""): "machine",
        exceptions.ObjectFetchTimedOutError("a" * 56, None, ""): "machine",
        exceptions.ObjectReconstructionFailedError("a" * 56, None, ""): "machine",
    }
    for loss, cause in losses.items():
        for module in (actor_manager, tune_controller, trial):  # where Tune asks
            assert isinstance(loss, module.RayActorError), loss
        assert hasattr(loss, "preempted")
        assert classify(f"Failure # 1\n{loss}\n", "").cause == cause  # as Tune leaves it
    assert classify(str(exceptions.RuntimeEnvSetupError("why")), "").cause == "refused"
    assert not issubclass(exceptions.RayTaskError, ray_internals.LOST)


def test_other_errors_are_of_the_code_with_their_last_line_as_reason():
    assert classify("Traceback ...\nKeyError: 'x'\n", "") == Fault(
        "code", "KeyError: 'x'", "Traceback ...\nKeyError: 'x'\n"
    )


def test_the_reason_of_a_failed_set_up_is_what_was_raised():
    assert classify(SET_UP, "").reason == "ModuleNotFoundError: No module named 'my_losses'"


def test_a_trace_of_the_watchdog_takes_precedence_over_rays_error():
    fault = classify(PROCESS, "Thread 0x1 (most recent call first): ...")
    assert (fault.cause, fault.trace[:6]) == ("hang", "Thread")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    return Study(
        name="s",
        tasks=[tiny_task(folder / "task")],
        models=[tiny_model(folder / "model")],
        techniques=[Standard()],
        seeds=range(3),
    ).runs()


def queued(runs, **options):
    progress = Progress(total=len(runs), finished=0)
    return RunQueue(runs, progress, keep_going=False, **options), progress


@pytest.mark.parametrize("cause", RETRIES)
def test_a_lost_run_is_retried_as_often_as_its_cause_allows(runs, cause):
    queue, progress = queued(runs[:1])
    tries = 0
    while (run := queue.next()) is not None:
        tries += 1
        queue.failed(run, Fault(cause, "why", ""))
    assert tries == 1 + RETRIES[cause]
    assert progress.retried[cause] == RETRIES[cause]
    assert progress.problems == {runs[0].name: "why"}
    assert queue.is_over


def test_a_run_out_of_memory_comes_last_with_a_machine_to_itself(runs):
    queue, _ = queued(runs)
    first = queue.next()
    assert not queue.needs_own_machine(first)
    queue.failed(first, Fault("memory", "why", ""))
    assert [queue.next().key for _ in range(3)] == [run.key for run in [*runs[1:], first]]
    assert queue.needs_own_machine(first)


def test_a_cell_that_never_fits_into_memory_is_paused_though_messages_differ(runs):
    queue, progress = queued(runs)
    for number in range((1 + RETRIES["memory"]) * len(runs)):
        queue.failed(queue.next(), Fault("memory", f"Tried to allocate {number} MiB", ""))
    assert progress.paused == [runs[0].cell.name]


def test_different_errors_pause_no_cell(runs):
    queue, progress = queued(runs)
    for number in range(len(runs)):
        queue.failed(queue.next(), Fault("code", f"KeyError: {number}", ""))
    assert progress.paused == []


def test_a_run_whose_machine_was_lost_comes_first_with_the_same_resources(runs):
    queue, _ = queued(runs)
    first = queue.next()
    queue.failed(first, Fault("machine", "why", ""))
    assert queue.next() is first
    assert not queue.needs_own_machine(first)


def test_a_run_that_was_put_back_waits_or_is_missing_with_its_cell(runs):
    queue, progress = queued(runs)
    first = queue.next()
    queue.put_back(first)
    assert queue.next() is first
    progress.paused.append(first.cell.name)
    queue.put_back(first)
    assert progress.problems == {first.name: "its cell is paused"}


def test_a_closed_study_blocks_all_cells_and_paused_ones(runs):
    _, progress = queued(runs)
    assert progress.blocked == []
    progress.closed = "its budget of 1 hours is spent"
    progress.paused.append(runs[0].cell.name)
    assert progress.blocked == [runs[0].cell.name, "*"]


def test_a_closed_queue_hands_out_nothing_and_waits_for_nothing(runs):
    queue, progress = queued(runs)
    queue.next()
    progress.closed = "its budget of 1 hours is spent"
    assert queue.next() is None
    assert not queue.may_get_more
    assert queue.is_over


def test_a_budget_of_hours_ends(monkeypatch):
    meter, began = Meter(Budget(hours=2), lambda: 8), time.monotonic()
    assert meter.spent() is None
    monkeypatch.setattr(time, "monotonic", lambda: began + 7201)
    assert meter.spent() == "its budget of 2 hours is spent"


def test_a_price_counts_what_the_cluster_held(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    gpus = [2]
    meter = Meter(Budget(price=10, hourly=2), lambda: gpus[0])
    for gpus[0], cost in [(2, 4), (0, 4), (2, 8)]:
        now[0] += 3600
        assert meter.spent() is None, cost
    now[0] += 1800
    assert meter.spent() == "its budget of 10 is spent (5.0 hours)"


def test_a_price_needs_an_hourly_one():
    with pytest.raises(SpecError, match=r"hourly: is missing|hourly is missing"):
        Budget(price=10).price  # noqa: B018


HUNG = """
import sys, time
from pathlib import Path
from study.execution.watchdog import Watchdog
with Watchdog(1.5, Path(sys.argv[1])) as watchdog:
    for _ in range({beats}):
        time.sleep(0.5)
        watchdog.heartbeat()
    {then}
print("over")
"""


def watched(tmp_path, beats, then):
    trace = tmp_path / "hangs" / "key.txt"
    code = HUNG.format(beats=beats, then=then)
    done = subprocess.run([sys.executable, "-c", code, str(trace)], capture_output=True, text=True)
    return done, trace


def test_a_process_with_heartbeats_goes_on_and_leaves_no_trace(tmp_path):
    done, trace = watched(tmp_path, 6, "pass")
    assert (done.returncode, done.stdout) == (0, "over\n")
    assert not trace.exists()


@pytest.mark.parametrize("then", ["time.sleep(60)", "import re; re.match('(a+)+b', 'a' * 40)"])
def test_a_process_that_hangs_ends_with_a_trace(tmp_path, then):
    """Asleep, or in code that never releases the GIL."""
    done, trace = watched(tmp_path, 1, then)
    assert (done.returncode, done.stdout) == (1, "")
    assert 'File "<string>", line' in trace.read_text()


def test_a_command_is_notified_of_trouble_once_and_of_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv(
        "STUDY_NOTIFY",
        f"{sys.executable} -c \"import sys; open('{tmp_path}/told', "
        "'a').write(sys.stdin.read() + chr(10))\"",
    )
    notifier = Notifier("mine")
    notifier.trouble("disk", "the disk is full")
    notifier.trouble("disk", "the disk is full")
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            thread.join(5)
    notifier.ended("3 of 3 runs done")
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert told == [
        {"study": "mine", "event": "trouble", "text": "study mine: the disk is full"},
        {"study": "mine", "event": "ended", "text": "study mine: 3 of 3 runs done"},
    ]


@pytest.mark.parametrize("late", [None, StudyLockedError("study 's' was taken over")])
def test_the_end_is_notified_whatever_fails(tmp_path, monkeypatch, late):
    """A driver that had been replaced found out last, and sent no notification."""
    from study.execution import cluster, ray_tune

    monkeypatch.setenv("STUDY_NOTIFY", f"tee -a {tmp_path / 'told'}")
    monkeypatch.setattr(cluster, "join", Mock(side_effect=None if late else ClusterError("none")))
    monkeypatch.setattr(cluster, "leave", Mock())
    monkeypatch.setattr(ray_tune, "publish_inputs", Mock(side_effect=KeyboardInterrupt))
    tracking = Mock(
        **{"close.side_effect": late, "close.return_value": 0, "stages.runs.return_value": []}
    )
    options = runner.Options(folder=tmp_path, address="auto")
    home, progress = Home(tmp_path), Progress(total=1, finished=0)
    study = SimpleNamespace(name="s", searches=[], keep="none")
    there = {"home": home, "study": study, "options": options}
    with pytest.raises(type(late) if late else ClusterError):
        runner.execute([], tracking, progress, **there, wanted=None)
    told = json.loads((tmp_path / "told").read_text())
    assert told["event"] == "ended"
    end = "StudyLockedError: study 's' was taken over; stopped" if late else "none"
    assert told["text"].endswith(end)


def test_an_address_is_notified_by_post(monkeypatch):
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STUDY_NOTIFY", f"http://127.0.0.1:{server.server_port}/secret")
    Notifier("mine").ended("done")
    server.shutdown()
    assert [each["text"] for each in got] == ["study mine: done"]


def test_a_failed_notification_is_logged_without_the_address(monkeypatch, caplog):
    monkeypatch.setenv("STUDY_NOTIFY", "http://127.0.0.1:9/secret")
    Notifier("mine").ended("done")
    assert "the notification to STUDY_NOTIFY failed" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("wrong", ["https://hooks.example/secret x", "secret 'x", " "])
def test_a_malformed_address_ends_nothing_and_is_not_logged(monkeypatch, caplog, wrong):
    monkeypatch.setenv("STUDY_NOTIFY", wrong)
    Notifier("mine").ended("done")
    assert "secret" not in caplog.text


def test_without_the_variable_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("STUDY_NOTIFY", raising=False)
    Notifier("mine").ended("done")
    assert "STUDY_NOTIFY" not in os.environ


def test_runs_that_did_not_begin_wait_again(runs):
    queue, _ = queued(runs)
    given = [queue.next() for _ in runs]
    assert queue.next() is None
    queue.put_all_back()
    assert [queue.next() for _ in runs] == given  # in the same order
