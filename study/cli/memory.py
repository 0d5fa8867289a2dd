"""`study memory`: options to train a study's models in less memory."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from study.cli.arguments import Commands, add_json, size
from study.cli.messages import complain
from study.core.paths import default_home
from study.core.spec import SpecError
from study.planning.study_file import find_study_file, load_study, valid_study

if TYPE_CHECKING:
    from analysis.rendering.table import Table
    from study.planning.savings import Measurement

GB = 1e9


def add_commands(commands: Commands) -> None:
    """Add `study memory`."""
    parser = commands.add("memory", memory)
    parser.add_argument("file", help="study file, or the name of a bundled design")
    parser.add_argument(
        "--limit", type=size, metavar="SIZE", help="memory of the device, such as 8GB"
    )
    parser.add_argument(
        "--steps",
        type=_steps,
        default=3,
        help="training steps to time; 0 only predicts (default 3)",
    )
    add_json(parser)


def memory(arguments: argparse.Namespace) -> int:
    """Compare options to train a study's models in less memory: bytes, time, exactness.

    For each model, on the task whose largest batch has the most tokens. Nothing is written to the
    store. Bytes are those of a step: weights, gradients, optimizer states and saved activations;
    what kernels need while they run comes on top. Exit code 1 if nothing fits the limit.
    """
    from analysis.rendering.table import to_text
    from study.planning.preflight import problems
    from study.planning.savings import compared, largest_task, savings
    from study.techniques import Standard

    study, home = valid_study(load_study(find_study_file(arguments.file))), default_home()
    encoded = home.encoded if home.root.is_dir() else None
    if mistakes := problems(study, encoded):
        raise SpecError(f"study {study.name!r}", mistakes)
    answers, missed = [], False
    for model in study.models:
        task = largest_task(study, model)
        print(f"{model.name}, on {task.name}:", file=sys.stderr)
        recipe = study.recipe_of(task)
        options = savings(task, model, recipe)
        found = compared(
            study, task, model, options, steps=arguments.steps, encoded=encoded, tell=_tell
        )
        plain = Standard(), recipe
        rows = [
            _row(one, arguments.limit)
            | {"keeps_runs": (one.saving.technique, one.saving.recipe) == plain}
            for one in found
        ]
        answers += [{"model": model.name, "task": task.name, **row} for row in rows]
        missed = missed or not any(row["fits"] for row in rows)
        if not arguments.json:
            batch = f"{recipe.batch_size} rows on {task.name}"
            print(to_text(_table(model.name, batch, rows, limited=arguments.limit is not None)))
            _advise(model.name, rows, arguments.limit)
    if arguments.json:
        print(json.dumps(answers))
    return 1 if missed else 0


def _tell(name: str) -> None:
    print(f"  {name}", file=sys.stderr)


def _steps(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of steps")


def _row(one: "Measurement", limit: float | None) -> dict[str, Any]:
    """What is printed of an option; numbers that are unknown are None."""
    total = None if math.isnan(one.total) else one.total
    return {
        "name": one.saving.name,
        "gradients": one.saving.gradients,
        "freeze_rate": one.saving.rate or None,
        "total_bytes": total,
        "predicted_bytes": sum(one.predicted) if one.predicted else None,
        "measured_bytes": sum(one.measured) if one.measured else None,
        "measured": one.measured._asdict() if one.measured else None,
        "peak_bytes": one.peak or None,
        "seconds": None if math.isnan(one.seconds) else one.seconds,
        "on_front": one.on_front,
        "fits": not one.failure and total is not None and (limit is None or total <= limit),
        "failure": one.failure,
        "paste": one.saving.paste(),
    }


def _table(model: str, batch: str, rows: list[dict[str, Any]], *, limited: bool) -> "Table":
    import pandas as pd

    from analysis.rendering.builder import Columns, table_of

    timed = [row for row in rows if row["seconds"]]
    plain = timed[0]["seconds"] if timed else None
    tried = any(row["seconds"] or row["failure"] for row in rows)
    columns: Columns = {
        "Option": lambda r: r.name,
        "Predicted": lambda r: _gigabytes(r.predicted_bytes),
        "Measured": lambda r: _gigabytes(r.measured_bytes),
        "Peak": lambda r: _gigabytes(r.peak_bytes),
        "Time": lambda r: r.failure or (f"{r.seconds / plain:.2f}" if plain else "–"),
        "Gradients": lambda r: r.gradients,
        "Front": lambda r: "*" if r.on_front else "",
        "Fits": lambda r: "yes" if r.fits else "no",
    }
    unused = [] if limited else ["Fits"]
    unused += [] if any(row["peak_bytes"] for row in rows) else ["Peak"]
    unused += [] if tried else ["Measured", "Time"]
    notes = [
        f"Bytes of a step of {batch}, in GB.",
        f"Time: of a step, against {plain:.2f} s of {timed[0]['name']}." if plain else "",
        "Front: no option with gradients as exact needs less memory"
        + (" and less time." if plain else "."),
        "Lines to paste follow for those"
        + (" that fit" if limited else "")
        + "; of SlimFit at its lowest rate"
        + (" that fits." if limited else "."),
        "Fits: the larger of predicted and measured is within the limit, which leaves nothing for "
        "what kernels need while they run, nor on a CPU for the process itself.",
    ]
    title = f"Memory of {model}"
    return table_of("memory", title, pd.DataFrame(rows), columns, notes=notes, details=unused)


def _gigabytes(number: float | None) -> str:
    return "–" if number is None or math.isnan(number) else f"{number / GB:.3g}"


def _advise(model: str, rows: Sequence[dict[str, Any]], limit: float | None) -> None:
    """Print the lines of every option on the front that fits, or that none does.

    Of those that differ in their freeze rate the lowest that fits stands for all: the others need
    less memory than there is, for fewer updates.
    """
    fitting = [row for row in rows if row["fits"]]
    lowest = min((row["freeze_rate"] for row in fitting if row["freeze_rate"]), default=None)
    for row in fitting:
        rate = row["freeze_rate"]
        if (rate and rate == lowest) or (not rate and row["on_front"]):
            lines = "".join(f"  {line}\n" for line in row["paste"].splitlines())
            keys = "finished runs stay valid" if row["keeps_runs"] else "all runs are new"
            print(f"\n{row['name']} ({keys})\n{lines}", end="")
    known = [row for row in rows if row["total_bytes"] and not row["failure"]]
    if not fitting and not known and any(row["failure"] for row in rows):
        complain(f"{model}: every option ran out of memory on this machine.")
    elif not fitting and known:
        least = min(known, key=lambda row: row["total_bytes"])
        complain(
            f"{model}: nothing fits {(limit or 0) / GB:.2g} GB; {least['name']} needs the least, "
            f"{_gigabytes(least['total_bytes'])} GB. Shorten max_length, or take a smaller model "
            "or a larger device."
        )
    elif not fitting:
        complain(
            f"{model}: what a step holds cannot be predicted (bfloat16, or this architecture); "
            "leave out --steps 0, so that it is measured."
        )
