"""Another store, and what is left behind."""

import argparse
import sys
from pathlib import Path

from study.cli import finished
from study.cli.arguments import Commands, add_study
from study.cli.messages import complain
from study.core.paths import default_home, without_password
from study.planning.study_file import resolve_study_name


def add_commands(commands: Commands) -> None:
    """Add `study sync` and `study gc`."""
    parser = commands.add("sync", sync)
    add_study(parser)
    parser.add_argument("--to", required=True, metavar="URI", help="the other store")
    parser = commands.add("gc", gc)
    add_study(parser)
    parser.add_argument("--yes", action="store_true", help="remove without asking")


def sync(arguments: argparse.Namespace) -> int:
    """Copy a study into another MLflow store, such as the team's server; again copies what is new.

    A finished run that is there with other scores stays as it is; exit code 1 says so.
    """
    from analysis.frames.load import experiment_id
    from study.tracking.store import TROUBLE, Store
    from study.tracking.sync import Synced
    from study.tracking.sync import sync as synced

    home, uri = default_home(), arguments.to
    name = resolve_study_name(arguments.study, home)
    in_use = _place(uri) == _place(home.uri)
    if not uri.startswith(("http://", "https://", "sqlite:///")) or in_use:
        text = "is the store in use" if in_use else "is no address of a store"
        complain(without_password(f"--to {uri} {text}; name http://HOST:PORT or sqlite:///FILE"))
        return 2
    experiment_id(name, home.uri)

    def told(done: Synced) -> None:
        if (done.copied + done.unchanged) % 100 == 0:
            complain(f"{done.copied + done.unchanged} of {done.total} runs")

    at = home.uri
    try:
        source = Store(at, home.artifacts)
        at = uri
        target = Store(uri, Path(uri.removeprefix("sqlite:///")).absolute().parent / "artifacts")
        done = synced(name, source, target, progress=told)
    except TROUBLE as error:
        complain("the same command again goes on from here")
        return finished.trouble(at, error)
    print(f"{done.copied} runs copied, {done.unchanged} were there")
    for run in done.different:
        complain(f"{run} is there with other scores, and stays as it is")
    return 1 if done.different else 0


def gc(arguments: argparse.Namespace) -> int:
    """List what a study left behind that nothing needs, and remove it if you say so.

    Runs that its file no longer asks for, writes that were cut short, what was deleted or refused
    by MLflow, models, checkpoints and errors of no use any more, encoded data not read for long.
    """
    from analysis import load_runs
    from analysis.frames.load import experiment_id
    from study.tracking.cleanup import leftovers, remove, unused
    from study.tracking.lease import exclusive
    from study.tracking.store import TROUBLE, Store

    home = default_home()
    name = resolve_study_name(arguments.study, home)
    experiment_id(name, home.uri)  # there is such a study
    try:
        store = Store(home.uri, home.artifacts)
        with exclusive(home, store, name, command="gc") as check:
            runs = load_runs(name, home.uri)  # what finishes before is asked for, too
            missing = runs["outcome"] == "missing"
            left = leftovers(
                home, store, name, wanted=set(runs["key"]), failing=set(runs.loc[missing, "cell"])
            )
            left += unused(home)
            for each in left:
                print(f"  {each.reason:<32} {_megabytes(each.size):>10}  {each.name}")
            if not left:
                print("nothing to remove")
                return 0
            if not (arguments.yes or _agreed(f"remove {_megabytes(sum(e.size for e in left))}")):
                print("nothing was removed")
                return 0
            remove(left, store, check=check)
    except TROUBLE as error:
        return finished.trouble(home.uri, error)
    print("removed")
    if not store.is_database and any(each.runs for each in left):
        print("runs are marked as deleted; `mlflow gc` on the server frees their space")
    return 0


def _place(uri: str) -> str:
    """A store's address, however it is written."""
    from study.tracking.store import sqlite_file

    file = sqlite_file(uri)
    return str(file.resolve()) if file else uri.rstrip("/")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _agreed(deed: str) -> bool:
    if not sys.stdin.isatty():
        complain(f"--yes to {deed}")
        return False
    return input(f"{deed}? [y/N] ").strip().lower() in ("y", "yes")
