"""What each command does; the only place that joins `study` and `analysis`."""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.home import Home, default_home
from study.spec import Invalid, SpecError, did_you_mean
from study.study import Run, Study


def run(arguments: argparse.Namespace) -> int:
    """Run a study: only what is missing. Ctrl-C leaves it resumable; the same command resumes.

    Finished runs are in MLflow, each exactly once, by a key of everything that decides their
    result. Adding a seed or a technique to the file runs only what is new.
    """
    path = Path(arguments.file)
    return run_study(load_study(path), str(path.resolve()), arguments)


def run_study(given: Study | Invalid, source: str, arguments: argparse.Namespace) -> int:
    """Run what is missing of a study.

    Args:
        given: As the file states it.
        source: The file.
        arguments: Of `study run`.

    Returns:
        The exit code: 1 if any run is missing afterwards.
    """
    from study.display import duration, shown
    from study.feed import Progress
    from study.runner import Options, check, execute
    from study.tracking import TROUBLE, StoreGone, Tracking

    study, home = _sound(given), default_home()
    check(study)
    runs = _chosen(study, arguments.only)
    if arguments.dry_run:
        return _dry_run(study, runs, home, arguments.workers)
    with home.lease(study.name):
        try:
            tracking = Tracking(home, study, source)
        except (StoreGone, *TROUBLE) as error:
            complain(f"MLflow at {home.uri}: {str(error).splitlines()[0]}")
            return 1
        seen = {key: (record.cell, record.seconds) for key, record in tracking.records.items()}
        missing = _announced(study, runs, seen, arguments.workers)
        if not missing:
            tracking.close(0.0)
            _next("nothing to run", study.name)
            return 0
        options = Options(
            address=arguments.address,
            workers=arguments.workers,
            keep_going=arguments.keep_going,
            verbose=arguments.verbose,
        )
        progress = Progress(total=len(runs), finished=len(runs) - len(missing))
        with shown(progress, tracking):
            waiting = execute(missing, tracking, progress, home=home, study=study, options=options)
    lost = sum(run.key not in tracking.records for run in runs) - waiting
    if arguments.json:
        problems = {"problems": progress.problems, "paused": progress.paused}
        counts = {"study": study.name, "runs": len(runs), "missing": lost, "waiting": waiting}
        print(json.dumps(counts | problems))
    else:
        _tables(study.name, home)
    _tell_problems(progress.problems, progress.paused)
    if waiting:
        complain(f"{waiting} finished runs wait in the outbox; the next start sends them.")
    state = "stopped" if progress.stopped else "finished"
    done, work = len(runs) - lost, duration(sum(progress.seconds))
    ending = (
        f"{state}: {done} of {len(runs)} runs done, {work} of work on {progress.workers} workers"
    )
    _next(ending, study.name, resume=source if lost else None)
    return 1 if lost or waiting else 0


def _dry_run(study: Study, runs: list[Run], home: Home, workers: int | None) -> int:
    from analysis import load_runs

    try:
        frame = load_runs(study.name, home.uri)
    except LookupError:  # no store yet, or not this study
        seen: dict[str, tuple[str, float]] = {}
    else:
        done = frame[frame["outcome"] != "missing"]
        seen = dict(zip(done["key"], zip(done["cell"], done["seconds"], strict=True), strict=True))
    for run in _announced(study, runs, seen, workers):
        print(f"  {run.key}  {run.name}")
    print("\nnothing was started")
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Show a study's cells: mean, sd, interval, n, collapsed, missing."""
    from analysis import cells, cells_table, load_runs, to_text

    home = default_home()
    name = _named(arguments.study, home)
    table = cells(load_runs(name, home.uri))
    if arguments.json:
        print(table.to_json(orient="records"))
        return 0
    print(to_text(cells_table(table)))
    holder = home.driver(name)
    print(f"\nbeing run by {holder}" if holder else "\nnot running")
    _next("", name)
    return 0


def stop(arguments: argparse.Namespace) -> int:
    """Ask the driver of a study to stop; it stays resumable."""
    home = default_home()
    name = _named(arguments.study, home)
    holder = home.ask_to_stop(name)
    if holder is None:
        print(f"nobody runs study {name!r}")
        return 0
    print(f"asked {holder} to stop; runs under way will be done again when the study resumes")
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write report.html and the tables of a study as Markdown, CSV and LaTeX."""
    from analysis import load_curves, load_runs, write_report

    home = default_home()
    name = _named(arguments.study, home)
    folder = arguments.out or home.study(name) / "report"
    path = write_report(load_runs(name, home.uri), load_curves(name, home.uri), folder)
    print(f"report: {_near(path)}")
    print(f"tables: {_near(path.parent / 'tables')}")
    print(f"browse: {_program()} ui {name}")
    return 0


def listing(arguments: argparse.Namespace) -> int:
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
            {"name": name, "purpose": _ranges({**space.technique, **space.recipe})}
            for name, space in SPACES.items()
        ]
    from analysis.load import studies

    return [{"name": name, "purpose": ""} for name in studies(default_home().uri)]


def _ranges(distributions: Mapping[str, Any]) -> str:
    parts = []
    for name, distribution in distributions.items():
        choices = getattr(distribution, "choices", None)
        if choices is None:
            scale = ", log" if distribution.log else ""
            parts.append(f"{name} {distribution.low:g} to {distribution.high:g}{scale}")
        else:
            parts.append(f"{name} in {', '.join(map(str, choices))}")
    return "; ".join(parts)


def _described(name: str, text: str) -> dict[str, str]:
    brief, _, rest = text.partition("\n")
    source = rest.partition("Source:")[2].partition("Differs:")[0]
    return {"name": name, "purpose": brief, "source": " ".join(source.split())}


def show(arguments: argparse.Namespace) -> int:
    """Show one run: what it was, its scores, where its artifacts are."""
    from analysis.load import find_run

    found = find_run(arguments.key, default_home().uri)
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value)
        print(f"{name:<20} {text}")
    print(f"\nnext: {_program()} export {found['key']} --out FOLDER    the trained model")
    return 0


def plan(arguments: argparse.Namespace) -> int:
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
        each = expected[cell.key]
        took, size = duration(each.seconds), f"{each.memory / 1e9:.1f} GB"
        print(f"  {cell.name:<50} {took:>8} a run, {size} ({each.basis})")
    print(f"\n{duration(total)} on one worker, {duration(total / workers)} on {workers}")
    if seeds is not None:
        print(
            f"{seeds} seeds per cell to see a difference of {arguments.detect:g} at sd {sd:.3g} "
            "(two-sided 5 %, power 80 %)"
        )
    print(f"\nnext: {_program()} run {arguments.file}")
    return 0


def ui(arguments: argparse.Namespace) -> int:
    """Open the MLflow UI on the store, at a study's cells; on this machine only."""
    home = default_home()
    page = f"http://127.0.0.1:{arguments.port}/"
    if home.uri.startswith("http"):
        print(f"the store has a server: {home.uri}")
        return 0
    name = _named(arguments.study, home)
    experiment = _experiment(name, home)
    print(f"cells: {page}#/experiments/{experiment}/runs?viewStateShareKey=cells")
    print("end it with Ctrl-C")
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", home.uri]
    local = ["--default-artifact-root", home.artifacts.as_uri(), "--host", "127.0.0.1"]
    try:
        return subprocess.call([*server, *local, "--port", str(arguments.port), "--workers", "1"])
    except KeyboardInterrupt:
        return 0


def export(arguments: argparse.Namespace) -> int:
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


def complain(text: object) -> None:
    """Say something that is not the answer."""
    print(text, file=sys.stderr)


# --- helpers ----------------------------------------------------------------------------------


def load_study(path: Path) -> Study | Invalid:
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
    try:
        described.loader.exec_module(module)
    except (SpecError, LookupError):
        raise
    except Exception as error:  # whatever a user's file can raise; the place is what they need
        places = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = places[-1].lineno if places else getattr(error, "lineno", "?")
        told = f"{path.name}, line {line}: {type(error).__name__}: {error}"
        raise LookupError(told) from error
    found = [v for v in vars(module).values() if isinstance(v, Study)]
    wrong = [v for v in vars(module).values() if isinstance(v, Invalid)]
    if isinstance(stated := getattr(module, "STUDY", None), Study | Invalid):
        return stated
    if len(found) == 1:
        return found[0]
    if wrong:
        return wrong[-1]
    raise LookupError(f"{str(path)!r} states no study: it needs `STUDY = Study(...)`")


def _sound(given: Study | Invalid) -> Study:
    if isinstance(given, Invalid):
        raise given.error
    return given


def _chosen(study: Study, only: list[str]) -> list[Run]:
    runs = study.runs()
    for wish in only:
        name, equals, value = wish.partition("=")
        runs = [run for run in runs if _matches(run, name, value if equals else None)]
    if not runs:
        raise LookupError(f"no run matches --only {' --only '.join(only)}")
    return runs


def _matches(run: Run, name: str, value: str | None) -> bool:
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


def _announced(
    study: Study, runs: list[Run], seen: Mapping[str, tuple[str, float]], workers: int | None
) -> list[Run]:
    """Say what will be done and how long it should take.

    Args:
        study: All of it.
        runs: The runs that were asked for.
        seen: Cell key and seconds of every finished run, by its key.
        workers: Runs at once at most.

    Returns:
        The runs that are missing.
    """
    from study.display import duration
    from study.plan import expect, total_seconds

    missing = [run for run in runs if run.key not in seen]
    counts = [f"{len(runs) - len(missing)} done", f"{len(missing)} new"]
    if retired := len(seen.keys() - {run.key for run in study.runs()}):
        counts.append(f"{retired} no longer in the file (kept in MLflow)")
    text = f"study {study.name}: {', '.join(counts)}"
    if missing:
        seconds: dict[str, list[float]] = {}
        for cell, spent in seen.values():
            seconds.setdefault(cell, []).append(spent)
        expected = expect(study.cells(), seconds, gpus=study.gpus)
        cores = os.cpu_count() or 1
        at_once = min(workers or cores, cores, len(missing))
        word = "about"
        if any(expected[run.cell.key].basis == "rough" for run in missing):
            word = "roughly"
        left = duration(total_seconds(missing, expected) / at_once)
        text += f"; {word} {left} on {at_once} workers"
    print(text, file=sys.stderr)
    return missing


def _tables(name: str, home: Home) -> None:
    from analysis import best_strategy, best_strategy_table, cells, cells_table, load_runs, to_text

    runs = load_runs(name, home.uri)
    if (runs["outcome"] == "missing").all():
        return
    print(to_text(cells_table(cells(runs))))
    print()
    print(to_text(best_strategy_table(best_strategy(runs))))


def _tell_problems(problems: dict[str, str], paused: list[str]) -> None:
    for name, reason in list(problems.items())[:10]:
        complain(f"missing {name}: {reason}")
    if len(problems) > 10:
        complain(f"and {len(problems) - 10} more missing runs")
    for name in paused:
        complain(f"paused {name}: the same error in its first runs; --keep-going does not pause")


def _next(ending: str, name: str, resume: str | None = None) -> None:
    if ending:
        print(f"\n{ending}")
    if resume:
        print(f"resume:  {_program()} run {_near(Path(resume))}")
    for word, command in (("cells", "status"), ("report", "report"), ("browse", "ui")):
        print(f"{word + ':':<8} {_program()} {command} {name}")


def _program() -> str:
    """What to type for this program: its name where the shell finds it, else its path."""
    beside = Path(sys.executable).parent / "study"
    found = shutil.which("study")
    return "study" if found or not beside.exists() else _near(beside)


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


def _seen(study: Study, home: Home) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of finished runs by cell, and the sds over seeds of the dev score."""
    from analysis import load_runs

    try:
        runs = load_runs(study.name, home.uri)
    except LookupError:
        return {}, []
    done = runs[runs["outcome"] == "completed"]
    seconds = {str(cell): list(part["seconds"]) for cell, part in done.groupby("cell")}
    return seconds, [float(sd) for sd in done.groupby("cell")["dev"].std().dropna()]


def _trusted_run(arguments: argparse.Namespace) -> Run:
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
