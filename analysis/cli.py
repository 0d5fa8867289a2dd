"""The command `python -m analysis`: a report on a study, or on scores from elsewhere."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from analysis.frames.imported import ROLES, holds_scores, read_scores
from analysis.frames.load import load_curves, load_predictions, load_runs
from analysis.frames.runs import ScoreFileError
from analysis.report import paper_table
from analysis.report.page import write_report
from analysis.report.paper_table import CELLS, FORMATS


def main(words: Sequence[str] | None = None, program: str = "python -m analysis") -> int:
    """Write report.html and its tables.

    Args:
        words: The command line without the program's name; None takes the process's own.
        program: What was typed before them.

    Returns:
        The exit code: 2 if what was asked for is wrong.
    """
    parser = _parser(program, "A report on the scores in a file, or on a study in the store.")
    report_arguments(parser)
    arguments = parser.parse_args(words)

    def write() -> None:
        page = report(arguments.study, arguments, folder=default_folder(arguments.study))
        print(f"report: {page}")
        print(f"tables: {page.parent / 'tables'}")

    return _guarded(write)


def print_table(words: Sequence[str], program: str) -> int:
    """Print a table for a paper; arguments and exit code as for `main`."""
    parser = _parser(program, "A table for a paper, of the scores in a file or of a study.")
    table_arguments(parser)
    arguments = parser.parse_args(words)
    return _guarded(lambda: print(table(arguments.study, arguments)))


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("study", metavar="FILE", help="a CSV of scores; or a study's name")
    return parser


def _guarded(action: Callable[[], None]) -> int:
    try:
        action()
    except (ScoreFileError, LookupError) as error:
        if isinstance(error, KeyError | IndexError):
            raise  # a mistake of ours
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # `study table scores.csv | head`
        sys.stderr.close()
    return 0


def report_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a report, beside what it is about."""
    parser.add_argument("--out", type=Path, help="folder for the report and its tables")
    parser.add_argument(
        "--against", metavar="OTHER", help="compare with another study, or a file of scores"
    )
    add_arguments(parser)


def table_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a table for a paper, beside what it is about."""
    places = "task, model, technique, configuration, or several with commas between"
    parser.add_argument("--rows", default="technique", help=f"{places}; default: technique")
    parser.add_argument("--columns", default="task", help="likewise; default: task")
    parser.add_argument("--cell", default="mean±sd", choices=CELLS, help="default: mean±sd")
    parser.add_argument("--to", default="text", choices=FORMATS, help="default: text")
    add_arguments(parser)


def table(name: str, arguments: argparse.Namespace) -> str:
    """The table that was asked for.

    Args:
        name: A study in the store, or a file of scores.
        arguments: What `table_arguments` took.

    Raises:
        ScoreFileError: If a file, or the table, is not as it must be.
        LookupError: If there is no such study.
    """
    return paper_table.table(
        runs_of(name, arguments),
        arguments.rows,
        arguments.columns,
        cell=arguments.cell,
        to=arguments.to,
    )


def report(name: str, arguments: argparse.Namespace, *, folder: Path) -> Path:
    """Write the report that was asked for.

    Args:
        name: A study in the store, or a file of scores.
        arguments: What `report_arguments` took.
        folder: Where to write if the arguments do not say.

    Returns:
        The page.

    Raises:
        ScoreFileError: If a file, or what two studies say of a task, does not fit.
        LookupError: If there is no such study.
    """
    others = runs_of(arguments.against, arguments) if arguments.against else None
    runs, stored = runs_of(name, arguments), not holds_scores(name)
    return write_report(
        runs,
        load_curves(name) if stored else pd.DataFrame(),
        arguments.out or folder,
        predictions=_predictions(name) if stored else None,
        others=others,
    )


def runs_of(name: str, arguments: argparse.Namespace) -> pd.DataFrame:
    """The runs of a study in the store, or of a file of scores.

    Args:
        name: Which.
        arguments: What `foreign.add_arguments` took.

    Raises:
        ScoreFileError: With every mistake in the file.
        LookupError: If there is no such study.
    """
    return from_arguments(name, arguments) if holds_scores(name) else load_runs(name)


def default_folder(name: str) -> Path:
    """Where the report on a file, or on a study, goes: into the working directory."""
    return Path(f"{Path(name).name.partition('.')[0]}-report")


def _predictions(name: str) -> pd.DataFrame | None:
    try:
        return load_predictions(name)
    except OSError:  # an artifact that was deleted takes nothing from the report
        return None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what a file of scores holds; `from_arguments` reads them."""
    group = parser.add_argument_group(
        "scores from elsewhere",
        "Each names a column, or with `=` before it the text of every row, as in --task =rte. "
        "Columns that are called as the option need none, nor do the files of AMLB, peft and TabM; "
        "an export of W&B needs --task, --technique and --test.",
    )
    for role, meaning in ROLES.items():
        group.add_argument(f"--{role}", metavar="COLUMN", help=meaning)
    group.add_argument(
        "--lower-is-better",
        default="",
        metavar="METRIC,...",
        help="metrics of which less is better; known are rmse, mae, log_loss and their like",
    )
    group.add_argument(
        "--baseline", default="", metavar="NAME", help="technique that others are compared with"
    )


def from_arguments(path: str | Path, arguments: argparse.Namespace) -> pd.DataFrame:
    """`read_scores` by what `add_arguments` took from the command line."""
    given = {role: getattr(arguments, role) for role in ROLES}
    return read_scores(
        path,
        {role: column for role, column in given.items() if column is not None},
        lower_is_better=[each for each in arguments.lower_is_better.split(",") if each],
        baseline=arguments.baseline,
    )
