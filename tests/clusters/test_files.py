"""The cluster files are valid for the programs that read them, and name existing files."""

import copy
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.needs import ROOT

LAUNCHED = ["cluster.yaml", "clusters/local.yaml"]  # by `ray up`
SCRIPTS = ["clusters/node.sh", "clusters/slurm.sh"]
COMMANDS = [
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
]


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


def kubernetes() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((ROOT / "clusters" / "kuberay.yaml").read_text())
    return {document["kind"]: document for document in documents}


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_accepts_the_file(name):
    validate_config(prepare_config(copy.deepcopy(read(name))))


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_refuses_a_field_it_does_not_know(name):
    config = prepare_config(read(name) | {"max_worker": 3})
    with pytest.raises(Exception, match="max_worker"):
        validate_config(config)


@pytest.mark.parametrize("name", LAUNCHED)
def test_mounts_exist_and_include_all_that_is_installed(name):
    mounts = read(name)["file_mounts"]
    assert mounts.pop("~/.ray/auth_token") == "~/.ray/auth_token"
    assert {remote: (ROOT / local).exists() for remote, local in mounts.items()} == {
        f"~/study-platform/{local}": True for local in mounts.values()
    }
    packages = {"study", "search_spaces", "analysis"}
    needed = packages | {"clusters", "pyproject.toml", "constraints.txt", "README.md"}
    assert set(mounts.values()) == needed


@pytest.mark.parametrize("name", LAUNCHED)
def test_commands_use_steps_that_exist(name):
    commands = [command for part in COMMANDS for command in read(name).get(part, [])]
    steps = re.findall(r"clusters/node\.sh (\w+)", "\n".join(commands))
    assert sorted(steps) == ["environment", "install", "login", "serve"]
    known = re.findall(r"^(\w+)\(\) \{", (ROOT / "clusters/node.sh").read_text(), re.MULTILINE)
    assert set(steps) <= set(known)


@pytest.mark.parametrize("name", LAUNCHED)
def test_no_service_listens_on_all_interfaces(name):
    text = (ROOT / name).read_text()
    assert "0.0.0.0" not in text
    assert "dashboard-host" not in text
    assert "password" not in str(read(name))


def test_workers_scale_from_zero_and_the_head_executes_no_runs():
    config = read("cluster.yaml")
    head, gpu = config["available_node_types"]["head"], config["available_node_types"]["gpu"]
    assert head["resources"] == {"CPU": 0}
    assert gpu["min_workers"] == 0
    assert gpu["max_workers"] == config["max_workers"]
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_mounting_waits_for_the_apt_locks_of_a_new_machine(tmp_path):
    busy = f'cd {tmp_path}; echo "$*" >>asked; [ -e again ] || {{ touch again; exit 100; }}'
    programs = {"mountpoint": "true", "sleep": "true", "sudo": busy}
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    mount = read("cluster.yaml")["setup_commands"][0].replace("/sbin/mount.nfs4", "/none")
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", mount], env=path, check=True)
    assert (tmp_path / "asked").read_text().splitlines() == [
        "apt-get -qq update",
        "apt-get -qq update",
        "apt-get -qq -o DPkg::Lock::Timeout=300 install -y nfs-common",
    ]


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_reads_the_script(name):
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


def test_slurm_gives_each_node_one_task_and_the_study_its_file():
    text = (ROOT / "clusters/slurm.sh").read_text()
    assert "#SBATCH --ntasks-per-node=1" in text
    start, driver = text.rpartition("srun ")[2].split(" -- ")
    assert driver.startswith("""bash -c 'study run "$@"; echo $? >"$0"' "$end" "$@" """)
    # Ray starts as many runs as it is told of cores; the step must have them.
    assert start.count('"$SLURM_CPUS_PER_TASK"') == 2
    assert '--cpus-per-task="$SLURM_CPUS_PER_TASK"' in start
    # Ray sets these itself, and refuses them.
    assert not re.findall(r"--(head|port|node-ip-address|block)\b", start)


@pytest.mark.parametrize(
    ("srun", "code"),
    [
        ('while [ "$1" != -- ]; do shift; done; shift; exec "$@"', 3),  # as the study ended
        ("exit 0", 1),  # as `ray symmetric-run` does where Ray did not start
    ],
)
def test_a_slurm_job_has_the_exit_code_of_its_study_or_fails_without_one(srun, code, tmp_path):
    programs = {
        "srun": srun,
        "scontrol": "echo node1",
        "study": '[ "$*" = "run mine.py" ] && exit 3',
    }
    for name, text in {**programs, "clusters/node.sh": "exit 0"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".study_env").write_text("export STUDY_HOME=$HOME\n")
    job = {
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_NODELIST": "node1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "2",
    }
    done = subprocess.run(
        ["bash", str(ROOT / "clusters/slurm.sh"), "mine.py"], env=job, capture_output=True
    )
    assert done.returncode == code, done.stderr
    assert (b"did not run to its end" in done.stderr) == (code == 1)


def test_slurm_gives_slow_machines_time_to_start():
    (name,) = re.findall(r"export (RAY_SYMMETRIC\w+)=300", (ROOT / "clusters/slurm.sh").read_text())
    code = "from ray.scripts import symmetric_run as run; print(run.CLUSTER_WAIT_TIMEOUT)"
    environment = {**os.environ, name: "300"}
    said = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert said.strip() == "300"


def test_kuberay_retries_are_stated_and_the_token_is_on():
    job = kubernetes()["RayJob"]
    assert job["apiVersion"] == "ray.io/v1"
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert (spec["backoffLimit"], spec["submitterConfig"]) == (3, {"backoffLimit": 3})
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_kuberay_retries_only_a_driver_that_crashed_or_was_killed():
    """A failed job is retried with a fresh budget, so a regular end must succeed."""
    shell, script, step, file = kubernetes()["RayJob"]["spec"]["entrypoint"].split()
    mounts = kubernetes()["RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    places = [mount["mountPath"] for mount in mounts["containers"][0]["volumeMounts"]]
    image = (ROOT / "clusters/Dockerfile").read_text()
    (folder,) = re.findall(r"^WORKDIR (.+)$", image, re.MULTILINE)
    assert (shell, script, step) == ("bash", f"{folder}/clusters/node.sh", "drive")
    assert "clusters clusters\n" in image
    assert str(Path(file).parent) in places
    # Two shells parse it, so it must not contain shell metacharacters.
    assert re.fullmatch(r"[\w./ -]+", kubernetes()["RayJob"]["spec"]["entrypoint"])


def test_kuberay_pods_find_storage_and_mlflow():
    documents = kubernetes()
    service = documents["Service"]
    server = documents["Deployment"]["spec"]["template"]
    assert service["spec"]["selector"] == server["metadata"]["labels"]
    address = f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert f"{address}," in " ".join(server["spec"]["containers"][0]["args"])
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        variables = {each["name"]: each["value"] for each in container["env"]}
        assert variables["MLFLOW_TRACKING_URI"] == f"http://{address}"
        places = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        assert variables["STUDY_HOME"] == places["study"]
        claims = [v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["volumes"]]
        assert documents["PersistentVolumeClaim"]["metadata"]["name"] in claims


def test_kuberay_pods_may_write_to_the_volume_they_share():
    documents = kubernetes()
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    pods = [group["template"]["spec"] for group in (documents["Deployment"]["spec"], *groups)]
    assert [pod["securityContext"] for pod in pods] == [{"fsGroup": 100}] * 3  # the image's


def test_kuberay_lets_only_ray_clusters_reach_mlflow():
    documents = kubernetes()
    spec = documents["NetworkPolicy"]["spec"]
    server = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"] == {"matchLabels": server}
    assert spec["policyTypes"] == ["Ingress"]
    clusters = {"matchExpressions": [{"key": "ray.io/cluster", "operator": "Exists"}]}
    ports = documents["Service"]["spec"]["ports"]
    assert spec["ingress"] == [{"from": [{"podSelector": clusters}], "ports": ports}]


def test_kuberay_passes_the_size_of_the_grown_cluster():
    cluster = kubernetes()["RayJob"]["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    gpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    variables = {each["name"]: each["value"] for each in head["env"]}
    assert int(variables["STUDY_ROOM"]) == group["maxReplicas"] * gpus


def test_images_have_the_ray_that_is_pinned():
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert pinned[1] == ray.__version__
    assert kubernetes()["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
    assert f"FROM rayproject/ray:{pinned[1]}-" in (ROOT / "clusters/Dockerfile").read_text()


@pytest.mark.parametrize("name", ["clusters/node.sh", "clusters/Dockerfile"])
def test_extras_that_nodes_install_exist_and_are_pinned(name):
    (asked,) = re.findall(r"\[(study[\w,]*)\]", (ROOT / name).read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # A task may name the hub.
    assert set(asked.split(",")) == {"study", "minilm", "hub", "postgres", "aws"}
    needed = {re.split(r"[\[<>=]", each)[0] for extra in asked.split(",") for each in extras[extra]}
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert needed <= set(pinned)  # all nodes have the same


@pytest.mark.parametrize("name", [*LAUNCHED, "clusters/kuberay.yaml", "clusters/slurm.sh"])
def test_lines_for_the_user_to_change_are_marked(name):
    assert "CHANGE" in (ROOT / name).read_text()
