"""The command line `study`: which commands there are. Each adds its own arguments."""

import argparse
from collections.abc import Sequence

from study.cli import listing, maintenance, models, plan, results, run, status
from study.cli.arguments import Commands
from study.cli.messages import exit_code

EPILOG = """first steps:
  study run study/designs/quickstart.py     run a study; the same again resumes it
  study status                              its cells: mean, sd, interval, missing
  study report quickstart                   report.html, and the tables as files
  study recommend quickstart                what to use, and the lines to paste
  study ui                                  browse every run in MLflow

exit codes: 0 done, 1 runs are missing or something failed, 2 the input is wrong"""


def run_command(words: Sequence[str]) -> int:
    """Carry out one command.

    Args:
        words: The command line without the program's name.

    Returns:
        The exit code.
    """
    arguments = parser(next(iter(words), "")).parse_args(words)
    return exit_code(lambda: arguments.action(arguments))


def parser(asked: str) -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Args:
        asked: The command that is asked for.
    """
    made = argparse.ArgumentParser(
        prog="study",
        description="Which way of fine-tuning can you trust? Studies over seeds and techniques.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = Commands(made.add_subparsers(required=True, metavar="command"), asked)
    for theme in (run, status, results, plan, listing, models, maintenance):
        theme.add_commands(commands)
    return made
