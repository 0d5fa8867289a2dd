"""`study status` and `study stop`: results so far, the running driver, a request to stop."""

import argparse
from contextlib import suppress

from study.cli import finished
from study.cli.arguments import Commands, add_json, add_study
from study.cli.messages import complain, program, tell_next
from study.core.paths import default_home
from study.core.spec import did_you_mean
from study.planning.study_file import resolve_study_name, study_in


def add_commands(commands: Commands) -> None:
    """Add `study status` and `study stop`."""
    parser = commands.add("status", status)
    add_study(parser)
    add_json(parser, "print the cells as JSON")
    add_study(commands.add("stop", stop))


def status(arguments: argparse.Namespace) -> int:
    """Show the cells of a study: mean, sd, confidence interval, n, collapsed, missing."""
    from analysis import cells, cells_table, load_runs, to_text
    from analysis.per_task.search import progress

    home = default_home()
    study = study_in(arguments.study)  # runs the file, once
    name = study.name if study else resolve_study_name(arguments.study, home)
    runs = load_runs(name, home.uri)
    table = cells(runs)
    if note := finished.correction_note(study, home):
        complain(note)
    if arguments.json:
        print(table.to_json(orient="records"))
        return 0
    print(to_text(cells_table(table)))
    if text := progress(runs):
        print(f"\n{text}")
    holder = home.lock(name).driver()
    if home.shared and not holder:
        from study.tracking.lease import driver  # MLflow takes a second to load

        holder = driver(home, name)
    print(f"\nbeing run by {holder}" if holder else "\nnot running")
    if not holder and (runs["outcome"] == "missing").any():
        print(f"resume:  {program()} run {arguments.study if study else 'FILE'}")
    tell_next(name)
    return 0


def stop(arguments: argparse.Namespace) -> int:
    """Ask the driver of a study to stop; the study can be resumed."""
    home = default_home()
    name = resolve_study_name(arguments.study, home)
    if not home.shared and name not in home.names():
        raise LookupError(f"no study {name!r} in {home.root}. {did_you_mean(name, home.names())}")
    holder = home.lock(name).request_stop()
    if home.shared and not holder:
        from analysis.frames.load import experiment_id
        from analysis.frames.store import StoreUnreachableError
        from study.tracking.lease import request_stop
        from study.tracking.store import TROUBLE

        try:
            with suppress(StoreUnreachableError):  # `request_stop` explains the reason better
                experiment_id(name, home.uri)
            holder = request_stop(home, name)
        except TROUBLE as error:
            return finished.trouble(home.uri, error)
    if holder is None:
        print(f"study {name!r} is not running")
        return 0
    if not holder.startswith("process"):  # another command, which has no runs to stop
        print(f"study {name!r} is in use by {holder}, which ends by itself")
        return 0
    print(f"asked {holder} to stop; runs in progress will be repeated when the study is resumed")
    return 0
