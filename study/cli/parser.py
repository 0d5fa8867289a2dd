"""The command line: arguments and exit codes. What each command does is in `commands/`."""

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from study.cli import listing, maintenance, models, plan, results, run
from study.cli.messages import complain
from study.core.lock import StudyLockedError
from study.core.paths import hurry
from study.core.spec import Invalid, SpecError
from study.execution.faults import ClusterError
from study.planning.study import Study

EPILOG = """first steps:
  study run study/designs/quickstart.py     run a study; the same again resumes it
  study status                              its cells: mean, sd, interval, missing
  study report quickstart                   report.html, and the tables as files
  study recommend quickstart                what to use, and the lines to paste
  study ui                                  browse every run in MLflow

exit codes: 0 done, 1 runs are missing or something failed, 2 the input is wrong"""


def main(study: Study | Invalid) -> None:
    """What a study file calls: `python FILE` does the same as `study run FILE`."""
    source = os.path.abspath(sys.argv[0])
    parser = argparse.ArgumentParser(prog=f"python {sys.argv[0]}", description=run.run.__doc__)
    _run_arguments(parser)
    arguments = parser.parse_args()
    sys.exit(_guarded(lambda: run.run_study(study, source, arguments)))


def run(study: Study, *, workers: int | None = None) -> bool:
    """Run what is missing of a study, from a script or a notebook.

    Args:
        study: Which.
        workers: Runs at once at most; None uses all that fit.

    Returns:
        Whether nothing is missing afterwards.

    Raises:
        SpecError: With everything that is wrong with the study.
        ValueError: If `workers` is no whole number above 0.
    """
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers={workers!r} is no whole number above 0; None uses all that fit")
    parser = argparse.ArgumentParser()
    _run_arguments(parser)
    arguments = parser.parse_args([])
    arguments.workers = workers
    return run.run_study(study, os.path.abspath(sys.argv[0]), arguments) == 0


def command() -> None:
    """What `study` on the command line calls."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(words: Sequence[str]) -> int:
    """Carry out one command.

    Args:
        words: The command line without the program's name.

    Returns:
        The exit code.
    """
    arguments = _parser(next(iter(words), "")).parse_args(words)
    return _guarded(lambda: arguments.action(arguments))


def _guarded(action: Callable[[], int]) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ALEMBIC_LOGGING_LEVEL", "WARNING")
    hurry()
    try:
        return action()
    except SpecError as error:
        complain(error)
        return 2
    except LookupError as error:
        if isinstance(error, KeyError | IndexError):
            raise  # a mistake of ours, not of what was asked for
        complain(error)
        return 2
    except StudyLockedError as error:
        complain(f"{error}. Wait for it, or end a driver with: study stop")
        return 1
    except ClusterError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        complain("Stopped.")
        return 130
    except BrokenPipeError:  # `study list techniques | head`
        sys.stderr.close()
        return 0


# --- arguments --------------------------------------------------------------------------------


def _parser(asked: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="study",
        description="Which way of fine-tuning can you trust? Studies over seeds and techniques.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, action: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        text = (action.__doc__ or "").strip()
        brief = text.splitlines()[0].rstrip(".")
        made = subparsers.add_parser(
            name,
            help=brief[:1].lower() + brief[1:],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(action=action)
        return made

    run = add("run", run.run)
    run.add_argument("file", help="a study file")
    _run_arguments(run)
    for name, action in (
        ("status", run.status),
        ("stop", run.stop),
        ("report", results.report),
        ("recommend", results.recommend),
        ("sync", maintenance.sync),
        ("gc", maintenance.gc),
    ):
        part = add(name, action)
        part.add_argument(
            "study", nargs="?", help="a study's name or its file; not needed where there is one"
        )
        if name == "status":
            part.add_argument("--json", action="store_true", help="the cells as JSON")
        if name == "sync":
            part.add_argument("--to", required=True, metavar="URI", help="the other store")
        if name == "gc":
            part.add_argument("--yes", action="store_true", help="remove without asking")
        if name == "recommend":
            _recommend_arguments(part)
        if name == asked == "report":
            from analysis.cli import report_arguments  # slow to load for other commands

            report_arguments(part)
    table = add("table", results.table)
    table.add_argument("study", nargs="?", help="a study's name or its file; or a CSV of scores")
    if asked == "table":
        from analysis.cli import table_arguments

        table_arguments(table)
    listed = add("list", listing.listing)
    listed.add_argument("what", choices=["techniques", "tasks", "models", "spaces", "studies"])
    listed.add_argument("--json", action="store_true", help="as JSON")
    show = add("show", results.show)
    show.add_argument("key", help="a run's key, or its first digits")
    show.add_argument("--json", action="store_true", help="as JSON")
    plan = add("plan", plan.plan)
    plan.add_argument("file", help="a study file")
    plan.add_argument("--workers", type=_count, help="runs at once; default: all cores here")
    plan.add_argument(
        "--detect",
        type=_positive,
        metavar="D",
        help="a difference of means that must not be missed",
    )
    plan.add_argument("--sd", type=_positive, help="sd over seeds; default: of this study's runs")
    plan.add_argument(
        "--ratio", type=float, metavar="R", help="a ratio of two sds that must not be missed"
    )
    plan.add_argument(
        "--hourly", type=float, metavar="PRICE", help="of a GPU, or of a core for runs on CPUs"
    )
    plan.add_argument("--json", action="store_true", help="as JSON")
    ui = add("ui", results.ui)
    ui.add_argument("study", nargs="?", help="the study to open")
    ui.add_argument("--port", type=int, default=5000, help="default: 5000")
    blurb = add("import-blurb", models.import_blurb)
    blurb.add_argument("folder", type=Path, help="the folder `data` of BLURB's data preparation")
    blurb.add_argument("--out", type=Path, required=True, help="folder for STUDY_DATA to name")
    export = add("export", models.export)
    export.add_argument("key", help="a run's key")
    export.add_argument("--out", type=Path, required=True, help="folder for the trained model")
    export.add_argument(
        "--file", help="the study file; needed where the run uses your own technique or task"
    )
    convert = add("convert", models.convert)
    convert.add_argument(
        "model", help="a name in `study list models`, a folder, a hub id, or a .gguf file"
    )
    convert.add_argument("--out", type=Path, required=True, help="folder for the converted model")
    convert.add_argument(
        "--model-type",
        choices=["bert", "electra"],
        help="where the checkpoint's configuration names the wrong one of the two",
    )
    return parser


def _recommend_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-memory", type=_bytes, metavar="SIZE", help="most memory of a run, such as 8GB"
    )
    parser.add_argument("--max-seconds", type=float, metavar="S", help="most seconds of a run")
    parser.add_argument(
        "--prefer",
        choices=["stable", "fast", "score"],
        default="stable",
        help="what decides among those that the runs do not tell apart; default: stable",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def _bytes(text: str) -> float:
    units = {"MB": 1e6, "GB": 1e9, "MiB": 2.0**20, "GiB": 2.0**30}
    number = text.rstrip("MGiB")
    try:
        return float(number) * units[text[len(number) :]]
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 8GB or 500MB") from None


def _count(text: str) -> int:
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")


def _positive(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="KEY|NAME=VALUE",
        help="only these runs: a key, or task=, model=, technique=, configuration=, seed=",
    )
    parser.add_argument("--address", help="a Ray cluster; default: the one here, or a new one")
    parser.add_argument(
        "--workers", type=_count, help="runs at once at most; default: all that fit"
    )
    parser.add_argument(
        "--keep-going", action="store_true", help="do not pause cells that fail again and again"
    )
    parser.add_argument("--verbose", action="store_true", help="show Ray's own messages")
    parser.add_argument("--json", action="store_true", help="the result as JSON on standard output")
