"""The command line: output, exit codes and error messages."""

import inspect
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from analysis.cli import holds_scores
from study import designs
from study.cli import run as run_module
from study.cli.messages import Ending, Took
from study.cli.parser import COMMANDS, parser, run_command
from study.core.paths import Home
from study.execution.queue import Progress
from study.planning.study_file import find_study_file
from study.testing import tiny_model, tiny_task
from study.tracking.store import Store
from tests import needs

STUDY = """\
from study import FreezeLower, Recipe, Standard, Study, Task
from study.models.model import Model

STUDY = Study(
    name="typed",
    tasks=[Task(name="pairs", train="train.jsonl", dev="dev.jsonl", test="test.jsonl",
                text_pair="text_pair")],
    models=[Model(name="tiny", checkpoint={model!r})],
    techniques=[Standard(), FreezeLower(layers={layers})],
    recipe=Recipe({recipe}),
    seeds=range(2),
    data={task!r},
)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tiny_model(tmp_path / "model")
    tiny_task(tmp_path / "task")

    def write_study(layers: int = 1, recipe: str = "epochs=1") -> str:
        path = tmp_path / "typed.py"
        paths = {"model": str(tmp_path / "model"), "task": str(tmp_path / "task")}
        path.write_text(STUDY.format(layers=layers, recipe=recipe, **paths))
        return str(path)

    return write_study


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run_command(words)
    out, err = capsys.readouterr()
    return code, out, err


def test_dry_run_starts_nothing(write, capsys, tmp_path):
    code, out, err = typed(capsys, "run", write(), "--dry-run")
    assert code == 0
    assert "study typed: 0 done, 4 new; roughly" in err
    assert "pairs/tiny/FreezeLower(1)/s1" in out
    assert not (tmp_path / "home").exists()


def test_json_is_the_only_output_on_standard_output(write, capsys):
    code, out, _ = typed(capsys, "run", write(), "--dry-run", "--json")
    assert code == 0
    answer = json.loads(out)
    assert (answer["study"], answer["runs"], answer["missing"]) == ("typed", 4, 4)
    assert "pairs/tiny/Standard/s0" in answer["new"].values()


@pytest.fixture
def tuned(write):
    path = Path(write())
    text = path.read_text().replace("seeds=range(2)", "seeds=[7, 8], tune=Tune(trials=12, seeds=3)")
    search = "Search(LayerwiseDecay, SPACES['LayerwiseDecay']), FreezeLower"
    text = text.replace(" FreezeLower(", f" {search}(", 1)
    names = "from search_spaces import SPACES\nfrom study import LayerwiseDecay, Search, Tune\n"
    path.write_text(names + text)
    return str(path)


def test_both_stages_are_counted_before_anything_starts(tuned, capsys):
    code, out, err = typed(capsys, "run", tuned, "--dry-run")
    assert code == 0, err
    assert "0 done, 40 new (36 tune, 4 final), at most 2 more after selection; roughly" in err
    assert "and at most 2 more, chosen by the dev scores of these" in out
    _, out, _ = typed(capsys, "run", tuned, "--dry-run", "--json")
    assert [json.loads(out)[name] for name in ("runs", "missing")] == [42, 42]
    _, out, _ = typed(capsys, "run", tuned, "--dry-run", "--only", "stage=final")
    assert len([line for line in out.splitlines() if "/" in line]) == 4
    _, out, _ = typed(capsys, "plan", tuned)
    assert "42 runs at most:" in out
    assert "tune   36 runs: 1 searches x 12 configurations x 3 seeds (random)" in out
    assert "final  6 runs: 3 cells x 2 seeds" in out
    _, out, _ = typed(capsys, "plan", tuned, "--json")
    assert json.loads(out)["stages"] == {"tune": 36, "final": 6}


@pytest.mark.parametrize("words", [["run", "--dry-run"], ["plan"]])
def test_an_unreachable_server_is_not_taken_for_a_study_without_runs(
    words, write, capsys, monkeypatch
):
    file = write()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, out, err = typed(capsys, words[0], file, *words[1:])
    assert (code, out) == (2, "")
    assert "no answer from MLflow at http://127.0.0.1:9. Check that the server is running" in err


def test_an_unreachable_database_is_not_taken_for_a_study_without_runs(write, capsys, monkeypatch):
    needs.package("psycopg2")
    store = "postgresql+psycopg2://me:secret@127.0.0.1:9/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    code, out, err = typed(capsys, "run", write(), "--dry-run")
    assert (code, out) == (2, "")
    assert "127.0.0.1:9/mlflow cannot be read: connection to server" in err
    assert "secret" not in err


def test_only_selects_runs(write, capsys):
    file = write()
    _, out, _ = typed(
        capsys, "run", file, "--dry-run", "--only", "seed=1", "--only", "technique=Standard"
    )
    assert [line.split()[-1] for line in out.splitlines() if "/" in line] == [
        "pairs/tiny/Standard/s1"
    ]
    code, _, err = typed(capsys, "run", file, "--dry-run", "--only", "sed=1")
    said = "--only sed=: no such condition. Did you mean 'seed'?"
    assert (code, err.splitlines()[-1]) == (2, said)


def test_an_unsuitable_technique_is_reported_before_anything_starts(write, capsys, tmp_path):
    code, _, err = typed(capsys, "run", write(layers=7))
    assert code == 2
    assert err == (
        "1 mistake in study 'typed':\n  techniques[1]: FreezeLower(7) does not fit model 'tiny': "
        "layers=7 leaves none of its 2 layers to train.\n"
    )
    assert not (tmp_path / "home").exists()


def test_mistakes_in_the_file_exit_with_two(write, capsys):
    code, _, err = typed(capsys, "run", write(recipe="lr=0, epoch=1"))
    assert code == 2
    assert err == (
        "2 mistakes in study 'typed':\n  recipe.lr: 0 is not in (0, inf).\n"
        "  recipe.epoch: no such field. Did you mean 'epochs'?\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "absent.py"], "no study file 'absent.py'"),
        (["status"], "specify a study; {home} contains none; "),
        (["status", "absent"], "no store at"),
        (["show", "0123"], "no store at"),
    ],
)
def test_absent_files_studies_and_stores(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "nowhere"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, _, err = typed(capsys, *words)
    assert code == 2
    assert message.format(home=tmp_path / "nowhere") in err
    assert not (tmp_path / "nowhere").exists()


def test_a_file_without_a_study(tmp_path, capsys):
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    code, _, err = typed(capsys, "run", str(path))
    assert code == 2
    assert "defines no study; add `STUDY = Study(...)`" in err


@pytest.mark.parametrize("folder", ["", "./", "{tmp_path}/"])
def test_an_error_in_the_study_file_names_file_and_line(folder, tmp_path, capsys, monkeypatch):
    """A relative path was not found among the absolute paths of the traceback."""
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("\nfrom study import NoSuchThing\n")
    code, _, err = typed(capsys, "run", folder.format(tmp_path=tmp_path) + "broken.py")
    assert code == 2
    assert "broken.py, line 2: ImportError: cannot import name 'NoSuchThing'" in err


@pytest.mark.parametrize("what", ["techniques", "tasks", "models", "spaces"])
def test_lists_have_a_purpose_for_every_name(what, capsys):
    code, out, _ = typed(capsys, "list", what)
    assert code == 0
    assert out.strip()
    code, out, _ = typed(capsys, "list", what, "--json")
    assert all({"name", "purpose"} <= set(row) for row in json.loads(out))


def test_tasks_are_listed_with_the_line_that_imports_them(capsys):
    _, out, _ = typed(capsys, "list", "tasks", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert len(rows) == 29
    for name, row in rows.items():
        scope: dict[str, object] = {}
        exec(row["import"], scope)
        (constant,) = set(scope) - {"__builtins__"}
        assert vars(scope[constant])["name"] == name
    assert rows["glue_rte"]["import"] == "from study.tasks import RTE"
    assert rows["glue_rte"]["purpose"] == "classification, accuracy, from the Hugging Face hub"
    _, out, _ = typed(capsys, "list", "tasks")
    assert "from study.tasks import RTE\n" in out


def test_every_technique_is_listed_with_its_source(capsys):
    _, out, _ = typed(capsys, "list", "techniques", "--json")
    assert all(row["source"] for row in json.loads(out))


def test_plan_adjusts_for_the_comparisons_of_the_report(write, capsys):
    """Against the baseline of 12 techniques; 0.5 sd at 5% over 11: 111 seeds, by statsmodels."""
    file = write()
    text = Path(file).read_text()
    more = ", ".join(f"Mixout(p=0.{n})" for n in range(1, 10)) + ", Mixout(p=0.95)"
    text = text.replace("import FreezeLower,", "import FreezeLower, Mixout,")
    Path(file).write_text(text.replace("[Standard(),", f"[Standard(), {more},"))
    code, out, err = typed(capsys, "plan", file, "--detect", "0.01", "--sd", "0.02")
    assert code == 0, err
    assert "111 seeds per cell" in out
    assert "(two-sided 5% over 11 comparisons, power 80%)" in out


def test_plan_counts_runs_and_seeds(write, capsys):
    file = write()
    code, out, _ = typed(capsys, "plan", file, "--detect", "0.01", "--sd", "0.02")
    assert code == 0
    assert "4 runs: 2 cells x 2 seeds" in out
    assert "64 seeds per cell" in out  # half an sd: Cohen's table
    code, out, _ = typed(capsys, "plan", file, "--ratio", "2", "--json")
    assert json.loads(out)["seeds_for_ratio"] == pytest.approx(24, abs=2)
    _, out, _ = typed(capsys, "plan", file, "--ratio", "2")
    assert "seeds per cell to detect an sd 2 times another" in out
    assert "19 by an F test" in out
    code, _, err = typed(capsys, "plan", file, "--ratio", "1")
    assert (code, err.splitlines()[-1]) == (2, "ratio must be positive and not 1")
    code, out, err = typed(capsys, "plan", file, "--detect", "0.01")
    assert "4 runs: 2 cells x 2 seeds" in out  # the plan all the same
    assert (code, err.splitlines()[-1]) == (
        2,
        "--detect needs an sd, such as --sd 0.02, since no cell of this study has two finished "
        "runs that differ",
    )


def test_a_plan_accepts_more_workers_than_this_machine_has_cores(write, capsys):
    """They were capped at the cores of the machine that plans."""
    file, cluster = Path(write()), (os.cpu_count() or 1) + 1
    file.write_text(file.read_text().replace("range(2)", f"range({cluster})"))
    for workers, planned in ((cluster, cluster), (3 * cluster, 2 * cluster)):
        _, out, _ = typed(capsys, "plan", str(file), "--workers", str(workers))
        assert f" on {planned}\n" in out


@pytest.mark.parametrize("size", ["8", "GB", "8TB", "8 G"])
def test_a_limit_without_a_unit_is_refused(size, capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(["recommend", "--max-memory", size])
    assert ended.value.code == 2
    assert f"{size!r} is not a size such as 8GB or 500MB" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["0", "-1", "2.5", "many"])
@pytest.mark.parametrize("command", ["run", "plan"])
def test_workers_must_be_a_positive_integer(command, workers, capsys):
    """0 meant all of them, and -1 gave a traceback from Tune."""
    with pytest.raises(SystemExit) as ended:
        run_command([command, "study.py", "--workers", workers])
    assert ended.value.code == 2
    assert f"{workers!r} is not a positive integer" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "-0.01", "nan", "inf", "little"])
@pytest.mark.parametrize("option", ["--detect", "--sd"])
def test_effect_and_sd_of_a_plan_must_be_positive(option, size, capsys):
    """A difference of 0 was said to need --sd, and an sd of 0 was treated as not given."""
    with pytest.raises(SystemExit) as ended:
        run_command(["plan", "study.py", option, size])
    assert ended.value.code == 2
    assert f"argument {option}: {size!r} is not a positive number" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, -1, 1.5])
def test_run_in_a_script_rejects_other_numbers_of_workers(workers):
    with pytest.raises(ValueError, match=f"workers={workers} is not a positive integer"):
        run_module.run(None, workers=workers)


@pytest.mark.parametrize(
    ("workers", "seconds", "work"),
    [
        (0, [], ""),
        (1, [3.0], " in 5 s (estimated: about 4 s), 3 s of work on one worker"),
        (2, [3.0], " in 5 s (estimated: about 4 s), 3 s of work on 2 workers"),
    ],
)
def test_the_last_line_reports_work_only_if_there_was_any(workers, seconds, work, capsys):
    """It reported 1 s of work on 0 workers, and work on 1 workers."""
    progress = Progress(total=1, finished=1, workers=workers, seconds=seconds)
    took = Took(5.0, "about 4 s")
    Ending("mine", 1, as_json=False).ended(
        progress, lost=0, waiting=0, took=took, tables=lambda: None
    )
    assert capsys.readouterr().out.splitlines()[1] == f"finished: 1 of 1 runs done{work}"


def test_stop_reports_a_study_that_is_not_running(write, capsys, tmp_path):
    write()
    (tmp_path / "home" / "studies" / "typed").mkdir(parents=True)
    assert Home(tmp_path / "home").names() == ["typed"]
    code, out, _ = typed(capsys, "stop")
    assert (code, out) == (0, "study 'typed' is not running\n")
    code, _, err = typed(capsys, "stop", "typo")
    assert code == 2
    assert "Did you mean 'typed'?" in err


def test_an_ambiguous_study_lists_those_of_the_home_and_refers_to_the_store(
    write, capsys, tmp_path
):
    """A renamed study leaves its folder behind, and a study run elsewhere has none here."""
    write()
    for name in ("old", "new"):
        (tmp_path / "home" / "studies" / name).mkdir(parents=True)
    code, _, err = typed(capsys, "status")
    told = f"{tmp_path / 'home'} contains new, old"
    hint = "`study list studies` lists those in the tracking store"
    assert (code, err) == (2, f"specify a study; {told}; {hint}\n")


def test_stop_does_not_create_a_store(write, capsys, tmp_path, monkeypatch):
    write()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'tpyo' / 'mlflow.db'}")
    code, _, err = typed(capsys, "stop", "typed")
    assert code == 2
    assert "no store at" in err
    assert not (tmp_path / "tpyo").exists()


def test_a_run_that_cannot_be_exported_is_reported_without_a_traceback(write, capsys, tmp_path):
    path = Path(write())
    path.write_text(path.read_text().replace("FreezeLower(layers=1)", "Adapters()"))
    path.write_text(path.read_text().replace("import FreezeLower", "import Adapters"))
    _, out, _ = typed(capsys, "run", str(path), "--dry-run", "--only", "technique=Adapters")
    words = ["export", out.split()[0], "--out", str(tmp_path / "out"), "--file", str(path)]
    code, _, err = typed(capsys, *words)
    assert code == 2
    assert "technique: cannot be exported: its adapters are not linear" in err


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_ui_starts_one_server_stops_it_and_shows_no_password(
    write, port, tmp_path, monkeypatch
):
    write()
    home = Home(tmp_path / "50%25 #1?a=b")
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    Store(home.uri, home.artifacts).experiment("typed")
    command = [sys.executable, "-m", "study"]
    ui = subprocess.Popen([*command, "ui", "typed", "--port", str(port)], stdout=subprocess.PIPE)
    assert f":{port}/#/experiments/" in ui.stdout.readline().decode()
    wait_for(f"http://127.0.0.1:{port}/health")
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=typed"
    assert json.load(urlopen(url))["experiment"]["name"] == "typed"
    servers = psutil.Process(ui.pid).children(recursive=True)
    assert 0 < len(servers) < 5  # not MLflow's own eight for jobs
    assert not any(home.uri in word for server in servers for word in server.cmdline())
    ui.terminate()
    assert ui.wait(30) == 0
    assert psutil.wait_procs(servers, timeout=10)[1] == []


def wait_for(address):
    deadline = time.monotonic() + 60
    while True:
        try:
            urlopen(address, timeout=2).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_the_ui_reports_that_its_port_is_in_use(write, port, capsys, tmp_path):
    write()
    home = Home(tmp_path / "home")
    Store(home.uri, home.artifacts).experiment("typed")
    with socket.create_server(("127.0.0.1", port)):
        code, out, err = typed(capsys, "ui", "typed", "--port", str(port))
    assert (code, out) == (1, "")
    assert err.endswith(f"port {port}: Address already in use; choose another with --port\n")


def test_the_ui_refers_to_the_server_that_is_the_store(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host")
    assert typed(capsys, "ui") == (0, "the store is an MLflow server; open http://host\n", "")


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "study run quickstart" in out
    names = (
        "run",
        "status",
        "stop",
        "report",
        "recommend",
        "table",
        "list",
        "show",
        "plan",
        "ui",
        "export",
    )
    for name in names:
        assert f"\n    {name} " in out, name


def test_invalid_arguments_exit_with_two(capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(["list", "technique"])
    assert ended.value.code == 2
    assert "techniques" in capsys.readouterr().err


NEEDED = {  # arguments without which a command is refused
    **dict.fromkeys(["run", "plan", "memory", "show", "init"], ["x"]),
    "list": ["tasks"],
    **dict.fromkeys(["import-blurb", "export", "convert"], ["x", "--out", "y"]),
    "sync": ["--to", "x"],
    "completion": ["bash"],
}


def test_help_lists_every_command_by_its_docstring():
    listed = " ".join(parser([]).format_help().split())
    for name, (_, brief) in COMMANDS.items():
        assert f"{name} {brief}" in listed
        action = parser([name]).parse_args([name, *NEEDED.get(name, [])]).action
        first = inspect.getdoc(action).partition("\n")[0].rstrip(".")
        assert first[:1].lower() + first[1:] == brief


def test_bash_completes_commands_options_and_choices(capsys, tmp_path):
    code, script, _ = typed(capsys, "completion", "bash")
    assert code == 0
    (tmp_path / "study").write_text(script)
    words = (
        'source study; read -ra COMP_WORDS <<< "$1"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); '
        '_shtab_study; echo "${COMPREPLY[@]}"'
    )
    for line, completed in (
        ("study reco", "recommend"),
        ("study report --aga", "--against"),  # an option that only the selected command adds
        ("study list tec", "techniques"),
    ):
        found = subprocess.run(
            ["bash", "-c", words, "bash", line], cwd=tmp_path, capture_output=True, text=True
        )
        assert found.stdout.strip() == completed


def test_a_bundled_design_is_run_by_its_name(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_study_file("quickstart") == Path(designs.__path__[0]) / "quickstart.py"
    Path("quickstart").touch()
    assert find_study_file("quickstart") == Path("quickstart")  # a file at hand comes first
    code, _, err = typed(capsys, "run", "quikstart", "--dry-run")
    assert code == 2
    assert "no study file 'quikstart'; bundled designs are bias_correction, decay_rates" in err


def test_a_folder_with_the_name_of_a_study_does_not_hide_it(write, capsys, tmp_path, monkeypatch):
    write()
    monkeypatch.chdir(tmp_path)
    home = Home(tmp_path / "home")
    Store(home.uri, home.artifacts).experiment("typed")
    for name in ("typed", "other"):
        Path(name).mkdir()
        Path(name, "array.json").write_text("[]")
    assert holds_scores("other")
    assert not holds_scores("typed")


def test_the_commands_in_the_readme_exist():
    """The parser accepts every command in the README."""
    text = (needs.ROOT / "README.md").read_text()
    shown = [
        line.strip() for line in text.splitlines() if line.strip().startswith(".venv/bin/study ")
    ]
    assert len(shown) >= 5
    for line in shown:
        words = line.split("#")[0].split()[1:]
        assert parser(words[:1]).parse_args(words).action
    makefile = (Path(__file__).resolve().parents[3] / "Makefile").read_text()
    for line in text.splitlines():
        if line.startswith("make "):
            assert f"\n{line.split()[1]}:" in makefile


SCORES = "task,technique,dev,test\nrte,Standard,0.7,0.7\nrte,Standard,0.6,0.6\nrte,Mixout,0.8,0.8\n"


def test_scores_of_other_tools_make_a_report_and_a_table(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("scores.csv").write_text(SCORES)
    code, out, _ = typed(capsys, "report", "scores.csv", "--against", "scores.csv")
    assert code == 0
    assert "report: scores-report/report.html" in out
    assert (tmp_path / "scores-report" / "report.html").exists()
    code, out, _ = typed(capsys, "table", "scores.csv", "--cell", "mean", "--to", "latex")
    assert code == 0
    assert r"\toprule" in out
    assert "65.0" in out


def test_invalid_scores_and_tables_are_reported_without_a_traceback(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("scores.csv").write_text(SCORES)
    for words, message in (
        (["report", "nothing.csv"], "there is no file 'nothing.csv'"),
        (["report", "scores.csv", "--test", "tset"], "Did you mean 'test'?"),
        (["report", "scores.csv", "--against", "nothing.csv"], "there is no file"),
        (["table", "scores.csv", "--rows", "seed"], "'seed' is not one of"),
    ):
        code, _, err = typed(capsys, *words)
        assert code == 2
        assert message in err
        assert "Traceback" not in err


def test_a_difference_in_points_is_refused_for_shares(write, capsys):
    """It was answered with two seeds, for a difference that no score can have."""
    code, _, err = typed(capsys, "plan", write(), "--detect", "2", "--sd", "0.02")
    assert (code, err.splitlines()[-1]) == (
        2,
        "--detect 2 is no difference of scores up to 1; two points are 0.02",
    )
