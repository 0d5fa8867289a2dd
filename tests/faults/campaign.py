"""Fault-injection campaign: a study of twelve runs on a cluster of hosts, with one fault per round.

    python -m tests.faults.campaign [--only KIND ...] [--times 3] [--out docs/results/faults.md]

Each round is a fresh study of the same twelve runs; a round without a fault gives the expected
scores. In every other round one fault is injected at a random time, drawn with a fixed seed, and
what it stopped is restarted as a user or a service manager would. Then every run must be in MLflow
exactly once, with the expected scores bit for bit, and the outbox must be empty. A round whose
fault had no effect counts as failed. The campaign creates and removes the hosts; it needs root and
an hour.
"""

import argparse
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from study.testing import tiny_model, tiny_task
from tests.faults.testbed import SERVER, STORAGE, Testbed, unavailable, until

RUNS = 12
HOSTS = 4
STUDY = """\
import os
from pathlib import Path

from study import Model, Recipe, Standard, Study, Task, main
from trapped import Trapped

LONG = int(os.environ.get("EPOCHS", 0))
STUDY = Study(
    name=os.environ.get("NAME", "faults"),
    tasks=[Task(name="pairs", train="train.jsonl", dev="dev.jsonl", test="test.jsonl",
                text_pair="text_pair")],
    data=str(Path.home() / "task"),
    models=[Model(name="tiny", checkpoint=str(Path.home() / "model"))],
    recipe=Recipe(lr=3e-3, epochs=LONG or 40, batch_size=8),
    techniques=[Standard(), Trapped()],
    seeds=range(1 if LONG else 6),
    hang_minutes=0.5,
    checkpoint_minutes=0.05,
)

if __name__ == "__main__":
    main(STUDY)
"""


@dataclass
class Round:
    """A fresh study and the fault injected into it.

    Attributes:
        bed: The hosts.
        name: The study's name.
        rng: Chooses times and hosts.
        effect: The observed effect of the fault; empty if there was none.
        injected_at: Time of the injection (`time.monotonic`).
        expected_output: Regular expression that the drivers' output must match.
        drivers: All drivers started so far.
    """

    bed: Testbed
    name: str
    rng: random.Random
    effect: str = ""
    injected_at: float = 0.0
    expected_output: str = ""
    drivers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """File with the output of all drivers."""
        return self.bed.folder / f"{self.name}.log"

    @property
    def outbox(self) -> Path:
        """The study's outbox."""
        return STORAGE / "home" / "studies" / self.name / "outbox"

    def submit(self, *, also: str = "") -> subprocess.Popen[bytes]:
        """Start a driver on the head."""
        driver = f"env {self.bed.environment()} NAME={self.name} {also} python study_file.py"
        command = f"cd ~ && exec {driver}"
        self.drivers.append(self.bed.start(0, command, self.log))
        return self.drivers[-1]

    def output(self) -> str:
        """The output of all drivers so far."""
        return self.log.read_text()

    def finished(self) -> int:
        """Number of runs in MLflow or in the outbox."""
        waiting = len(list(self.outbox.glob("[!.]*"))) if self.outbox.is_dir() else 0
        return len(tracked(self.name)) + waiting

    def wait_for_random_time(self, low: int = 1, high: int = 7) -> None:
        """Wait until a random number of runs are done, and up to a second more."""
        count = self.rng.randint(low, high)
        until(lambda: self.finished() >= count, f"{count} runs", 240)
        time.sleep(self.rng.random())
        done = self.finished()
        assert done < RUNS, "too late: the study has ended"
        self.effect = f"after {done} runs"
        self.injected_at = time.monotonic()

    def busy_host(self) -> int:
        """A host that is doing a run now."""
        for host in self.rng.sample(range(1, HOSTS), HOSTS - 1):
            if self.bed.ssh(host, "pgrep -f '^ray::.*[.]train' || true").strip():
                return host
        raise AssertionError("no host is doing a run")

    def victim(self) -> int:
        """A host that is doing a run at a random time."""
        self.wait_for_random_time()
        return self.busy_host()

    def driver_pid(self) -> str:
        """Process id of the driver, on the head."""
        pids = self.bed.ssh(0, "pgrep -f '^python study_file.py'").split()
        assert len(pids) == 1, pids
        return pids[0]


# --- the faults -------------------------------------------------------------------------------


def worker_killed(round: Round) -> None:
    """A worker process is killed (SIGKILL)."""
    round.bed.ssh(round.victim(), "pkill -9 -f '^ray::.*[.]train'")
    round.expected_output = "process"


def raylet_killed(round: Round) -> None:
    """Ray's daemon on a host is killed (raylet); a service restarts it."""
    round.bed.ssh(round.victim(), "pkill -9 -x raylet")
    round.expected_output = "retried"


def host_killed(round: Round) -> None:
    """A host loses power and boots again after some seconds."""
    host = round.victim()
    round.bed.act("kill", host)
    time.sleep(round.rng.uniform(2, 8))
    round.bed.act("start", host)
    round.bed.join(host)
    round.expected_output = "retried"


def host_disconnected(round: Round) -> None:
    """A host loses its network connection, keeps working, and reconnects."""
    host = round.victim()
    round.bed.act("cut", host)
    time.sleep(round.rng.uniform(12, 18))
    round.bed.act("mend", host)
    round.expected_output = "retried"


def head_lost(round: Round) -> None:
    """The head loses power, with driver, MLflow and PostgreSQL; all are restarted."""
    round.wait_for_random_time()
    round.bed.act("kill", 0)
    time.sleep(round.rng.uniform(1, 5))
    round.bed.act("start", 0)
    round.bed.serve()
    round.bed.join(0)
    round.bed.wait_for_machines(HOSTS)
    round.submit()


def driver_killed(round: Round) -> None:
    """The driver is killed (SIGKILL), and the study is submitted again."""
    round.wait_for_random_time()
    round.bed.ssh(0, f"kill -9 {round.driver_pid()}")
    round.drivers[-1].wait(60)
    round.submit()


def driver_terminated(round: Round) -> None:
    """The driver gets SIGTERM, as when a job is preempted, and the study is submitted again."""
    round.wait_for_random_time()
    round.bed.ssh(0, f"kill -TERM {round.driver_pid()}")
    assert round.drivers[-1].wait(90) == 1
    assert "stopped:" in round.output()
    round.submit()


def second_driver(round: Round) -> None:
    """The study is submitted twice within seconds, from two folders; one driver must refuse."""
    pause = round.rng.uniform(0, 4)
    time.sleep(pause)
    round.submit(also=f"STUDY_HOME={STORAGE}/other")
    round.effect, round.injected_at = f"{pause:.1f} s apart", time.monotonic()
    codes = [driver.wait(300) for driver in round.drivers]
    assert sorted(codes) == [0, 1], codes
    assert "is being run by" in round.output()
    round.drivers.sort(key=lambda driver: -driver.returncode)


def disk_full(round: Round) -> None:
    """The shared disk is full for a while."""
    round.wait_for_random_time()
    ballast = STORAGE / "ballast"
    for size in ("1M", "4k"):  # the small blocks fill what the large ones leave
        words = ["dd", "if=/dev/zero", f"of={ballast}", f"bs={size}", "oflag=append"]
        subprocess.run([*words, "conv=notrunc"], capture_output=True)
    assert shutil.disk_usage(STORAGE).free < 100_000
    time.sleep(round.rng.uniform(8, 15))
    ballast.unlink()
    round.expected_output = "stay in memory|cannot take more|No space left"


def disk_frozen(round: Round) -> None:
    """Writes to the shared disk block for a while, as on a busy file server."""
    round.wait_for_random_time()
    round.bed.freeze()
    time.sleep(round.rng.uniform(8, 15))
    round.bed.thaw()


def outbox_unavailable(round: Round) -> None:
    """The outbox's folder is unavailable for a while, as after a failed mount."""
    round.wait_for_random_time()
    away = round.outbox.with_name("away")
    round.outbox.rename(away)
    round.outbox.write_text("in the way")
    time.sleep(round.rng.uniform(8, 15))
    round.outbox.unlink()
    away.rename(round.outbox)
    round.expected_output = "stay in memory|cannot take more|MLflow: "


def mlflow_down(round: Round) -> None:
    """The MLflow server is killed, and starts again after a while."""
    round.wait_for_random_time()
    round.bed.stop_mlflow()
    time.sleep(round.rng.uniform(8, 20))
    round.bed.start_mlflow()
    round.expected_output = "MLflow is back"


def mlflow_frozen(round: Round) -> None:
    """The MLflow server accepts requests and does not respond for a while."""
    round.wait_for_random_time()
    round.bed.ssh(0, "pkill -STOP -f '[u]vicorn'")
    assert "T" in round.bed.ssh(0, "ps -o stat= -p $(pgrep -d, -f '[u]vicorn')")
    time.sleep(round.rng.uniform(8, 20))
    round.bed.ssh(0, "pkill -CONT -f '[u]vicorn'")


def postgres_restarted(round: Round) -> None:
    """PostgreSQL is restarted without waiting for its clients; the driver need not notice."""
    round.wait_for_random_time()
    round.bed.restart_postgres()


def artifacts_refused(round: Round) -> None:
    """The MLflow server cannot write artifacts for a while."""
    round.wait_for_random_time()
    place, away = round.bed.folder / "artifacts", round.bed.folder / "artifacts.away"
    place.rename(away)
    place.write_text("in the way")
    time.sleep(round.rng.uniform(5, 10))
    place.unlink()
    away.rename(place)
    round.expected_output = "MLflow is back"


def _spring(round: Round, trap: str) -> None:
    (STORAGE / "traps" / trap).touch()
    until((STORAGE / "sprung" / trap).exists, f"the trap {trap}", 240)
    round.effect = f"after {round.finished()} runs"
    round.injected_at = time.monotonic()
    round.expected_output = trap


def out_of_memory(round: Round) -> None:
    """A run is out of memory; it is retried alone on a machine."""
    round.wait_for_random_time(high=4)
    _spring(round, "memory")


def memory_exhausted(round: Round) -> None:
    """Ray kills a run that exhausts its host's memory; it is retried alone on a machine."""
    round.wait_for_random_time(high=4)
    _spring(round, "balloon")
    round.expected_output = "memory"


def run_hangs(round: Round) -> None:
    """A run stops making progress; its worker ends itself and the run is retried."""
    round.wait_for_random_time(high=4)
    _spring(round, "hang")


def run_crashes(round: Round) -> None:
    """A run crashes its process (SIGSEGV)."""
    round.wait_for_random_time(high=4)
    _spring(round, "crash")
    round.expected_output = "process"


FAULTS: list[Callable[[Round], None]] = [
    worker_killed,
    raylet_killed,
    host_killed,
    host_disconnected,
    head_lost,
    driver_killed,
    driver_terminated,
    second_driver,
    disk_full,
    disk_frozen,
    outbox_unavailable,
    mlflow_down,
    mlflow_frozen,
    postgres_restarted,
    artifacts_refused,
    out_of_memory,
    memory_exhausted,
    run_hangs,
    run_crashes,
]


# --- one long run ------------------------------------------------------------------------------


def long_run(bed: Testbed) -> str:
    """Two runs that take minutes; the host of one is killed halfway, and restarted only at the end.

    Returns:
        The result, in sentences.
    """
    quiet = Round(bed, "long-undisturbed", random.Random(0))
    assert quiet.submit(also="EPOCHS=1200").wait(900) == 0, quiet.output()
    struck = Round(bed, "long-killed", random.Random(1))
    driver = struck.submit(also="EPOCHS=1200")
    saved = STORAGE / "home" / "studies" / struck.name / "checkpoints"
    until(lambda: len(list(saved.glob("*/checkpoint.safetensors"))) == 2, "two checkpoints", 300)
    time.sleep(20)
    host = struck.busy_host()
    bed.act("kill", host)
    assert driver.wait(900) == 0, struck.output()
    bed.act("start", host)
    bed.join(host)
    tags = [run.data.tags for run in _runs(struck.name)]
    moved = [own for own in tags if "resumed" in own]
    assert len(moved) == 1, tags
    assert moved[0]["host"] != f"host{host}"
    assert moved[0]["retried"] == "machine 1"
    assert tracked(struck.name) == tracked(quiet.name), "other scores"
    seconds = [run.data.metrics["seconds"] for run in _runs(struck.name)]
    return (
        f"Two runs of {min(seconds):.0f} to {max(seconds):.0f} s, saved every 3 s; host{host} was "
        f"killed halfway. Its run resumed from its checkpoint, on {moved[0]['host']}; "
        "both runs have the expected scores, bit for bit."
    )


# --- results ----------------------------------------------------------------------------------


def tracked(name: str) -> dict[str, list[tuple[float, float]]]:
    """Dev and test scores of each finished run in MLflow, by key; a list, to show duplicates."""
    try:
        found = _runs(name)
    except MlflowException:  # the server is down
        return {}
    scores: dict[str, list[tuple[float, float]]] = {}
    for run in found:
        pair = run.data.metrics["dev"], run.data.metrics["test"]
        scores.setdefault(run.data.tags["key"], []).append(pair)
    return scores


def _runs(name: str) -> list[Run]:
    client = MlflowClient(SERVER)
    experiment = client.get_experiment_by_name(name)
    finished = "tags.kind = 'run' and attributes.status = 'FINISHED'"
    return list(client.search_runs([experiment.experiment_id], finished)) if experiment else []


@dataclass
class Result:
    """The outcome of a round."""

    kind: str
    number: int
    effect: str
    lost: int
    repeated: int
    other: int
    recovery: float
    wrong: str


def run_round(fault: Callable[[Round], None], number: int, bed: Testbed, expected: dict) -> Result:
    """Run a round with a fault and compare its scores with the expected ones."""
    kind = fault.__name__
    round = Round(bed, f"{kind}-{number}", random.Random(f"{kind} {number}"))
    wrong = ""
    try:
        round.submit()
        fault(round)
        if (code := round.drivers[-1].wait(300)) != 0:
            wrong = f"the driver ended with {code}"
        if not re.search(round.expected_output, round.output()):
            wrong = f"the drivers did not print {round.expected_output!r}"
    except Exception as error:
        traceback.print_exc()
        wrong = f"{type(error).__name__}: {error}"
    recovery = time.monotonic() - round.injected_at
    found = tracked(round.name)
    if round.outbox.is_dir() and list(round.outbox.iterdir()):
        wrong = wrong or "runs wait in the outbox"
    return Result(
        kind,
        number,
        round.effect,
        lost=len(expected.keys() - found.keys()),
        repeated=sum(len(scores) - 1 for scores in found.values()),
        other=sum(scores[0] != expected[key][0] for key, scores in found.items()),
        recovery=recovery,
        wrong=wrong if round.effect else f"no effect. {wrong}",
    )


def repair(bed: Testbed) -> None:
    """Undo what a failed round left behind, before the next one."""
    bed.thaw()
    (STORAGE / "ballast").unlink(missing_ok=True)
    for trap in (*STORAGE.glob("traps/*"), *STORAGE.glob("sprung/*")):
        trap.unlink()
    left = (bed.folder / "artifacts.away", *STORAGE.glob("home/studies/*/away"))
    for away in filter(Path.exists, left):
        place = away.with_name("artifacts" if away.parent == bed.folder else "outbox")
        place.unlink(missing_ok=True)
        away.rename(place)
    bed.ssh(0, "pkill -9 -f '^python study_file.py'; pkill -CONT -f '[u]vicorn'; echo")
    bed.wait_for_mlflow()
    bed.wait_for_machines(HOSTS)


def set_up(bed: Testbed) -> None:
    """Copy the study to the driver's home, and create the folders on the shared disk."""
    home = bed.folder / "host0"
    tiny_model(home / "model")
    tiny_task(home / "task", rows=64)
    shutil.copy(Path(__file__).with_name("trapped.py"), home)
    (home / "study_file.py").write_text(STUDY)
    for name in ("home", "traps", "sprung"):
        (STORAGE / name).mkdir()


def undisturbed(bed: Testbed) -> dict[str, list[tuple[float, float]]]:
    """The expected scores: those of a study without a fault."""
    round = Round(bed, "undisturbed", random.Random(0))
    assert round.submit().wait(300) == 0, round.output()
    expected = tracked(round.name)
    assert len(expected) == RUNS, expected
    hosts = {run.data.tags["host"] for run in _runs(round.name)}
    assert len(hosts) > 1, "all runs were on one host"
    return expected


def page(results: list[Result], summary: str) -> str:
    """The campaign as Markdown."""
    lines = [
        summary,
        "",
        "| fault | rounds | runs done at injection | lost | repeated | other scores "
        "| seconds to the end, median (worst) |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for fault in FAULTS:
        mine = [result for result in results if result.kind == fault.__name__]
        if not mine:
            continue
        seconds = [result.recovery for result in mine]
        moments = ", ".join(re.sub("after (.+) runs", "\\1", result.effect) for result in mine)
        lines.append(
            f"| {(fault.__doc__ or '').strip()} | {len(mine)} | "
            f"{moments} | {sum(r.lost for r in mine)} | "
            f"{sum(r.repeated for r in mine)} | {sum(r.other for r in mine)} | "
            f"{statistics.median(seconds):.0f} ({max(seconds):.0f}) |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run all rounds, print and write the results; returns 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = [fault.__name__ for fault in FAULTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="KIND")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--no-long", action="store_true", help="skip the long run")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/study-faults"))
    parser.add_argument("--out", type=Path, help="file for the table")
    arguments = parser.parse_args()
    if reason := unavailable():
        print(f"skipped: {reason}")
        return 0
    results: list[Result] = []
    with Testbed(arguments.folder, HOSTS) as bed:
        set_up(bed)
        summary = "" if arguments.no_long else long_run(bed)
        expected = undisturbed(bed)
        for fault in [fault for fault in FAULTS if fault.__name__ in arguments.only]:
            for number in range(arguments.times):
                result = run_round(fault, number, bed, expected)
                results.append(result)
                print(result, flush=True)
                repair(bed)
                if arguments.out:
                    arguments.out.write_text(page(results, summary) + "\n")
    print(page(results, summary))
    bad = [r for r in results if r.wrong or r.lost or r.repeated or r.other]
    print(f"{len(results)} rounds, {len(bad)} of them wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
