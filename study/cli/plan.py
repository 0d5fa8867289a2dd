"""`study plan`: estimated time, memory and cost of a study, and the seeds that an effect needs."""

import argparse
import json
import math
import sys
from collections import Counter
from typing import TYPE_CHECKING

from study.cli import finished
from study.cli.arguments import Commands, add_json, count, positive
from study.cli.messages import complain, program
from study.cli.progress import duration, span_text
from study.core.paths import Home, default_home
from study.core.spec import Mistake, SpecError
from study.planning.runs import Cell, outdated, outdated_text
from study.planning.study import Study
from study.planning.study_file import find_study_file, load_study, valid_study

if TYPE_CHECKING:
    from study.planning.estimate import Estimate
    from study.planning.stages import Stages


def add_commands(commands: Commands) -> None:
    """Add `study plan`."""
    parser = commands.add("plan", plan)
    parser.add_argument("file", help="study file, or the name of a bundled design")
    parser.add_argument(
        "--workers", type=count, help="concurrent runs; default: all cores of this machine"
    )
    parser.add_argument(
        "--detect",
        type=positive,
        metavar="D",
        help="difference of means to detect, 0.02 for two points (two-sided 5%% over all "
        "comparisons with the baseline, power 80%%)",
    )
    parser.add_argument(
        "--sd",
        type=positive,
        help="sd over seeds; default: on test, pooled over this study's cells so far",
    )
    parser.add_argument("--ratio", type=float, metavar="R", help="ratio of two sds to detect")
    parser.add_argument(
        "--hourly",
        type=float,
        metavar="PRICE",
        help="price per hour of a GPU, or of a core for runs on CPUs",
    )
    add_json(parser)


def plan(arguments: argparse.Namespace) -> int:
    """Estimate the runs, hours and memory of a study, and the seeds needed to detect an effect."""
    from analysis.statistics.common import ALPHA, stream
    from analysis.statistics.power import (
        seeds_for_difference,
        seeds_for_ratio,
        seeds_for_robust_ratio,
    )
    from study.planning.estimate import estimate_runs, max_concurrent, total_seconds
    from study.planning.notes import data_lines, notes
    from study.planning.preflight import problems
    from study.planning.stages import Stages
    from study.tasks.metrics import metric_named

    study, home = valid_study(load_study(find_study_file(arguments.file))), default_home()
    bounded = all(metric_named(task.metric).bounded for task in study.tasks)
    if arguments.detect is not None and arguments.detect >= 1 and bounded:
        text = "is no difference of scores up to 1; two points are 0.02"
        complain(f"--detect {arguments.detect:g} {text}")
        return 2
    encoded = home.encoded if home.root.is_dir() else None
    if mistakes := problems(study, encoded):
        return _plan_elsewhere(study, mistakes, arguments)
    print("\n".join(data_lines(study)), file=sys.stderr)
    for note in notes(study, encoded):
        complain(f"note: {note}")
    done = finished.finished(study, home)
    stages = Stages(study, finished.scores(done))
    runs, cells, later = stages.runs(), stages.cells, stages.still_to_come()
    seen = {str(cell): list(part["seconds"]) for cell, part in done.groupby("cell")}
    peaks = done.groupby("cell")["peak_memory_bytes"].max().to_dict()
    expected = estimate_runs(cells, seen, gpus=study.gpus, peaks=peaks, savers=study.savers)
    # Not limited by the cores here, since --workers may describe a cluster.
    workers = min(arguments.workers or max_concurrent(runs, study.gpus, None), len(runs))
    known = total_seconds(runs, expected)
    total = known + stages.seconds_to_come(expected)
    spent = [(run.cell, expected[run.cell.key].seconds * total / known) for run in runs]
    cost = _Cost(study, spent, arguments.hourly)
    sd = arguments.sd
    if sd is None and arguments.detect is not None:
        sd = _sd_so_far(study.name, home)
    # As reports adjust: each configuration of a task and model against the baseline.
    comparisons = max(1, len(study.techniques) - 1)
    alpha = ALPHA / comparisons
    seeds = ratio = None
    try:
        if arguments.detect is not None and sd:
            seeds = seeds_for_difference(arguments.detect, sd, alpha=alpha)
        if arguments.ratio is not None:
            ratio = seeds_for_robust_ratio(arguments.ratio, rng=stream("plan"), alpha=alpha)
    except ValueError as error:  # an effect of zero, or too small
        complain(error)
        return 2
    lacks_sd = arguments.detect is not None and not sd
    lacking = "has two finished runs that differ"
    no_sd = f"--detect needs an sd, such as --sd 0.02, since no cell of this study {lacking}"
    if arguments.json and lacks_sd:
        complain(no_sd)
        return 2
    if arguments.json:
        each_cell = {cell.name: vars(expected[cell.key]) for cell in cells}
        answer = {"runs": len(runs) + later, "seconds": total, "cells": each_cell, "seeds": seeds}
        answer["seeds_for_ratio"] = ratio
        answer["price"] = cost.price
        print(json.dumps(answer | ({"stages": stages.sizes()} if study.tune else {})))
        return 0
    _show_sizes(study, stages)
    for cell in cells:
        each = expected[cell.key]
        took, size = f"{duration(each.seconds)} a run ({each.basis})", f"{each.memory / 1e9:.1f} GB"
        whole = " of the process" if each.process else ""
        size = f"{size} at peak{whole} (measured)" if each.peak else _unmeasured(size, each)
        print(f"  {cell.name:<50} {took:>24}, {size}")
    rough = any(expected[cell.key].basis == "rough" for cell in cells)
    one, all_of_them = (span_text(total / n, rough=rough) for n in (1, workers))
    print(f"\n{one} on one worker, {all_of_them} on {workers}")
    cost.show()
    level = "5%" if comparisons == 1 else f"5% over {comparisons} comparisons"
    if seeds is not None:
        print(
            f"{seeds} seeds per cell to detect a difference of {arguments.detect:g} at sd {sd:.3g}"
            f"{'' if arguments.sd else ' (so far, on test)'} (two-sided {level}, power 80%)"
        )
    if ratio is not None:
        print(
            f"{ratio} seeds per cell to detect an sd {arguments.ratio:g} times another (Brown-"
            f"Forsythe, {level}, power 80%); {seeds_for_ratio(arguments.ratio, alpha=alpha)} by an "
            "F test, which is not robust to failed runs"
        )
    if old := outdated(cells, set(done["cell"])):
        complain(outdated_text(old))
    if lacks_sd:
        complain(no_sd)
        return 2
    left = len({run.key for run in runs} - set(done["key"])) + later
    if left:
        print(f"\nnext: {program()} run {arguments.file}  ({left} of {len(runs) + later} to run)")
    else:
        print(f"\nall {len(runs)} runs are done; next: {program()} report {arguments.file}")
    return 0


def _unmeasured(size: str, each: "Estimate") -> str:
    whole = " for the process" if each.process else ""
    if each.predicted:
        return f"about {size}{whole} (predicted)"
    return f"more than {size}{whole} (rough)"


def _sd_so_far(name: str, home: Home) -> float | None:
    """The sd over seeds that reports give: on test, pooled over the cells of a task and model.

    Returns:
        The largest over tasks and models; None without two finished runs that differ.
    """
    from analysis import cells, load_runs
    from analysis.statistics.power import pooled_sd

    try:
        found = cells(load_runs(name, home.uri))
    except LookupError:  # no store yet, or not this study
        return None
    sds = [
        pooled_sd(own["test_sd"].to_numpy("float64")) for _, own in found.groupby(["task", "model"])
    ]
    return max((sd for sd in sds if not math.isnan(sd)), default=None)


def _plan_elsewhere(study: Study, mistakes: list[Mistake], arguments: argparse.Namespace) -> int:
    """A rough plan from published sizes, if data or checkpoints are missing here; exit code 1.

    Raises:
        SpecError: With all mistakes, if there are no published sizes either.
    """
    from study.planning.estimate import rough_estimate

    cells = study.cells()
    try:
        expected = [rough_estimate(cell, gpus=study.gpus) for cell in cells]
    except (SpecError, LookupError) as error:
        raise SpecError(f"study {study.name!r}", mistakes) from error
    runs = len(study.runs())
    spent = [
        (cell, each.seconds * len(study.seeds_of(cell.task)))
        for cell, each in zip(cells, expected, strict=True)
    ]
    seconds = sum(taken for _, taken in spent)
    cost = _Cost(study, spent, arguments.hourly)
    if arguments.json:
        told = list(map(str, mistakes))
        answer = {"runs": runs, "seconds": seconds, "price": cost.price, "mistakes": told}
        print(json.dumps(answer))
        return 1
    _show_counts(study)
    places = Counter[tuple[str, str]]()
    for cell, taken in spent:
        places[cell.task.name, cell.model.name] += round(taken)
    for (task, model), taken in places.items():
        print(f"  {task + '/' + model:<45} {duration(taken):>8} for all its runs (rough)")
    print(f"\n{runs} runs, about {cost.hours:,.0f} {cost.unit} hours from published sizes")
    cost.show()
    complain(SpecError("what the study needs on this machine", mistakes))
    return 1


class _Cost:
    """Cost of a study, excluding idle time of the cluster.

    Attributes:
        hours: GPU hours, or core hours for runs on CPUs.
        unit: `GPU` or `core`.
        price: None if no hourly price is known.
    """

    def __init__(self, study: Study, spent: list[tuple[Cell, float]], hourly: float | None) -> None:
        """Sum the resources that runs occupy.

        Args:
            study: Provides the GPU share of a run, and the price if `hourly` is None.
            spent: Pairs of a cell and the seconds of runs in it.
            hourly: Price per hour of a GPU, or of a core for runs on CPUs.
        """
        occupied = [
            seconds * (study.gpus or cell.technique.recipe(cell.recipe).threads)
            for cell, seconds in spent
        ]
        self.hours, self.unit = sum(occupied) / 3600, "GPU" if study.gpus else "core"
        self._hourly = hourly or (study.budget.hourly if study.budget else None)
        self.price = None if self._hourly is None else self.hours * self._hourly

    def show(self) -> None:
        """Print the price, if there is one."""
        if self.price is not None:
            hours = f"{self.hours:,.1f} {self.unit} hours x {self._hourly:g}"
            print(f"{hours} = {self.price:,.2f}, excluding idle time")


def _show_counts(study: Study) -> None:
    counts = Counter(len(study.seeds_of(cell.task)) for cell in study.cells())
    crossed = " + ".join(f"{cells} cells x {seeds} seeds" for seeds, cells in counts.items())
    print(f"{len(study.runs())} runs: {crossed}\n")


def _show_sizes(study: Study, stages: "Stages") -> None:
    """Print the number of runs; with searches a maximum, since choices can coincide."""
    tune, searched = (
        study.tune,
        [task for task, _ in study.task_model_pairs() for _ in study.searches],
    )
    if tune is None:
        _show_counts(study)
        return
    tasks = [cell.task for cell in study.cells()] + searched
    counts = Counter(len(study.seeds_of(task)) for task in tasks)
    crossed = " + ".join(f"{cells} cells x {seeds} seeds" for seeds, cells in counts.items())
    sizes = stages.sizes()
    print(f"{sum(sizes.values())} runs at most:")
    print(
        f"  tune   {sizes['tune']} runs: {len(searched)} searches x {tune.trials} configurations "
        f"x {len(tune.seeds)} seeds ({tune.sampler})"
    )
    print(f"  final  {sizes['final']} runs: {crossed}\n")
