"""The command line `study`; each module of the package adds its commands and their arguments."""

import argparse
from collections.abc import Collection, Sequence
from importlib import import_module
from typing import NamedTuple

from study.cli.arguments import Commands


class Command(NamedTuple):
    """A command as `study --help` lists it, which loads none of them.

    Attributes:
        module: The module of this package that adds it.
        brief: The first line of its action's docstring.
    """

    module: str
    brief: str


COMMANDS = {
    "run": Command(
        "run", "run the missing runs of a study; after Ctrl-C the same command resumes it"
    ),
    "init": Command(
        "init",
        "write a commented study file for a table, with kind, columns and metric guessed and said",
    ),
    "status": Command(
        "status", "show the cells of a study: mean, sd, confidence interval, n, collapsed, missing"
    ),
    "stop": Command("status", "ask the driver of a study to stop; the study can be resumed"),
    "report": Command(
        "results", "write report.html and the tables of a study as Markdown, CSV and LaTeX"
    ),
    "table": Command(
        "results", "print a table for a paper: LaTeX, Markdown, HTML, CSV or plain text"
    ),
    "recommend": Command(
        "results", "recommend a configuration, with its uncertainty and the lines to paste"
    ),
    "show": Command("results", "show one run: specification, scores and artifacts"),
    "ui": Command(
        "results", "serve the MLflow UI to this machine only, and print a link to a study's cells"
    ),
    "plan": Command(
        "plan",
        "estimate the runs, hours and memory of a study, and the seeds needed to detect an effect",
    ),
    "memory": Command(
        "memory",
        "compare options to train a study's models in less memory: bytes, time, exactness",
    ),
    "list": Command(
        "listing", "list techniques, tasks, models, search spaces, or the studies in the store"
    ),
    "import-blurb": Command("models", "convert BLURB's data sets to the files that tasks read"),
    "export": Command(
        "models",
        "export a run's model for `transformers`: the one that was kept, or retrained bit for bit",
    ),
    "convert": Command(
        "models", "convert a checkpoint that exists only as a pickle (or GGUF) to safetensors"
    ),
    "sync": Command(
        "maintenance",
        "copy a study to another MLflow store, such as a team server; repeating copies what is new",
    ),
    "gc": Command(
        "maintenance", "list what a study no longer needs, and remove it after confirmation"
    ),
    "completion": Command(
        "completion", "print a script that completes commands, options and files in a shell"
    ),
}
EPILOG = """first steps:
  study init mine.csv           write a study file for a table of your own
  study run quickstart          run a study; repeat the command to resume
  study status                  its cells: mean, sd, interval, missing runs
  study report quickstart       write report.html and the tables
  study recommend quickstart    the recommended configuration, ready to paste
  study ui                      browse all runs in MLflow

exit codes: 0 success, 1 runs are missing or an operation failed, 2 invalid input"""


def run_command(words: Sequence[str]) -> int:
    """Run one command and return its exit code.

    Args:
        words: The command line without the program's name.
    """
    arguments = parser(words[:1]).parse_args(words)
    from study.cli.messages import exit_code  # loads torch

    return exit_code(lambda: arguments.action(arguments))


def parser(selected: Collection[str]) -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Args:
        selected: The command on the command line, or those to complete; only their modules are
            loaded, which takes seconds.
    """
    parser = argparse.ArgumentParser(
        prog="study",
        description="Compare fine-tuning techniques over seeds: scores, stability, failures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(required=True, metavar="command")
    loaded = {command.module for name, command in COMMANDS.items() if name in selected}
    for name, (module, brief) in COMMANDS.items():
        if module not in loaded:
            subparsers.add_parser(name, help=brief)
    for module in sorted(loaded):
        import_module(f"study.cli.{module}").add_commands(Commands(subparsers, selected))
    return parser
