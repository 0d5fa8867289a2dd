"""`study sync` and `study gc`: copy a study to another store, remove what is not needed."""

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
    parser.add_argument("--to", required=True, metavar="URI", help="the store to copy to")
    parser = commands.add("gc", gc)
    add_study(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def sync(arguments: argparse.Namespace) -> int:
    """Copy a study to another MLflow store, such as a team server; repeating copies what is new.

    A finished run that the target has with different scores is not overwritten; it is reported, and
    the exit code is 1.
    """
    from analysis.frames.load import experiment_id
    from study.tracking.store import TROUBLE, Store
    from study.tracking.sync import Synced
    from study.tracking.sync import sync as synced

    home, uri = default_home(), arguments.to
    name = resolve_study_name(arguments.study, home)
    in_use = _canonical(uri) == _canonical(home.uri)
    if not uri.startswith(("http://", "https://", "sqlite:///")) or in_use:
        text = "is the store in use" if in_use else "is not the address of a store"
        complain(without_password(f"--to {uri} {text}; use http://HOST:PORT or sqlite:///FILE"))
        return 2
    experiment_id(name, home.uri)

    def show_progress(done: Synced) -> None:
        if (done.copied + done.unchanged) % 100 == 0:
            complain(f"{done.copied + done.unchanged} of {done.total} runs")

    accessed = home.uri
    try:
        source = Store(accessed, home.artifacts)
        accessed = uri
        target = Store(uri, Path(uri.removeprefix("sqlite:///")).absolute().parent / "artifacts")
        done = synced(name, source, target, progress=show_progress)
    except TROUBLE as error:
        complain("repeat the command to continue")
        return finished.trouble(accessed, error)
    print(f"{done.copied} runs copied, {done.unchanged} already there")
    for run in done.different:
        complain(f"{run} has different scores in the target; not overwritten")
    return 1 if done.different else 0


def gc(arguments: argparse.Namespace) -> int:
    """List what a study no longer needs, and remove it after confirmation.

    Runs that its file no longer contains, incomplete writes, runs deleted in MLflow, entries that
    MLflow refused, obsolete models, resumable checkpoints and errors, and encoded data that has not
    been read for 30 days.
    """
    from analysis import load_runs
    from analysis.frames.load import experiment_id
    from study.tracking.cleanup import leftovers, remove, unused
    from study.tracking.lease import exclusive
    from study.tracking.store import TROUBLE, Store

    home = default_home()
    name = resolve_study_name(arguments.study, home)
    experiment_id(name, home.uri)  # raises if there is no such study
    try:
        store = Store(home.uri, home.artifacts)
        with exclusive(home, store, name, command="gc") as check:
            runs = load_runs(
                name, home.uri
            )  # loaded under the lock, so that nothing changes until the end
            missing = runs["outcome"] == "missing"
            left = leftovers(
                home, store, name, wanted=set(runs["key"]), failing=set(runs.loc[missing, "cell"])
            )
            left += unused(home)
            for item in left:
                print(f"  {item.reason:<32} {_megabytes(item.size):>10}  {item.name}")
            if not left:
                print("nothing to remove")
                return 0
            if not (
                arguments.yes or _confirmed(f"remove {_megabytes(sum(item.size for item in left))}")
            ):
                print("nothing was removed")
                return 0
            remove(left, store, check=check)
    except TROUBLE as error:
        return finished.trouble(home.uri, error)
    print("removed")
    if not store.is_database and any(item.runs for item in left):
        print("runs are marked as deleted; run `mlflow gc` on the server to free their space")
    return 0


def _canonical(uri: str) -> str:
    """The address of a store in a form that can be compared."""
    from study.tracking.store import sqlite_file

    file = sqlite_file(uri)
    return str(file.resolve()) if file else uri.rstrip("/")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _confirmed(action: str) -> bool:
    if not sys.stdin.isatty():
        complain(f"not a terminal; to {action}, add --yes")
        return False
    return input(f"{action}? [y/N] ").strip().lower() in ("y", "yes")
