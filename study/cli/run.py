"""Running a study, and who runs it."""

import argparse
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from study.cli import finished
from study.cli.messages import Ending, complain, program, tell_next
from study.cli.progress import duration
from study.core.paths import Home, default_home
from study.core.spec import Invalid, did_you_mean
from study.execution.queue import Progress
from study.planning.runs import Run
from study.planning.study import Study
from study.planning.study_file import load_study, sound, study_named

if TYPE_CHECKING:
    from study.planning.stages import Stages


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
    from study.cli.progress import shown
    from study.execution.runner import Options, check, execute
    from study.planning.stages import Stages
    from study.tracking.store import TROUBLE
    from study.tracking.writer import TrackingWriter

    study, home = sound(given), default_home()
    check(study)
    only: list[str] = arguments.only
    if arguments.dry_run:
        done = finished.finished(study, home)
        stages, seen = Stages(study, finished.scores(done)), finished.seen(done)
        runs, later = _chosen(stages, only), 0 if only else stages.still_to_come()
        missing = _announced(study, stages, runs, seen, arguments, later=later)
        ending = Ending(study.name, len(runs) + later, as_json=arguments.json)
        return ending.nothing_started(missing, later)
    with ExitStack() as held:
        try:
            held.enter_context(home.lease(study.name))
        except OSError as error:
            complain(f"{error}; free space, or name another folder with STUDY_HOME")
            return 1
        try:
            tracking = TrackingWriter(home, study, source)
        except TROUBLE as error:
            return finished.trouble(home.uri, error)
        held.callback(tracking.release)
        stages = tracking.stages
        runs, later = _chosen(stages, only), 0 if only else stages.still_to_come()
        seen = {key: (record.cell, record.seconds) for key, record in tracking.finished.items()}
        missing = _announced(study, stages, runs, seen, arguments, later=later)
        if not missing:
            waiting = tracking.close(0.0)
            return Ending(study.name, len(runs), as_json=arguments.json).nothing_to_run(waiting)
        options = Options(
            source=Path(source),
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
    ending = Ending(study.name, len(runs) + later, as_json=arguments.json)
    tables = partial(_tables, study.name, home)
    return ending.ended(progress, lost=len(lost) + later, waiting=len(held_up), tables=tables)


def status(arguments: argparse.Namespace) -> int:
    """Show a study's cells: mean, sd, interval, n, collapsed, missing."""
    from analysis import cells, cells_table, load_runs, to_text
    from analysis.per_task.search import progress

    home = default_home()
    name = study_named(arguments.study, home)
    runs = load_runs(name, home.uri)
    table = cells(runs)
    if arguments.json:
        print(table.to_json(orient="records"))
        return 0
    print(to_text(cells_table(table)))
    if said := progress(runs):
        print(f"\n{said}")
    holder = home.driver(name)
    if home.shared and not holder:
        from study.tracking.lease import driver  # MLflow takes a second to load

        holder = driver(home, name)
    print(f"\nbeing run by {holder}" if holder else "\nnot running")
    if not holder and (runs["outcome"] == "missing").any():
        print(f"resume:  {program()} run FILE")
    tell_next(name)
    return 0


def stop(arguments: argparse.Namespace) -> int:
    """Ask the driver of a study to stop; it stays resumable."""
    home = default_home()
    name = study_named(arguments.study, home)
    if not home.shared and name not in home.names():
        raise LookupError(f"no study {name!r} in {home.root}. {did_you_mean(name, home.names())}")
    holder = home.ask_to_stop(name)
    if home.shared and not holder:
        from analysis.frames.load import experiment_id
        from analysis.frames.store import StoreUnreachableError
        from study.tracking.lease import ask_to_stop
        from study.tracking.store import TROUBLE

        try:
            with suppress(
                StoreUnreachableError
            ):  # what is wrong with the server is told better below
                experiment_id(name, home.uri)
            holder = ask_to_stop(home, name)
        except TROUBLE as error:
            return finished.trouble(home.uri, error)
    if holder is None:
        print(f"nobody runs study {name!r}")
        return 0
    if not holder.startswith("process"):  # a command that has no runs to stop
        print(f"{holder} has study {name!r}, and ends by itself")
        return 0
    print(f"asked {holder} to stop; runs under way will be done again when the study resumes")
    return 0


def _tables(name: str, home: Home) -> None:
    """Print a study's cells and its best strategies."""
    from analysis import best_strategy, best_strategy_table, cells, cells_table, load_runs, to_text
    from study.tracking.store import TROUBLE, in_brief

    try:
        runs = load_runs(name, home.uri)
    except (LookupError, *TROUBLE) as error:  # the store is away
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
        raise LookupError(f"--only {name}=: no such name. {did_you_mean(name, known)}")
    return known[name] == value


def _announced(
    study: Study,
    stages: "Stages",
    runs: list[Run],
    seen: Mapping[str, tuple[str, float]],
    arguments: argparse.Namespace,
    *,
    later: int,
) -> list[Run]:
    """Say what will be done and how long it should take.

    Args:
        study: All of it.
        stages: The runs that it asks for so far.
        runs: The runs that were asked for.
        seen: Cell key and seconds of every finished run, by its key.
        arguments: Runs at once at most, and the cluster, whose room is not known yet.
        later: Runs at most that searches will ask for on the way.

    Returns:
        The runs that are missing.
    """
    from study.planning.estimate import at_once, expect, total_seconds

    missing = [run for run in runs if run.key not in seen]
    counts = [f"{len(runs) - len(missing)} done", f"{len(missing)} new"]
    if study.tune:
        tuning = sum(stages.stage(run.key) == "tune" for run in missing)
        counts[1] += f" ({tuning} tune, {len(missing) - tuning} final)"
        counts.append(f"at most {later} once more is decided")
    if retired := len(seen.keys() - {run.key for run in stages.runs()}):
        counts.append(f"{retired} no longer in the file (kept in MLflow)")
    text = f"study {study.name}: {', '.join(counts)}"
    if missing:
        seconds: dict[str, list[float]] = {}
        for cell, spent in seen.values():
            seconds.setdefault(cell, []).append(spent)
        expected = expect(stages.cells, seconds, gpus=study.gpus)
        elsewhere = (arguments.address or os.environ.get("RAY_ADDRESS", "local")) != "local"
        together = 1 if elsewhere else at_once(missing, study.gpus, arguments.workers)
        word = "about"
        if any(expected[run.cell.key].basis == "rough" for run in missing):
            word = "roughly"
        work = total_seconds(missing, expected) + (stages.seconds_to_come(expected) if later else 0)
        on = "one worker" if together == 1 else f"{together} workers"
        text += f"; {word} {duration(work / together)} on {on}"
    print(text, file=sys.stderr)
    return missing
