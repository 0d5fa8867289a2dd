"""The command line: it alone joins `study` and `analysis`."""

import argparse
import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.home import Held, Home, default_home
from study.spec import Invalid, SpecError, did_you_mean

if TYPE_CHECKING:
    from study.runner import Options
    from study.study import Run, Study

EPILOG = """first steps:
  study run study/designs/quickstart.py     run a study; the same again resumes it
  study status                              its cells: mean, sd, interval, missing
  study report quickstart                   report.html, and the tables as files
  study ui                                  browse every run in MLflow

exit codes: 0 done, 1 runs are missing or something failed, 2 the input is wrong"""


def main(study: "Study | Invalid") -> None:
    """What a study file calls: `python FILE` does the same as `study run FILE`."""
    source = os.path.abspath(sys.argv[0])
    parser = argparse.ArgumentParser(prog=f"python {sys.argv[0]}", description=_run.__doc__)
    _run_arguments(parser)
    arguments = parser.parse_args()
    sys.exit(_guarded(lambda: _run_study(study, source, arguments)))


def command() -> None:
    """What `study` on the command line calls."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(words: Sequence[str]) -> int:
    """Carry out one command.

    Args:
        words: The command line without the program's name.

    Returns:
        The exit code.
    """
    arguments = _parser().parse_args(words)
    return _guarded(lambda: arguments.action(arguments))


def _guarded(action: Callable[[], int]) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        return action()
    except SpecError as error:
        _complain(error)
        return 2
    except LookupError as error:
        _complain(error.args[0] if error.args else error)
        return 2
    except Held as error:
        _complain(f"{error}. Wait for it, or end it with: study stop")
        return 1
    except KeyboardInterrupt:
        _complain("Stopped before anything was started.")
        return 130
    except BrokenPipeError:  # `study list techniques | head`
        sys.stderr.close()
        return 0


def _complain(text: object) -> None:
    print(text, file=sys.stderr)


# --- arguments --------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="study",
        description="Which way of fine-tuning can you trust? Studies over seeds and techniques.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, action: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        text = (action.__doc__ or "").strip()
        brief = text.splitlines()[0].rstrip(".")
        made = commands.add_parser(
            name,
            help=brief[:1].lower() + brief[1:],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(action=action)
        return made

    run = add("run", _run)
    run.add_argument("file", help="a study file")
    _run_arguments(run)
    for name, action in (("status", _status), ("stop", _stop), ("report", _report)):
        part = add(name, action)
        part.add_argument(
            "study", nargs="?", help="a study's name or its file; not needed where there is one"
        )
        if name == "status":
            part.add_argument("--json", action="store_true", help="the cells as JSON")
        if name == "report":
            part.add_argument("--out", type=Path, help="folder for the report and its tables")
    listing = add("list", _list)
    listing.add_argument("what", choices=["techniques", "tasks", "models", "spaces", "studies"])
    listing.add_argument("--json", action="store_true", help="as JSON")
    show = add("show", _show)
    show.add_argument("key", help="a run's key, or its first digits")
    show.add_argument("--json", action="store_true", help="as JSON")
    plan = add("plan", _plan)
    plan.add_argument("file", help="a study file")
    plan.add_argument("--workers", type=int, default=None, help="runs at once; default: all cores")
    plan.add_argument(
        "--detect", type=float, metavar="D", help="a difference of means that must not be missed"
    )
    plan.add_argument("--sd", type=float, help="sd over seeds; default: of this study's runs")
    plan.add_argument("--json", action="store_true", help="as JSON")
    ui = add("ui", _ui)
    ui.add_argument("study", nargs="?", help="the study to open")
    ui.add_argument("--port", type=int, default=5000, help="default: 5000")
    export = add("export", _export)
    export.add_argument("key", help="a run's key")
    export.add_argument("--out", type=Path, required=True, help="folder for the trained model")
    export.add_argument(
        "--file", help="the study file; needed where the run uses your own technique or task"
    )
    return parser


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="KEY|NAME=VALUE",
        help="only these runs: a key, or task=, model=, technique=, configuration=, seed=",
    )
    parser.add_argument("--address", help="a Ray cluster; default: the one here, or a new one")
    parser.add_argument("--workers", type=int, help="runs at once at most; default: all that fit")
    parser.add_argument(
        "--keep-going", action="store_true", help="do not pause cells that fail again and again"
    )
    parser.add_argument("--verbose", action="store_true", help="show Ray's own messages")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")


# --- commands ---------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    """Run a study: only what is missing. Ctrl-C leaves it resumable; the same command resumes.

    Finished runs are in MLflow, each exactly once, by a key of everything that decides their
    result. Adding a seed or a technique to the file runs only what is new.
    """
    path = Path(arguments.file)
    return _run_study(load_study(path), str(path.resolve()), arguments)


def _run_study(given: "Study | Invalid", source: str, arguments: argparse.Namespace) -> int:
    from study.display import duration, shown
    from study.feed import Progress
    from study.runner import Options, check, execute
    from study.tracking import StoreGone, Tracking

    study = _sound(given)
    check(study)
    home = default_home()
    runs = _chosen(study, arguments.only)
    with home.lease(study.name):
        try:
            tracking = Tracking(home, study, source)
        except StoreGone as error:
            _complain(error)
            return 1
        missing = [run for run in runs if run.key not in tracking.records]
        options = Options(
            address=arguments.address,
            workers=arguments.workers,
            keep_going=arguments.keep_going,
            verbose=arguments.verbose,
        )
        _announce(study, runs, missing, tracking, options)
        if arguments.dry_run or not missing:
            for run in missing:
                print(f"  {run.key}  {run.name}")
            tracking.close(0.0)
            _next("nothing to run" if not missing else "nothing was started", study.name)
            return 0
        progress = Progress(total=len(runs), finished=len(runs) - len(missing))
        with shown(progress, tracking):
            waiting = execute(missing, tracking, progress, home=home, study=study, options=options)
    lost = sum(run.key not in tracking.records for run in runs) - waiting
    if arguments.json:
        print(
            json.dumps(
                {
                    "study": study.name,
                    "runs": len(runs),
                    "missing": lost,
                    "waiting": waiting,
                    "problems": progress.problems,
                    "paused": progress.paused,
                }
            )
        )
    else:
        _tables(study.name, home)
    _tell_problems(progress.problems, progress.paused)
    if waiting:
        _complain(f"{waiting} finished runs wait in the outbox; the next start sends them.")
    state = "stopped" if progress.stopped else "finished"
    seconds = sum(progress.seconds)
    ending = f"{state}: {len(runs) - lost} of {len(runs)} runs, {duration(seconds)} of work"
    _next(ending, study.name, resume=source if lost else None)
    return 1 if lost or waiting else 0


def _status(arguments: argparse.Namespace) -> int:
    """Show a study's cells: mean, sd, interval, n, collapsed, missing."""
    from analysis import cells, load_runs, to_text

    home = default_home()
    name = _named(arguments.study, home)
    table = cells(load_runs(name, home.uri))
    if arguments.json:
        print(table.to_json(orient="records"))
        return 0
    print(to_text(table))
    holder = home.driver(name)
    print(f"\nbeing run by {holder}" if holder else "\nnot running")
    _next("", name)
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    """Ask the driver of a study to stop; it stays resumable."""
    home = default_home()
    name = _named(arguments.study, home)
    holder = home.ask_to_stop(name)
    if holder is None:
        print(f"nobody runs study {name!r}")
        return 0
    print(f"asked {holder} to stop; runs under way will be done again when the study resumes")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    """Write report.html and the tables of a study as Markdown, CSV and LaTeX."""
    from analysis import load_curves, load_runs, write_report

    home = default_home()
    name = _named(arguments.study, home)
    folder = arguments.out or home.study(name) / "report"
    path = write_report(load_runs(name, home.uri), load_curves(name, home.uri), folder)
    print(f"report: {_near(path)}")
    print(f"tables: {_near(path.parent / 'tables')}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    """List the techniques, tasks, models, search spaces, or the studies in the store."""
    rows = _listed(arguments.what)
    if arguments.json:
        print(json.dumps(rows))
        return 0
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['purpose']}")
        if row.get("source"):
            print(f"{'':<{width}}  Source: {row['source']}")
    return 0


def _listed(what: str) -> list[dict[str, str]]:
    if what == "techniques":
        from study.techniques import TECHNIQUES

        return [_described(name, kind.__doc__ or "") for name, kind in TECHNIQUES.items()]
    if what == "tasks":
        from study.tasks import TASKS

        return [
            {"name": name, "purpose": f"{t.kind}, {t.metric}", "source": t.source}
            for name, t in TASKS.items()
        ]
    if what == "models":
        from study.models import MODELS, describe

        return [
            {"name": name, "purpose": ", ".join(describe(m).values()), "source": m.source}
            for name, m in MODELS.items()
        ]
    if what == "spaces":
        from search_spaces import SPACES

        return [
            {"name": name, "purpose": space.describe(), "source": space.source}
            for name, space in SPACES.items()
        ]
    from analysis.load import studies

    return [{"name": name, "purpose": ""} for name in studies(default_home().uri)]


def _described(name: str, text: str) -> dict[str, str]:
    brief, _, rest = text.partition("\n")
    source = rest.partition("Source:")[2].partition("Differs:")[0]
    return {"name": name, "purpose": brief, "source": " ".join(source.split())}


def _show(arguments: argparse.Namespace) -> int:
    """Show one run: what it was, its scores, where its artifacts are."""
    from analysis.load import find_run

    found = find_run(arguments.key, default_home().uri)
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value)
        print(f"{name:<20} {text}")
    print(f"\nnext: study export {found['key']} --out FOLDER    the trained model")
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    """Say what a study will take: runs, hours, memory, and the seeds a difference needs."""
    from analysis.planning import seeds_for_difference
    from study.display import duration
    from study.plan import expect, total_seconds
    from study.runner import check

    study = _sound(load_study(Path(arguments.file)))
    check(study)
    seen, sds = _seen(study, default_home())
    runs = study.runs()
    expected = expect(study.cells(), seen, gpus=study.gpus)
    workers = arguments.workers or os.cpu_count() or 1
    total = total_seconds(runs, expected)
    sd = arguments.sd or (max(sds) if sds else None)
    seeds = None
    if arguments.detect is not None:
        if sd is None:
            raise LookupError("--detect needs --sd: this study has no cell with two runs yet")
        seeds = seeds_for_difference(arguments.detect, sd)
    if arguments.json:
        cells = {c.name: vars(expected[c.key]) for c in study.cells()}
        print(json.dumps({"runs": len(runs), "seconds": total, "cells": cells, "seeds": seeds}))
        return 0
    print(f"{len(runs)} runs: {len(study.cells())} cells x {len(study.each_seed())} seeds\n")
    for cell in study.cells():
        e = expected[cell.key]
        print(
            f"  {cell.name:<50} {duration(e.seconds):>8} a run, {e.memory / 1e9:4.1f} GB ({e.basis})"
        )
    print(f"\n{duration(total)} on one worker, {duration(total / workers)} on {workers}")
    if seeds is not None:
        print(
            f"{seeds} seeds per cell to see a difference of {arguments.detect:g} at sd {sd:.3g} "
            "(two-sided 5 %, power 80 %)"
        )
    print(f"\nnext: study run {arguments.file}")
    return 0


def _ui(arguments: argparse.Namespace) -> int:
    """Open the MLflow UI on the store, at a study's cells; on this machine only."""
    home = default_home()
    page = f"http://127.0.0.1:{arguments.port}/"
    if home.uri.startswith("http"):
        print(f"the store has a server: {home.uri}")
        return 0
    name = _named(arguments.study, home)
    experiment = _experiment(name, home)
    shown = "searchFilter=tags.kind%20%3D%20%22cell%22&orderByKey=metrics.%60dev_mean%60"
    print(f"cells: {page}#/experiments/{experiment}/runs?{shown}&orderByAsc=false")
    print("end it with Ctrl-C")
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", home.uri]
    local = ["--default-artifact-root", home.artifacts.as_uri(), "--host", "127.0.0.1"]
    try:
        return subprocess.call([*server, *local, "--port", str(arguments.port), "--workers", "1"])
    except KeyboardInterrupt:
        return 0


def _export(arguments: argparse.Namespace) -> int:
    """Train a run again, bit for bit, and save the model as `transformers` loads it."""
    from analysis.load import find_run
    from study.export import export

    run = _trusted_run(arguments)
    print(f"training {run.name} again")
    outcome = export(run, arguments.out)
    before = find_run(run.key, default_home().uri)["metrics"].get("test")
    same = before == outcome.test
    told = "the same" if same else f"NOT the {before} "
    print(f"test score {outcome.test:.6f}, {told} as when the study ran it")
    print(f"model: {_near(arguments.out)}")
    return 0 if same else 1


# --- helpers ----------------------------------------------------------------------------------


def load_study(path: Path) -> "Study | Invalid":
    """The study that a file states, with or without mistakes.

    Raises:
        LookupError: If there is no such file, or no study in it.
    """
    from study.study import Study

    if not path.is_file():
        raise LookupError(f"no study file {str(path)!r}")
    sys.path.insert(0, str(path.resolve().parent))  # a module of the user's own lies beside it
    name = f"study_file_{path.stem}".replace("-", "_")
    described = importlib.util.spec_from_file_location(name, path)
    if described is None or described.loader is None:
        raise LookupError(f"{str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    found = [v for v in vars(module).values() if isinstance(v, Study)]
    wrong = [v for v in vars(module).values() if isinstance(v, Invalid)]
    if isinstance(stated := getattr(module, "STUDY", None), Study | Invalid):
        return stated
    if len(found) == 1:
        return found[0]
    if wrong:
        return wrong[-1]
    raise LookupError(f"{str(path)!r} states no study: it needs `STUDY = Study(...)`")


def _sound(given: "Study | Invalid") -> "Study":
    if isinstance(given, Invalid):
        raise given.error
    return given


def _chosen(study: "Study", only: list[str]) -> "list[Run]":
    runs = study.runs()
    for wish in only:
        name, equals, value = wish.partition("=")
        runs = [run for run in runs if _matches(run, name, value if equals else None)]
    if not runs:
        raise LookupError(f"no run matches --only {' --only '.join(only)}")
    return runs


def _matches(run: "Run", name: str, value: str | None) -> bool:
    if value is None:
        return run.key.startswith(name)
    cell = run.cell
    known = {
        "task": cell.task.name,
        "model": cell.model.name,
        "technique": cell.technique.title,
        "configuration": cell.label,
        "seed": run.seed.label.removeprefix("s"),
    }
    if name not in known:
        raise LookupError(f"--only {name}=: no such name. {did_you_mean(name, known)}")
    return known[name] == value


def _announce(
    study: "Study", runs: "list[Run]", missing: "list[Run]", tracking: Any, options: "Options"
) -> None:
    from study.display import duration
    from study.plan import expect, total_seconds

    wanted = {run.key for run in study.runs()}
    retired = sum(key not in wanted for key in tracking.records)
    counts = [f"{len(runs) - len(missing)} done", f"{len(missing)} new"]
    if retired:
        counts.append(f"{retired} no longer in the file (kept in MLflow)")
    text = f"study {study.name}: {', '.join(counts)}"
    if missing:
        seen: dict[str, list[float]] = {}
        for record in tracking.records.values():
            seen.setdefault(record.cell, []).append(record.seconds)
        expected = expect(study.cells(), seen, gpus=study.gpus)
        seconds = total_seconds(missing, expected)
        cores = os.cpu_count() or 1
        workers = min(options.workers or cores, cores, len(missing))
        rough = any(expected[run.cell.key].basis == "rough" for run in missing)
        text += f"; {'roughly' if rough else 'about'} {duration(seconds / workers)} on {workers} workers"
    print(text, file=sys.stderr)


def _tables(name: str, home: Home) -> None:
    from analysis import best_strategy, cells, load_runs, to_text

    runs = load_runs(name, home.uri)
    if (runs["outcome"] == "missing").all():
        return
    print(to_text(cells(runs)))
    print()
    print(to_text(best_strategy(runs)))


def _tell_problems(problems: dict[str, str], paused: list[str]) -> None:
    for name, reason in list(problems.items())[:10]:
        _complain(f"missing {name}: {reason}")
    if len(problems) > 10:
        _complain(f"and {len(problems) - 10} more missing runs")
    for name in paused:
        _complain(f"paused {name}: the same error in its first runs; --keep-going does not pause")


def _next(ending: str, name: str, resume: str | None = None) -> None:
    if ending:
        print(f"\n{ending}")
    if resume:
        print(f"resume:  study run {_near(Path(resume))}")
    print(f"cells:   study status {name}")
    print(f"report:  study report {name}")
    print(f"browse:  study ui {name}")


def _named(given: str | None, home: Home) -> str:
    if given is not None and given.endswith(".py"):
        return _sound(load_study(Path(given))).name
    if given is not None:
        return given
    names = home.names()
    if len(names) != 1:
        there = f"there are {', '.join(names)}" if names else f"there is none in {home.root}"
        raise LookupError(f"which study? {there}")
    return names[0]


def _near(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _seen(study: "Study", home: Home) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of finished runs by cell, and the sds over seeds of the dev score."""
    from analysis import load_runs

    try:
        runs = load_runs(study.name, home.uri)
    except LookupError:
        return {}, []
    done = runs[runs["outcome"] == "completed"]
    seconds = {cell: list(part["seconds"]) for cell, part in done.groupby("cell")}
    return seconds, [float(sd) for sd in done.groupby("cell")["dev"].std().dropna()]


def _trusted_run(arguments: argparse.Namespace) -> "Run":
    """The run to export: from the user's own file, or from the store if it names built-ins only."""
    from analysis.load import find_run
    from study.study import own_code, run_from

    if arguments.file:
        study = _sound(load_study(Path(arguments.file)))
        for run in study.runs():
            if run.key.startswith(arguments.key):
                return run
        raise LookupError(f"no run {arguments.key!r} in {arguments.file}")
    spec = find_run(arguments.key, default_home().uri)["spec"]
    if names := own_code(spec):
        text = f"the run uses {', '.join(names)}, code of your own; name its study file with --file"
        raise LookupError(text)
    return run_from(spec)


def _experiment(name: str, home: Home) -> str:
    from analysis.load import experiment_id

    return experiment_id(name, home.uri)
