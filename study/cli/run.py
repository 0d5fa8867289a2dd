"""Run a study: `study run FILE`, `main` in a study file, and `run` in Python."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from study.cli import finished
from study.cli.arguments import Commands, add_json, count
from study.cli.messages import Ending, Took, complain, exit_code, print_anywhere
from study.cli.progress import span_text
from study.core.paths import Home, default_home
from study.core.spec import Invalid, did_you_mean
from study.execution.queue import Progress
from study.planning.runs import Run, outdated, outdated_text
from study.planning.study import Study
from study.planning.study_file import (
    beside,
    check_names,
    find_study_file,
    folder_of,
    load_study,
    started,
    valid_study,
)

if TYPE_CHECKING:
    from study.planning.stages import Stages

NAMED = 5  # cells that a message names; of the others it gives the number


def add_commands(commands: Commands) -> None:
    """Add `study run`."""
    parser = commands.add("run", run_file)
    parser.add_argument(
        "file", help="study file, or the name of a bundled design, such as quickstart"
    )
    add_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `study run`."""
    parser.add_argument(
        "--dry-run", action="store_true", help="list the missing runs without starting them"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="KEY|NAME=VALUE",
        help="only these runs: key, or task=, model=, technique=, configuration=, stage= or seed=; "
        "may be repeated; all must match",
    )
    parser.add_argument(
        "--address",
        help="Ray cluster; default: one that `ray start` started on this machine, else one of its "
        "own, which no other study uses",
    )
    parser.add_argument(
        "--workers", type=count, help="maximum concurrent runs; default: as many as fit"
    )
    parser.add_argument(
        "--keep-going", action="store_true", help="do not pause cells whose runs keep failing"
    )
    parser.add_argument("--verbose", action="store_true", help="show Ray's messages")
    add_json(parser, "print the result as JSON")


def main(study: Study | Invalid) -> None:
    """Command line of a study file: `python FILE` does the same as `study run FILE`."""
    parser = argparse.ArgumentParser(prog=f"python {sys.argv[0]}", description=run_file.__doc__)
    add_arguments(parser)
    arguments = parser.parse_args()
    sys.exit(exit_code(lambda: run_study(study, started(), arguments)))


def run(study: Study, *, workers: int | None = None) -> bool:
    """Run the missing runs of a study, from a script or a notebook.

    Args:
        study: The study.
        workers: Maximum number of concurrent runs; None uses as many as fit.

    Returns:
        Whether the study is complete afterwards.

    Raises:
        SpecError: With all mistakes in the study.
        ValueError: If `workers` is not a positive integer.
    """
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers={workers!r} is not a positive integer; None uses as many as fit")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args([])
    arguments.workers = workers
    return run_study(study, started(), arguments) == 0


def run_file(arguments: argparse.Namespace) -> int:
    """Run the missing runs of a study; after Ctrl-C the same command resumes it.

    Each finished run is in MLflow exactly once, under a key made of everything that determines its
    result. Adding a seed or a technique to the file therefore runs only what is new.
    """
    path = find_study_file(arguments.file)
    return run_study(load_study(path), path.resolve(), arguments)


def run_study(given: Study | Invalid, source: Path | None, arguments: argparse.Namespace) -> int:
    """Run the missing runs of a study.

    Args:
        given: The study as the file defines it, with or without mistakes.
        source: The study file; None in a notebook.
        arguments: The parsed options of `study run`.

    Returns:
        The exit code: 1 if any run is missing afterwards.
    """
    from study.cli.progress import shown
    from study.execution.runner import Options, check, execute
    from study.planning.notes import data_lines, notes
    from study.planning.stages import Stages
    from study.tracking.store import TROUBLE
    from study.tracking.writer import TrackingWriter

    if source:
        check_names(source.resolve().parent)
    print_anywhere()
    study, home = valid_study(beside(given, source)), default_home()
    # A dry run leaves no folder, but uses one that is there.
    encoded = home.encoded if home.root.is_dir() or not arguments.dry_run else None
    check(study, encoded)
    for note in notes(study, encoded):
        complain(f"note: {note}")
    only: list[str] = arguments.only
    if arguments.dry_run:
        print("\n".join(data_lines(study)), file=sys.stderr)
        done = finished.finished(study, home)
        stages, seen = Stages(study, finished.scores(done)), finished.seen(done)
        runs, later = _chosen(stages, only), 0 if only else stages.still_to_come()
        missing, _ = _announced(study, stages, runs, seen, arguments, later=later)
        ending = Ending(study.name, len(runs) + later, as_json=arguments.json)
        return ending.nothing_started(missing, later)
    with ExitStack() as held:
        try:
            held.enter_context(home.lock(study.name).held())
        except OSError as error:
            complain(f"{error}; free disk space, or set STUDY_HOME to another folder")
            return 1
        try:
            tracking = TrackingWriter(home, study, source)
        except TROUBLE as error:
            return finished.trouble(home.uri, error)
        held.callback(tracking.release)
        stages = tracking.stages
        runs, later = _chosen(stages, only), 0 if only else stages.still_to_come()
        seen = {
            key: finished.Seen(record.cell, record.seconds, record.name)
            for key, record in tracking.finished.items()
        }
        missing, estimate = _announced(study, stages, runs, seen, arguments, later=later)
        began = time.monotonic()
        if not missing:
            waiting = tracking.close(0.0)
            return Ending(study.name, len(runs), as_json=arguments.json).nothing_to_run(waiting)
        options = Options(
            folder=folder_of(source),
            address=arguments.address,
            workers=arguments.workers,
            keep_going=arguments.keep_going,
            verbose=arguments.verbose,
        )
        progress = Progress(total=len(runs) + later, finished=len(runs) - len(missing))
        wanted = (lambda run: _wanted(run, stages, only)) if only else None
        with shown(progress, tracking):
            execute(
                missing,
                tracking,
                progress,
                home=home,
                study=study,
                options=options,
                wanted=wanted,
            )
        runs, later = _chosen(stages, only), 0 if only else stages.still_to_come()
        held_up = {*(tracking.waiting or [])} & {run.key for run in runs}
        lost = [run for run in runs if run.key not in tracking.finished.keys() | held_up]
    took = Took(time.monotonic() - began, estimate)
    ending = Ending(study.name, len(runs) + later, as_json=arguments.json)
    tables = partial(_tables, study.name, home)
    return ending.ended(
        progress, lost=len(lost) + later, waiting=len(held_up), took=took, tables=tables
    )


def _tables(name: str, home: Home) -> None:
    """Print a study's cells and its best strategies."""
    from analysis import best_strategy, best_strategy_table, cells, cells_table, load_runs, to_text
    from study.tracking.store import TROUBLE, in_brief

    try:
        runs = load_runs(name, home.uri)
    except (LookupError, *TROUBLE) as error:  # the store cannot be reached
        complain(in_brief(error))
        return
    if (runs["outcome"] == "missing").all():
        return
    print(to_text(cells_table(cells(runs))))
    print()
    print(to_text(best_strategy_table(best_strategy(runs))))


def _chosen(stages: "Stages", only: list[str]) -> list[Run]:
    runs = [run for run in stages.runs() if _wanted(run, stages, only)]
    if not runs:
        raise LookupError(f"no run matches --only {' --only '.join(only)}")
    return runs


def _wanted(run: Run, stages: "Stages", only: list[str]) -> bool:
    wishes = [wish.partition("=") for wish in only]
    return all(
        _matches(run, stages.stage(run.key), name, value=value if equals else None)
        for name, equals, value in wishes
    )


def _matches(run: Run, stage: str, name: str, *, value: str | None) -> bool:
    if value is None:
        return run.key.startswith(name)
    cell = run.cell
    known = {
        "task": cell.task.name,
        "model": cell.model.name,
        "technique": cell.technique.title,
        "configuration": cell.label,
        "stage": stage,
        "seed": run.seed.label.removeprefix("s"),
    }
    if name not in known:
        raise LookupError(f"--only {name}=: no such condition. {did_you_mean(name, known)}")
    return known[name] == value


def _announced(
    study: Study,
    stages: "Stages",
    runs: list[Run],
    seen: Mapping[str, finished.Seen],
    arguments: argparse.Namespace,
    *,
    later: int,
) -> tuple[list[Run], str]:
    """Print what will run and the estimated time.

    Args:
        study: The whole study.
        stages: Its stages, with the runs that are known so far.
        runs: The requested runs.
        seen: The finished runs, by key.
        arguments: The parsed options; on a cluster the number of workers is not known yet.
        later: Maximum number of runs that searches will add.

    Returns:
        The requested runs that are missing, and the estimated time as text; empty without them.
    """
    from study.planning.estimate import START_SECONDS, estimate_runs, max_concurrent, total_seconds

    missing = [run for run in runs if run.key not in seen]
    counts = [f"{len(runs) - len(missing)} done", f"{len(missing)} new"]
    if study.tune:
        tuning = sum(stages.stage(run.key) == "tune" for run in missing)
        counts[1] += f" ({tuning} tune, {len(missing) - tuning} final)"
        counts.append(f"at most {later} more after selection")
    text, estimate = f"study {study.name}: {', '.join(counts)}", ""
    if missing:
        seconds: dict[str, list[float]] = {}
        for each in seen.values():
            seconds.setdefault(each.cell, []).append(each.seconds)
        expected = estimate_runs(stages.cells, seconds, gpus=study.gpus)
        elsewhere = (arguments.address or os.environ.get("RAY_ADDRESS", "local")) != "local"
        together = 1 if elsewhere else max_concurrent(missing, study.gpus, arguments.workers)
        work = total_seconds(missing, expected) + (stages.seconds_to_come(expected) if later else 0)
        on = "one worker" if together == 1 else f"{together} workers"
        rough = any(expected[run.cell.key].basis == "rough" for run in missing)
        estimate = span_text(START_SECONDS + work / together, rough=rough)
        text += f"; {estimate} on {on}"
        if rough and (load := os.getloadavg()[0]) > (os.cpu_count() or 1):
            text += f" (this machine is busy, load {load:.1f}, which counts for now)"
    print(text, file=sys.stderr)
    kept = {run.key for run in stages.runs()}
    if retired := [each.name for key, each in seen.items() if key not in kept]:
        print(_retired_text(retired), file=sys.stderr)
    if old := outdated(stages.cells, {each.cell for each in seen.values()}):
        complain(outdated_text(old))
    return missing, estimate


def _retired_text(names: list[str]) -> str:
    """What is set aside since the file changed: names of runs, counted by cell."""
    cells = Counter(name.rpartition("/")[0] for name in names)
    named = [f"{cell} ({count})" for cell, count in sorted(cells.items())]
    more = f" and {len(named) - NAMED} more cells" if len(named) > NAMED else ""
    runs = "1 run is" if len(names) == 1 else f"{len(names)} runs are"
    return f"{runs} no longer in the file, and kept in MLflow: {', '.join(named[:NAMED])}{more}"
