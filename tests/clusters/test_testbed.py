"""`ray up`, `ray submit` and `ray down` with clusters/local.yaml, on simulated hosts."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml
from mlflow import MlflowClient

from study.testing import tiny_model, tiny_task
from tests.faults import testbed
from tests.faults.testbed import HEAD, ROOT, postgres, unavailable, until

HOSTS = 4
SERVER = "http://127.0.0.1:15000"  # the head's server, through an ssh tunnel
STORE = "postgresql+psycopg2://postgres@127.0.0.1/mlflow"
OWN = """\
from study import Technique


class Nothing(Technique):
    \"\"\"Changes nothing.\"\"\"
"""
STUDY = """\
from my_techniques import Nothing
from study import BiasedAdam, Model, Recipe, Standard, Study, Task, main

STUDY = Study(
    name={name!r},
    tasks=[Task(name="pairs", train="train.jsonl", dev="dev.jsonl", test="test.jsonl",
                text_pair="text_pair")],
    models=[Model(name="tiny", checkpoint={model!r})],
    recipe=Recipe(lr=3e-3, epochs=40, batch_size=8),
    techniques=[Standard(), BiasedAdam(), Nothing()],
    seeds=range(4),
    gpus={gpus},
)

if __name__ == "__main__":
    main(STUDY)
"""


class Laptop:
    """The user's machine: it has its own home and a completed cluster file, and runs `ray up`."""

    def __init__(self, folder: Path, bed: testbed.Testbed, shared: Path) -> None:
        self.folder, self.bed = folder, bed
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RAY_UP_enable_autoscaler_v2": "0",  # see docs/cluster.md
            "MLFLOW_TRACKING_URI": SERVER,
            "STUDY_HOME": str(folder / "study-store"),
        }
        self._write_cluster_file(shared)

    def _write_cluster_file(self, shared: Path) -> None:
        text = (ROOT / "clusters" / "local.yaml").read_text()
        text = text.replace("/mnt/study", str(shared))
        text = text.replace("sqlite:///$HOME/mlflow.db", STORE)
        # Every simulated host sees all cores and all memory of this machine.
        text = text.replace("ray start", "ray start --num-cpus=1 --object-store-memory=150000000")
        # The hosts cannot reach a package index, so they use the environment of this test.
        install = "bash ~/study-platform/clusters/node.sh install"
        link = f"ln -sfn {sys.prefix} ~/study-platform/.venv"
        # Appended, because workers read this file after Ray has added the user's modules.
        path = "${PYTHONPATH:+$PYTHONPATH:}$HOME/study-platform"
        export = f"echo 'export PYTHONPATH={path}' >>~/.study_env"
        assert install in text
        config = yaml.safe_load(text.replace(install, f"{link}; {export}"))
        workers = [f"10.77.0.1{host}" for host in range(1, HOSTS)]
        config["provider"] |= {"head_ip": HEAD, "worker_ips": workers}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(self.bed.folder / "key")}
        (self.folder / "cluster.yaml").write_text(yaml.safe_dump(config))

    def run(self, *words: str, succeeds: bool = True, timeout: float = 300) -> str:
        """Run a command and return its output; `CLUSTER` stands for the cluster file."""
        file = str(self.folder / "cluster.yaml")
        done = subprocess.run(
            [file if word == "CLUSTER" else word for word in words],
            cwd=ROOT,  # the cluster file mounts folders relative to it
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        output = done.stdout + done.stderr
        assert (done.returncode == 0) == succeeds, output[-4000:]
        return output

    def start_cluster(self) -> str:
        """Run `ray up` and return its output when all hosts have joined."""
        self.run("ray", "get-auth-token", "--generate")
        output = self.run("ray", "up", "-y", "CLUSTER")
        joined = f"{HOSTS} local.cluster.node"
        until(lambda: joined in self.run("ray", "exec", "CLUSTER", "ray status"), joined)
        return output

    def submit(self, name: str, text: str, *, succeeds: bool = True) -> str:
        """Submit a study file and return its output."""
        file = self.folder / name
        file.write_text(text)
        return self.run("ray", "submit", "CLUSTER", str(file), succeeds=succeeds)

    def report(self, name: str) -> str:
        """Write the report of a study on this machine and return its HTML."""
        self.run(str(Path(sys.executable).parent / "study"), "report", name)
        return (self.folder / "study-store" / "studies" / name / "report/report.html").read_text()

    @contextmanager
    def port_forwarded(self) -> Iterator[None]:
        key = ["-i", str(self.bed.folder / "key"), "-o", "StrictHostKeyChecking=no"]
        known = ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        ssh = ["ssh", *key, *known, "-N", "-L", "15000:127.0.0.1:5000", f"root@{HEAD}"]
        forward = subprocess.Popen(ssh, stdin=subprocess.DEVNULL)
        try:
            until(mlflow_answers, "the forwarded port", 30)
            yield
        finally:
            forward.terminate()
            forward.wait()


def mlflow_answers() -> bool:
    try:
        return bool(urlopen(f"{SERVER}/health", timeout=2).status == 200)
    except (URLError, OSError):
        return False


def hosts_of_runs(name: str, count: int) -> set[str]:
    """The hosts that the runs of a study ran on; asserts that each run was done once."""
    client = MlflowClient(SERVER)
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'run'")
    assert len({run.data.tags["key"] for run in runs}) == len(runs) == count
    return {run.data.tags["host"] for run in runs}


def links() -> str:
    return subprocess.run(["ip", "link"], capture_output=True, text=True).stdout


@pytest.fixture
def laptop(tmp_path) -> Iterator[Laptop]:
    if os.environ.get("CI"):
        pytest.skip("takes ten minutes; run it manually, see CONTRIBUTING.md")
    if reason := unavailable():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="study-hosts-"))
    folder.chmod(0o755)  # the user `postgres` needs access
    bed = testbed.Testbed(folder, HOSTS)
    until(lambda: "vhost" not in links(), "the end of earlier hosts")
    bed.act("up", HOSTS)
    try:
        data = folder / "postgres"
        data.mkdir()
        shutil.chown(data, "postgres")
        bed.ssh(0, f"cd / && runuser -u postgres -- {postgres()}/initdb -D {data} -A trust")
        bed.start_postgres()
        yield Laptop(tmp_path, bed, folder / "shared")
    finally:
        bed.act("down")
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_cluster_starts_runs_a_study_on_all_machines_and_stops(laptop):
    shared = laptop.bed.folder / "shared"
    file = STUDY.format(name="cluster", model=str(shared / "model"), gpus=0)
    too_large = STUDY.format(name="too-large", model=str(shared / "model"), gpus=1)

    output = laptop.run("ray", "up", "-y", "CLUSTER", succeeds=False)
    assert "No such file" in output
    assert ".ray/auth_token" in output
    output = laptop.start_cluster()
    assert "ssh -N -L 5000:127.0.0.1:5000" in output
    assert (laptop.folder / ".ray" / "auth_token").read_text() not in output

    tiny_model(shared / "model")
    tiny_task(shared / "data")
    own = laptop.folder / "my_techniques.py"
    own.write_text(OWN)
    laptop.run("ray", "rsync-up", "CLUSTER", str(own), "~/my_techniques.py")
    assert "12 of 12 runs done" in laptop.submit("my_study.py", file)
    assert "nothing to run" in laptop.submit("my_study.py", file)
    output = laptop.submit("too_large.py", too_large, succeeds=False)
    assert "a run needs" in output
    assert "Traceback" not in output
    assert "not running" in laptop.run("ray", "exec", "CLUSTER", "study status cluster")

    with laptop.port_forwarded():
        assert hosts_of_runs("cluster", 12) == {f"host{host}" for host in range(HOSTS)}
        assert "BiasedAdam" in laptop.report("cluster")

        # All processes of the server but the loop that restarts it, which leads their group.
        loop = laptop.bed.ssh(0, "cat ~/.study-mlflow.host0.lock").strip()
        laptop.bed.ssh(0, f"pgrep -g {loop} | grep -vx {loop} | xargs kill -9")
        until(lambda: not mlflow_answers(), "the end of MLflow", 10)
        until(mlflow_answers, "MLflow's return", 60)

    laptop.run("ray", "down", "-y", "CLUSTER")
    assert laptop.bed.ssh(0, "pgrep -x gcs_server || echo none").strip() == "none"


@pytest.mark.slow
def test_the_quickstart_runs_unchanged_on_a_cluster(laptop):
    laptop.start_cluster()
    quickstart = str(ROOT / "study/designs/quickstart.py")
    output = laptop.run("ray", "submit", "CLUSTER", quickstart, timeout=900)
    assert "25 of 25 runs done" in output
    with laptop.port_forwarded():
        assert hosts_of_runs("quickstart", 25) == {f"host{host}" for host in range(HOSTS)}
        assert "ReinitTop" in laptop.report("quickstart")
    laptop.run("ray", "down", "-y", "CLUSTER")
