"""Command line `python -m analysis`: a report on a study, or on scores from other tools."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.frames.load import (
    load_curves,
    load_links,
    load_predictions,
    load_retained,
    load_runs,
    load_settings,
    studies,
)
from analysis.frames.runs import ScoreFileError
from analysis.frames.score_files import ROLES, option, read_scores
from analysis.frames.store import store_folder, ui_address
from analysis.frames.text_tables import TABLES, without_ending
from analysis.rendering.output import print_anywhere
from analysis.report import paper_table
from analysis.report.page import write_report
from analysis.report.paper_table import CELLS, FORMATS
from analysis.report.provenance import Extras


def main(words: Sequence[str] | None = None, program: str = "python -m analysis") -> int:
    """Write report.html and its tables.

    Args:
        words: The command line without the program's name; None takes the process's own.
        program: Program name in the usage message.

    Returns:
        The exit code: 0, or 2 for invalid input.
    """
    parser = _parser(program, "Write a report on the scores in a file, or on a study in the store.")
    report_arguments(parser)
    arguments = parser.parse_args(words)

    def write() -> None:
        page = report(arguments.study, arguments, folder=default_folder(arguments.study))
        print(f"report: {page}")
        print(f"tables: {page.parent / 'tables'}")

    return _guarded(write)


def print_table(words: Sequence[str], program: str) -> int:
    """Print a table for a paper; arguments and exit code as for `main`."""
    parser = _parser(
        program,
        "Print a table for a paper from the scores in a file, or from a study in the store.",
    )
    table_arguments(parser)
    arguments = parser.parse_args(words)
    return _guarded(lambda: print(table(arguments.study, arguments)))


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("study", metavar="FILE", help="CSV of scores, or name of a study")
    return parser


def _guarded(action: Callable[[], None]) -> int:
    print_anywhere()
    try:
        action()
    except (ScoreFileError, LookupError) as error:
        if isinstance(error, KeyError | IndexError):
            raise  # a bug, not invalid input
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # `study table scores.csv | head`
        sys.stderr.close()
    return 0


def report_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a report."""
    parser.add_argument("--out", type=Path, help="folder for the report and its tables")
    parser.add_argument(
        "--against", metavar="OTHER", help="another study, or a file of scores, to compare with"
    )
    add_arguments(parser)


def table_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a table for a paper."""
    variables = "task, model, technique, configuration, or several, separated by commas"
    parser.add_argument("--rows", default="technique", help=f"{variables}; default: technique")
    parser.add_argument("--columns", default="task", help="as --rows; default: task")
    parser.add_argument(
        "--cell", default="mean±sd", choices=CELLS, help="content of a cell; default: mean±sd"
    )
    parser.add_argument(
        "--to", default="text", choices=FORMATS, help="output format; default: text"
    )
    add_arguments(parser)


def table(name: str, arguments: argparse.Namespace) -> str:
    """The table for a parsed command line, as text.

    Args:
        name: A study in the store, or a file of scores.
        arguments: Options added by `table_arguments`.

    Raises:
        ScoreFileError: If a file is malformed, or the table is not defined for its runs.
        LookupError: If there is no such study.
    """
    return paper_table.table(
        runs_of(name, arguments),
        arguments.rows,
        arguments.columns,
        cell=arguments.cell,
        to=arguments.to,
    )


def report(
    name: str,
    arguments: argparse.Namespace,
    *,
    folder: Path,
    notes: Sequence[str] = (),
    extras: Extras | None = None,
) -> Path:
    """Write the report for a parsed command line.

    Args:
        name: A study in the store, or a file of scores.
        arguments: Options added by `report_arguments`.
        folder: Output folder unless `--out` is given.
        notes: Sentences that precede the page's caveats.
        extras: What the caller adds to a study in the store.

    Returns:
        The path of the page.

    Raises:
        ScoreFileError: If a file is malformed, or two studies disagree about a task.
        LookupError: If there is no such study.
    """
    folder, other = arguments.out or folder, arguments.against
    others = runs_of(other, arguments) if other else None
    if holds_scores(name):
        runs = from_arguments(name, arguments)
        return write_report(runs, pd.DataFrame(), folder, others=others, notes=notes)
    known = replace(
        extras or Extras(),
        settings=load_settings(name),
        other_settings=load_settings(other) if other and not holds_scores(other) else None,
        links=load_links(name),
        retained=load_retained(name),
        ui=ui_address(),
        store=store_folder(),
    )
    return write_report(
        load_runs(name),
        load_curves(name),
        folder,
        predictions=_predictions(name),
        others=others,
        extras=known,
        notes=notes,
    )


def runs_of(name: str, arguments: argparse.Namespace) -> pd.DataFrame:
    """The runs of a study in the store, or of a file of scores.

    Args:
        name: Name of a study, or path of a file.
        arguments: Options added by `add_arguments`.

    Raises:
        ScoreFileError: With every mistake in the file.
        LookupError: If there is no such study.
    """
    return from_arguments(name, arguments) if holds_scores(name) else load_runs(name)


def holds_scores(name: str) -> bool:
    """Whether the name is that of a score file or folder rather than of a study.

    A folder that happens to have the name of a study in the store is the study.
    """
    path = Path(name)
    if path.is_dir():
        try:
            return name not in studies()
        except LookupError:  # no store here
            return True
    named = name.lower().endswith((*TABLES, ".json"))
    return named or (path.is_file() and path.suffix != ".py")


def default_folder(name: str) -> Path:
    """Default folder of a report, in the working directory."""
    return Path(f"{without_ending(Path(name).name)}-report")


def _predictions(name: str) -> pd.DataFrame | None:
    try:
        return load_predictions(name)
    except OSError:  # e.g. a deleted artifact; the report omits predictions
        return None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe a file of scores; `from_arguments` reads them."""
    group = parser.add_argument_group(
        "scores from other tools",
        "Each option names a column, or, after `=`, a constant for all rows, as in --task =rte. "
        "Options are not needed for columns with the name of the option, nor for files of AMLB, "
        "peft and TabM; a W&B export needs --task, --technique and --test.",
    )
    for role, meaning in ROLES.items():
        group.add_argument(option(role), metavar="COLUMN", help=meaning)
    for better in ("higher", "lower"):
        group.add_argument(
            f"--{better}-is-better",
            default="",
            metavar="METRIC,...",
            help=f"metrics where {better} is better; needed where the name does not say so",
        )
    group.add_argument(
        "--baseline", default="", metavar="NAME", help="technique that the others are compared with"
    )


def from_arguments(path: str | Path, arguments: argparse.Namespace) -> pd.DataFrame:
    """Call `read_scores` with the options added by `add_arguments`."""
    given = {role: getattr(arguments, role) for role in ROLES}
    return read_scores(
        path,
        {role: column for role, column in given.items() if column is not None},
        higher_is_better=_listed(arguments.higher_is_better),
        lower_is_better=_listed(arguments.lower_is_better),
        baseline=arguments.baseline,
    )


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
