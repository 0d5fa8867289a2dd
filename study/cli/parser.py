"""The command line `study`; each module of the package adds its commands and their arguments."""

import argparse
from collections.abc import Sequence

from study.cli import listing, maintenance, models, plan, results, run, status
from study.cli.arguments import Commands
from study.cli.messages import exit_code

EPILOG = """first steps:
  study run study/designs/quickstart.py     run a study; repeat the command to resume
  study status                              its cells: mean, sd, interval, missing runs
  study report quickstart                   write report.html and the tables
  study recommend quickstart                the recommended configuration, ready to paste
  study ui                                  browse all runs in MLflow

exit codes: 0 success, 1 runs are missing or an operation failed, 2 invalid input"""


def run_command(words: Sequence[str]) -> int:
    """Run one command and return its exit code.

    Args:
        words: The command line without the program's name.
    """
    arguments = parser(next(iter(words), "")).parse_args(words)
    return exit_code(lambda: arguments.action(arguments))


def parser(selected: str) -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Args:
        selected: The command on the command line; only its slow arguments are added.
    """
    parser = argparse.ArgumentParser(
        prog="study",
        description="Compare fine-tuning techniques over seeds: scores, stability, failures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = Commands(parser.add_subparsers(required=True, metavar="command"), selected)
    for theme in (run, status, results, plan, listing, models, maintenance):
        theme.add_commands(commands)
    return parser
