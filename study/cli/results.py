"""Results of a study: `study report`, `table`, `recommend`, `show` and `ui`."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from study.cli import finished
from study.cli.arguments import Commands, add_json, add_study, share, size
from study.cli.listing import rows
from study.cli.messages import complain, near, program
from study.core.paths import Home, default_home, without_password
from study.core.spec import SpecError
from study.planning.study import Study
from study.planning.study_file import resolve_study_name, study_in

CAVEATS = 3  # that `study recommend` prints, the most important


def add_commands(commands: Commands) -> None:
    """Add `study report`, `table`, `recommend`, `show` and `ui`."""
    parser = commands.add("report", report)
    add_study(parser)
    if "report" in commands.selected:
        from analysis.cli import report_arguments  # slow to load for other commands

        report_arguments(parser)
    parser.add_argument(
        "--texts",
        action="store_true",
        help="show the texts of the examples on which seeds disagree; needs the study file",
    )
    parser = commands.add("table", table)
    parser.add_argument("study", nargs="?", help="study name or study file, or a CSV of scores")
    if "table" in commands.selected:
        from analysis.cli import table_arguments

        table_arguments(parser)
    parser = commands.add("recommend", recommend)
    add_study(parser)
    parser.add_argument(
        "--max-memory",
        type=size,
        metavar="SIZE",
        help="maximum memory per run, such as 8GB: the peak of a GPU; on a CPU, bytes of a step",
    )
    parser.add_argument("--max-seconds", type=float, metavar="S", help="maximum seconds per run")
    parser.add_argument(
        "--keep",
        type=share,
        metavar="SHARE",
        help="least share of every skill in `retains` that all runs must have kept, such as 0.95",
    )
    parser.add_argument(
        "--prefer",
        choices=["stable", "fast", "score"],
        default="stable",
        help="tie-break among configurations that do not differ significantly; default: stable",
    )
    add_json(parser)
    parser = commands.add("show", show)
    parser.add_argument("key", help="key of the run, or its first digits")
    add_json(parser)
    parser = commands.add("ui", ui)
    parser.add_argument("study", nargs="?", help="study to open")
    parser.add_argument("--port", type=int, default=5000, help="port of the server; default: 5000")


def report(arguments: argparse.Namespace) -> int:
    """Write report.html and the tables of a study as Markdown, CSV and LaTeX.

    Instead of a study, a CSV of scores from another tool can be given, also after --against.
    """
    from analysis import cli
    from analysis.frames.runs import ScoreFileError
    from analysis.report.provenance import Extras

    home = default_home()
    study = study_in(arguments.study)  # runs the file, once
    name = study.name if study else resolve_study_name(arguments.study, home)
    stored = not cli.holds_scores(name)
    folder = home.study(name) / "report" if stored else cli.default_folder(name)
    note = finished.correction_note(study, home)
    if arguments.texts and study is None:
        complain("--texts reads the rows of the tasks; give the study file, not its name")
        return 2
    texts = _texts(study) if arguments.texts and study else {}
    extras = Extras(
        paste=lambda key: _to_paste_if_readable(key, name, home),
        texts=texts,
        techniques={row["name"]: row["purpose"] for row in rows("techniques")},
    )
    try:
        path = cli.report(
            name, arguments, folder=folder, notes=[note] if note else [], extras=extras
        )
    except ScoreFileError as error:
        complain(error)
        return 2
    if note:
        complain(note)
    print(f"report: {near(path)}")
    print(f"tables: {near(path.parent / 'tables')}")
    if stored:
        print(f"browse: {program()} ui {name}")
    return 0


def table(arguments: argparse.Namespace) -> int:
    """Print a table for a paper: LaTeX, Markdown, HTML, CSV or plain text."""
    from analysis import cli
    from analysis.frames.runs import ScoreFileError

    try:
        name = resolve_study_name(arguments.study, default_home())
        print(cli.table(name, arguments))
    except ScoreFileError as error:
        complain(error)
        return 2
    return 0


def recommend(arguments: argparse.Namespace) -> int:
    """Recommend a configuration, with its uncertainty and the lines to paste.

    Configurations are chosen by dev score among those within the limits on memory, time and
    forgetting. The exit code is 1 if none is within the limits, none has a score, or all runs
    failed.
    """
    from analysis import by_group, caveats, load_runs
    from analysis.across_tasks.groups import sentences
    from analysis.per_task.recommend import advice
    from analysis.per_task.recommend import recommend as recommended

    home = default_home()
    name = resolve_study_name(arguments.study, home)
    runs = load_runs(name, home.uri)
    found = recommended(
        runs,
        max_memory=arguments.max_memory,
        max_seconds=arguments.max_seconds,
        keep=arguments.keep,
        prefer=arguments.prefer,
    )
    found["paste"] = [_to_paste(key, name, home) for key in found["key"]]
    if arguments.json:
        print(found.to_json(orient="records"))
    else:
        rows: list[Any] = list(found.itertuples())
        for row, text in zip(rows, advice(found), strict=True):
            print(text)
            for excluded in filter(None, row.unfitting.split("; ")):
                print(f"  beyond the limit: {excluded}")
            print("".join(f"  {line}\n" for line in row.paste.splitlines()))
        if len(found) > 1:
            print("\n".join(sentences(by_group(runs))))
        limits = caveats(runs)  # without those from learning curves, which take long to read
        for sentence in limits[:CAVEATS]:
            print(f"caveat: {sentence}")
        print(f"all caveats: {program()} report {arguments.study}")
    return 0 if (found["recommended"] != "").any() else 1


def show(arguments: argparse.Namespace) -> int:
    """Show one run: specification, scores and artifacts."""
    from analysis.frames.load import find_run

    found = find_run(arguments.key, default_home().uri)
    if text := _collapsed(found):
        found["collapsed"] = text
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value)
        print(f"{name:<20} {text}")
    export = f"{program()} export {found['key']} --out FOLDER"
    print(f"\nnext: {export}    the trained model: kept, or trained again")
    return 0


def _collapsed(found: dict[str, Any]) -> str:
    """Why a run counts as collapsed; empty if it does not."""
    from analysis.frames.columns import COLLAPSE_RULE
    from analysis.per_task.failures import why_collapsed
    from analysis.statistics.collapse import COLLAPSED

    tags, metrics = found["tags"], found["metrics"]
    if not tags.get(COLLAPSE_RULE):
        return ""
    run = {"collapse_rule": tags[COLLAPSE_RULE], "metric": tags["metric"]}
    run["higher_is_better"] = tags["higher_is_better"] == "true"
    run |= {name: float(metrics.get(name, "nan")) for name in ("dev", "dev_floor")}
    run["dev_rows"] = float(tags.get("dev_rows", "nan"))
    return f"{COLLAPSED}: {why_collapsed(run, 1)}"


def ui(arguments: argparse.Namespace) -> int:
    """Serve the MLflow UI to this machine only, and print a link to a study's cells."""
    from analysis.frames.load import WORKFLOW, experiment_id
    from study.tracking.store import address, sqlite_file

    home = default_home()
    page = f"http://127.0.0.1:{arguments.port}/"
    if home.uri.startswith("http"):
        print(f"the store is an MLflow server; open {without_password(home.uri)}")
        return 0
    name = resolve_study_name(arguments.study, home)
    experiment = experiment_id(name, home.uri)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(("127.0.0.1", arguments.port))
        except OSError as error:
            complain(f"port {arguments.port}: {error.strerror}; choose another with --port")
            return 1
    view = f"viewStateShareKey=cells&{WORKFLOW}"
    print(f"cells: {page}#/experiments/{experiment}/runs?{view}")
    print("stop with Ctrl-C", flush=True)
    server = [sys.executable, "-m", "mlflow", "server", "--port", str(arguments.port)]
    server += ["--default-artifact-root", home.artifacts.as_uri(), "--host", "127.0.0.1"]
    server += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    file = sqlite_file(home.uri)
    settings = {
        # Not as an argument: an address may contain a password, and every user sees command lines.
        "MLFLOW_BACKEND_STORE_URI": address(file, "rw") if file else home.uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # saves eight processes that no study needs
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = subprocess.Popen(server, env={**os.environ, **settings}, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)  # the whole group: MLflow starts child processes
        process.wait()
        return 0


def _texts(study: Study) -> dict[str, dict[str, str]]:
    """Texts of the test examples of a study, by task and ID; none of images."""
    found = {}
    for task in study.located_tasks():
        if task.kind != "image":
            split = task.load().splits["test"]
            texts = [_readable(text) for text in split.text]
            if split.text_pair:
                texts = [" / ".join(pair) for pair in zip(texts, split.text_pair, strict=True)]
            found[task.name] = dict(zip(split.ids, texts, strict=True))
    return found


def _readable(text: Any) -> str:
    """A text, words, or the messages of a conversation, as one line."""
    if isinstance(text, tuple):
        return " ".join(f"{role}: {content}" for role, content in text)
    return " ".join(text) if isinstance(text, list) else str(text)


def _to_paste_if_readable(key: str, study: str, home: Home) -> str:
    """The same; empty where the run's file was deleted or is of another version."""
    try:
        return _to_paste(key, study, home)
    except (OSError, LookupError, SpecError):
        return ""


def _to_paste(key: str, study: str, home: Home) -> str:
    """The lines of a study file that reproduce a run's configuration; empty without a key."""
    from analysis.frames.load import find_run
    from study.planning.runs import as_written

    return as_written(find_run(key, home.uri, study)["spec"]) if key else ""
