"""A cluster of simulated hosts on one machine; MLflow and PostgreSQL run on the head.

`../shared/testbed/hosts.sh` creates the hosts; each has its own processes, network address, home
and /tmp. They share a small separate disk, which tests can fill or freeze.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT.parent / "shared" / "testbed" / "hosts.sh"
HEAD = "10.77.0.10"
SERVER = f"http://{HEAD}:5000"
STORAGE = Path("/mnt/study-testbed")
STORAGE_BYTES = 96_000_000
RAY = {  # a lost host is detected in seconds; Ray's defaults are longer, for real networks
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "6",
    "RAY_memory_usage_threshold": "0.6",  # each host sees the memory of the whole machine
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # for language models; slow to start
}


def unavailable() -> str | None:
    """Why no testbed can be created on this machine; None if one can."""
    if os.geteuid() != 0:
        return "hosts need root"
    if not SCRIPT.is_file():
        return "the shared folder with hosts.sh is unavailable"
    missing = [name for name in ("rsync", "ip") if shutil.which(name) is None]
    missing += [] if Path("/usr/sbin/sshd").exists() else ["sshd"]
    missing += [] if postgres() else ["postgresql"]
    return f"lacks {', '.join(missing)}" if missing else None


def postgres() -> Path | None:
    """The folder of PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else None


def until(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """Wait for a condition; raises after a timeout."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"timed out waiting for {what}")
        time.sleep(0.2)


@dataclass
class Testbed:
    """Simulated hosts; the first is the head, which does no runs."""

    folder: Path
    hosts: int
    python: Path = Path(sys.executable)

    def __enter__(self) -> "Testbed":
        # The studies of an earlier campaign would count as finished.
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "token").write_text("5" * 64)
        self.thaw()  # an interrupted campaign can leave it frozen
        self.act("down")
        until(lambda: not list(Path("/sys/class/net").glob("vhost*")), "the end of earlier hosts")
        subprocess.run(["umount", "-q", str(STORAGE)], check=False)
        self._mount()
        self.act("up", self.hosts)
        try:
            self.serve()
            for host in range(self.hosts):
                self.join(host)
            self.wait_for_machines(self.hosts)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self.act("down")
        subprocess.run(["umount", "-ql", str(STORAGE)], check=False)

    def _mount(self) -> None:
        """Create and mount the disk that all hosts share."""
        disk = self.folder / "storage"
        with disk.open("wb") as file:
            file.truncate(STORAGE_BYTES)
        _run("mkfs.ext4", "-q", "-m", "0", str(disk))  # no blocks reserved for root
        STORAGE.mkdir(exist_ok=True)
        _run("mount", "-o", "loop", str(disk), str(STORAGE))

    def freeze(self) -> None:
        """Block writes to the shared disk."""
        _run("fsfreeze", "--freeze", str(STORAGE))

    def thaw(self) -> None:
        """Unblock writes; does nothing if they are not blocked."""
        _run("fsfreeze", "--unfreeze", str(STORAGE), check=False)

    def act(self, *words: object) -> None:
        """Run an action of hosts.sh."""
        folder = [self.folder] if words[0] in ("up", "start", "down") else []
        # `_run` passes on no file descriptors, since the hosts that it starts would keep them open.
        # `kill` fails if a process ends by itself at that moment.
        _run(str(SCRIPT), *map(str, words), *map(str, folder), check=words[0] != "kill")

    def ssh(self, host: int, command: str, *, check: bool = True) -> str:
        """Run a command on a host and return its output."""
        done = subprocess.run(
            [*self._ssh(host), command], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if check and done.returncode:
            raise RuntimeError(f"host{host}: {command}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, host: int, command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a command on a host, as from a terminal that stays open."""
        return subprocess.Popen(
            [*self._ssh(host), command],
            stdin=subprocess.DEVNULL,
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _ssh(self, host: int) -> list[str]:
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        options += ["ConnectTimeout=5", "ServerAliveInterval=5", "ServerAliveCountMax=3"]
        words = [word for option in options for word in ("-o", option)]
        return ["ssh", "-i", str(self.folder / "key"), *words, f"root@10.77.0.1{host}"]

    def environment(self) -> str:
        """Environment variables of every process on a host, as shell assignments."""
        own = {
            **RAY,
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "STUDY_HOME": str(STORAGE / "home"),
            "MLFLOW_TRACKING_URI": SERVER,
            "PATH": f"{self.python.parent}:{postgres()}:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        return " ".join(f"{name}='{value}'" for name, value in own.items())

    def join(self, host: int) -> None:
        """Start Ray on a host; it is restarted when it ends, as by a service manager."""
        address = f"--node-ip-address=10.77.0.1{host} --object-store-memory=120000000"
        common = f"{address} --memory=4000000000 --disable-usage-stats --block"
        role = (
            f"--head --port=6379 --num-cpus=0 --include-dashboard=false {common}"
            if host == 0
            else f"--address={HEAD}:6379 --num-cpus=1 {common}"
        )
        loop = f"while true; do env {self.environment()} ray start {role}; sleep 1; done"
        self.ssh(host, f'setsid nohup bash -c "{loop}" >>~/ray.log 2>&1 </dev/null & echo')

    def wait_for_machines(self, count: int) -> None:
        """Wait until this many hosts are alive in Ray."""
        query = "import ray; ray.init('auto', log_to_driver=False); "
        query += "print('alive', sum(n['Alive'] for n in ray.nodes()))"
        command = f'env {self.environment()} python -c "{query}" 2>/dev/null'
        until(
            lambda: f"alive {count}" in self.ssh(0, command, check=False), f"{count} machines", 240
        )

    # --- the head's services ---

    def serve(self) -> None:
        """Start PostgreSQL and the MLflow server on the head."""
        data = self.folder / "postgres"
        if not data.exists():
            data.mkdir()
            shutil.chown(data, "postgres")
            self.ssh(0, f"cd / && runuser -u postgres -- {postgres()}/initdb -D {data} -A trust")
        self.start_postgres()
        self.start_mlflow()

    def start_postgres(self) -> None:
        """Start PostgreSQL; also works after a power loss."""
        data = self.folder / "postgres"
        (data / "postmaster.pid").unlink(missing_ok=True)
        go = f"-o '-k /tmp -h 127.0.0.1' -l {data}/log -w start"
        self.ssh(0, f"cd / && runuser -u postgres -- {postgres()}/pg_ctl -D {data} {go}")
        make = f"{postgres()}/createdb -h /tmp mlflow"
        self.ssh(0, f"cd / && runuser -u postgres -- {make}", check=False)

    def restart_postgres(self) -> None:
        """Restart PostgreSQL without waiting for its clients."""
        stop = f"{postgres()}/pg_ctl -D {self.folder / 'postgres'} -m immediate stop"
        self.ssh(0, f"cd / && runuser -u postgres -- {stop}")
        self.start_postgres()

    def start_mlflow(self) -> None:
        """Start the MLflow server and wait until it responds."""
        server = (
            "mlflow server --backend-store-uri postgresql+psycopg2://postgres@127.0.0.1/mlflow "
            f"--artifacts-destination {self.folder}/artifacts --host {HEAD} --port 5000 "
            f"--allowed-hosts {HEAD}:5000 --workers 1"
        )
        command = f"setsid nohup env {self.environment()} {server} >>~/mlflow.log 2>&1 </dev/null &"
        self.ssh(0, f"{command} echo")
        self.wait_for_mlflow()

    def stop_mlflow(self) -> None:
        """Kill the MLflow server."""
        self.ssh(0, "pkill -9 -f '[m]lflow server'; pkill -9 -f '[u]vicorn'; echo")

    def wait_for_mlflow(self) -> None:
        """Wait until the MLflow server responds."""
        until(_mlflow_answers, "MLflow", 120)


def _mlflow_answers() -> bool:
    try:
        return bool(urlopen(f"{SERVER}/health", timeout=2).status == 200)
    except OSError:
        return False


def _run(*words: str, check: bool = True) -> int:
    with Path("/dev/null").open("r+b") as nothing:
        done = subprocess.run(words, stdin=nothing, stdout=nothing, stderr=nothing, close_fds=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}")
    return done.returncode
