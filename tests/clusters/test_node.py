"""`clusters/node.sh` on simulated machines, with substitutes for programs on the PATH."""

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.cli.messages import Ending, Took
from study.execution.queue import Progress
from tests.needs import ROOT

NODE = ROOT / "clusters" / "node.sh"
SERVER = """\
echo $$ >>"$FOLDER/served-by-$MACHINE"
touch "$FOLDER/answers-$MACHINE"
trap 'rm "$FOLDER/answers-$MACHINE"; exit' TERM
while true; do sleep 0.05; done
"""
PROGRAMS = {
    "hostname": 'echo "$MACHINE"',
    # Every request must have a time limit, because a server can hang.
    "curl": '[[ " $* " == *" -m "* && -e "$FOLDER/answers-$MACHINE" ]]',
    "mlflow": SERVER,
}


class Machines:
    """Simulated machines that share a folder; each has its own home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.provide(**PROGRAMS)

    def provide(self, **programs: str) -> None:
        (self.folder / "bin").mkdir(exist_ok=True)
        for name, text in programs.items():
            program = self.folder / "bin" / name
            program.write_text(f"#!/usr/bin/env bash\n{text}\n")
            program.chmod(0o755)

    def on(self, machine: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        home = self.folder / machine
        home.mkdir(exist_ok=True)
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(home),
            "STUDY_HOME": str(self.folder),
            "FOLDER": str(self.folder),
            "MACHINE": machine,
            **variables,
        }
        return subprocess.run(
            ["bash", str(NODE), *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def servers_started(self, machine: str) -> int:
        """How often a server was started on a machine."""
        file = self.folder / f"served-by-{machine}"
        return len(file.read_text().split()) if file.exists() else 0

    def shorten_lock_timeout(self) -> None:
        """Make `flock` give up after 0.2 s instead of 120 s."""
        real = subprocess.check_output(["which", "flock"], text=True).strip()
        self.provide(flock=f'exec {real} "${{@/120/0.2}}"')


@pytest.fixture
def machines(tmp_path) -> Iterator[Machines]:
    machines = Machines(tmp_path)
    yield machines
    (tmp_path / "bin" / "flock").unlink(missing_ok=True)
    for lock in tmp_path.glob("*/.study-mlflow.*.lock"):
        machines.on(lock.parent.name, "stop")


def test_a_sqlite_file_is_served_by_one_machine_at_a_time(machines, tmp_path):
    machines.shorten_lock_timeout()
    store = f"sqlite:///{tmp_path}/mlflow.db"
    assert machines.on("first", "serve", store).returncode == 0
    refused = machines.on("second", "serve", store)
    assert refused.returncode == 1
    assert f"second: {tmp_path}/mlflow.db is still served by first" in refused.stderr
    assert (machines.servers_started("first"), machines.servers_started("second")) == (1, 0)
    assert machines.on("first", "stop").returncode == 0
    assert machines.on("second", "serve", store).returncode == 0
    assert (tmp_path / "mlflow.db.lock").read_text() == "second\n"


def test_serving_again_restarts_the_server(machines, tmp_path):
    machines.shorten_lock_timeout()
    for _ in range(2):
        assert machines.on("first", "serve", f"sqlite:///{tmp_path}/mlflow.db").returncode == 0
    assert machines.servers_started("first") == 2


def test_another_program_on_the_port_is_refused(machines, tmp_path):
    machines.provide(sleep="exit")
    (tmp_path / "answers-first").touch()
    done = machines.on("first", "serve", "postgresql+psycopg2://me@host/mlflow")
    assert done.returncode == 1
    assert "first: something else answers at http://127.0.0.1:5000/health" in done.stderr
    assert machines.servers_started("first") == 0


def test_another_port_can_be_set_and_every_shell_has_its_address(machines, tmp_path):
    machines.provide(mlflow=f'echo "$@" >"$FOLDER/asked"\n{SERVER}')
    token = tmp_path / "first" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.touch()
    assert machines.on("first", "environment", str(tmp_path), STUDY_PORT="5001").returncode == 0
    found = ". ~/.study_env && . ~/.study_env && echo $MLFLOW_TRACKING_URI $STUDY_PORT $NO_PROXY"
    home = {**os.environ, "HOME": str(tmp_path / "first"), "no_proxy": "example.org"}
    said = subprocess.check_output(["bash", "-uc", found], env=home, text=True).split()
    assert said == ["http://127.0.0.1:5001", "5001", "127.0.0.1,localhost,example.org"]
    assert token.stat().st_mode & 0o77 == 0
    store = "postgresql+psycopg2://me@host/mlflow"
    assert "127.0.0.1:5001" in machines.on("first", "serve", store, STUDY_PORT=said[1]).stdout
    assert "--port 5001" in (tmp_path / "asked").read_text()


def test_a_second_machine_waits_until_the_first_server_ends(machines, tmp_path):
    store = f"sqlite:///{tmp_path}/mlflow.db"
    assert machines.on("first", "serve", store).returncode == 0
    loop = int((tmp_path / "first" / ".study-mlflow.first.lock").read_text())
    kill_first = f"sleep 1; kill -9 -- -{loop}; rm {tmp_path}/answers-first"
    killing = subprocess.Popen(["bash", "-c", kill_first])
    began = time.monotonic()
    done = machines.on("second", "serve", store)
    killing.wait()
    assert done.returncode == 0
    assert "is served by first; waiting for its end" in done.stderr
    assert time.monotonic() - began > 0.9


def test_postgresql_may_have_several_servers(machines):
    store = "postgresql+psycopg2://me@host/mlflow"
    assert [machines.on(name, "serve", store).returncode for name in ("a", "b")] == [0, 0]
    assert (machines.servers_started("a"), machines.servers_started("b")) == (1, 1)


def test_a_folder_without_locks_is_refused_with_a_message(machines, tmp_path):
    machines.provide(flock='[[ $* != *" 8" ]] || exit 71')  # as on a file system without locks
    done = machines.on("first", "serve", f"sqlite:///{tmp_path}/mlflow.db")
    assert done.returncode == 1
    assert f"no file can be locked in {tmp_path}" in done.stderr
    assert machines.servers_started("first") == 0


def test_a_home_without_locks_is_refused_and_no_server_is_stopped(machines):
    machines.provide(flock="exit 71")
    for words in (("serve", "postgresql+psycopg2://me@host/mlflow"), ("stop",)):
        done = machines.on("first", *words)
        assert done.returncode == 1
        assert "no file can be locked in" in done.stderr
    assert machines.servers_started("first") == 0


def test_a_server_that_ends_at_once_is_restarted_with_backoff_and_its_log_is_truncated(
    machines, tmp_path
):
    sleep = subprocess.check_output(["which", "sleep"], text=True).strip()
    machines.provide(
        mlflow="head -c 1500000 /dev/zero | tr '\\0' x; echo the last word",
        sleep=f'echo $1 >>"$FOLDER/slept"; exec {sleep} 0.05',
    )
    done = machines.on("first", "serve", "postgresql+psycopg2://me@host/mlflow")
    assert done.returncode == 1
    assert "MLflow did not start" in done.stderr
    assert "the last word" in done.stderr
    slept = (tmp_path / "slept").read_text().split()
    waits = [seconds for seconds in slept if seconds not in ("1", "0.2")]
    assert waits[:6] == ["2", "4", "8", "16", "30", "30"]
    assert len(waits) > 6
    log = tmp_path / "first" / ".study-mlflow.first.log"
    assert 4_000_000 <= log.stat().st_size < 6_000_000


def test_a_job_succeeds_if_its_study_ends_with_runs_missing(machines, capsys):
    """For example because the budget is spent, or after `study stop`."""
    progress = Progress(total=3, finished=1, closed="its budget of 1 hours is spent")
    ending = Ending("mine", 3, as_json=True)
    took = Took(3.0, "about 4 s")
    assert ending.ended(progress, lost=2, waiting=0, took=took, tables=lambda: None) == 1
    said = capsys.readouterr().out.strip()
    machines.provide(study=f"[[ $* == 'run my.py --json' ]] && echo {shlex.quote(said)}; exit 1")
    done = machines.on("head", "drive", "my.py")
    assert (done.returncode, done.stdout.strip()) == (0, said)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("exit 0", 0),
        ("exit 2", 0),  # the file is wrong
        ("exit 1", 1),  # a traceback, or MLflow is unreachable
        ("kill -9 $$", 137),
    ],
)
def test_a_job_fails_with_a_driver_that_did_not_end_regularly(end, code, machines):
    machines.provide(study=f"echo printed by user code; {end}")
    assert machines.on("head", "drive", "my.py").returncode == code
