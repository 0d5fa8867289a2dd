"""`ray up`, `ray submit` and `ray down` with clusters/local.yaml, on hosts of this machine."""

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
from tests.faults.testbed import HEAD, ROOT, absent, postgres, until

HOSTS = 4
SERVER = "http://127.0.0.1:15000"  # the head's, through ssh
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
    """The machine that runs `ray up`: its own home, and the cluster file with the user's values."""

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
        # Every host sees all cores and all memory of this machine.
        text = text.replace("ray start", "ray start --num-cpus=1 --object-store-memory=150000000")
        # The hosts reach no package index: they use the environment that this test runs in.
        install = "bash ~/study-platform/clusters/node.sh install"
        here = f"ln -sfn {sys.prefix} ~/study-platform/.venv"
        # Added to what is there: workers read this file too, after Ray named them own modules.
        path = "${PYTHONPATH:+$PYTHONPATH:}$HOME/study-platform"
        found = f"echo 'export PYTHONPATH={path}' >>~/.study_env"
        assert install in text
        config = yaml.safe_load(text.replace(install, f"{here}; {found}"))
        workers = [f"10.77.0.1{host}" for host in range(1, HOSTS)]
        config["provider"] |= {"head_ip": HEAD, "worker_ips": workers}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(self.bed.folder / "key")}
        (self.folder / "cluster.yaml").write_text(yaml.safe_dump(config))

    def types(self, *words: str, works: bool = True, within: float = 300) -> str:
        """What a command says within some seconds; `CLUSTER` stands for the cluster file."""
        file = str(self.folder / "cluster.yaml")
        done = subprocess.run(
            [file if word == "CLUSTER" else word for word in words],
            cwd=ROOT,  # the cluster file mounts what is here
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
        )
        said = done.stdout + done.stderr
        assert (done.returncode == 0) == works, said[-4000:]
        return said

    def brings_up(self) -> str:
        """What `ray up` says, once all hosts have joined."""
        self.types("ray", "get-auth-token", "--generate")
        said = self.types("ray", "up", "-y", "CLUSTER")
        joined = f"{HOSTS} local.cluster.node"
        until(lambda: joined in self.types("ray", "exec", "CLUSTER", "ray status"), joined)
        return said

    def submits(self, name: str, text: str, *, works: bool = True) -> str:
        """What a study file says that is submitted."""
        file = self.folder / name
        file.write_text(text)
        return self.types("ray", "submit", "CLUSTER", str(file), works=works)

    def report(self, name: str) -> str:
        """A study's report, made here."""
        self.types(str(Path(sys.executable).parent / "study"), "report", name)
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
    """The hosts of a study's runs, each of which was done once."""
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
        pytest.skip("ten minutes; run by hand, see CONTRIBUTING.md")
    if reason := absent():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="study-hosts-"))
    folder.chmod(0o755)  # PostgreSQL's own user goes in
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
def test_a_cluster_comes_up_runs_a_study_on_all_machines_and_goes_down(laptop):
    shared = laptop.bed.folder / "shared"
    file = STUDY.format(name="cluster", model=str(shared / "model"), gpus=0)
    unfit = STUDY.format(name="unfit", model=str(shared / "model"), gpus=1)

    said = laptop.types("ray", "up", "-y", "CLUSTER", works=False)
    assert "No such file" in said
    assert ".ray/auth_token" in said
    said = laptop.brings_up()
    assert "ssh -N -L 5000:127.0.0.1:5000" in said
    assert (laptop.folder / ".ray" / "auth_token").read_text() not in said

    tiny_model(shared / "model")
    tiny_task(shared / "data")
    own = laptop.folder / "my_techniques.py"
    own.write_text(OWN)
    laptop.types("ray", "rsync-up", "CLUSTER", str(own), "~/my_techniques.py")
    assert "12 of 12 runs done" in laptop.submits("my_study.py", file)
    assert "nothing to run" in laptop.submits("my_study.py", file)
    said = laptop.submits("unfit.py", unfit, works=False)
    assert "a run needs" in said
    assert "Traceback" not in said
    assert "not running" in laptop.types("ray", "exec", "CLUSTER", "study status cluster")

    with laptop.port_forwarded():
        assert hosts_of_runs("cluster", 12) == {f"host{host}" for host in range(HOSTS)}
        assert "BiasedAdam" in laptop.report("cluster")

        # All of the server's processes; the loop that starts it anew is their group's leader.
        loop = laptop.bed.ssh(0, "cat ~/.study-mlflow.host0.lock").strip()
        laptop.bed.ssh(0, f"pgrep -g {loop} | grep -vx {loop} | xargs kill -9")
        until(lambda: not mlflow_answers(), "the end of MLflow", 10)
        until(mlflow_answers, "MLflow's return", 60)

    laptop.types("ray", "down", "-y", "CLUSTER")
    assert laptop.bed.ssh(0, "pgrep -x gcs_server || echo none").strip() == "none"


@pytest.mark.slow
def test_quickstart_is_submitted_unchanged(laptop):
    laptop.brings_up()
    quickstart = str(ROOT / "study/designs/quickstart.py")
    said = laptop.types("ray", "submit", "CLUSTER", quickstart, within=900)
    assert "25 of 25 runs done" in said
    with laptop.port_forwarded():
        assert hosts_of_runs("quickstart", 25) == {f"host{host}" for host in range(HOSTS)}
        assert "ReinitTop" in laptop.report("quickstart")
    laptop.types("ray", "down", "-y", "CLUSTER")
