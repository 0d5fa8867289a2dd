"""What each command does; the only place that joins `study` and `analysis`."""

import argparse
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from study.display import duration
from study.ending import Ending, complain, near, program, tell_next
from study.feed import Progress
from study.files import load_study, sound, study_named
from study.home import Home, default_home, without_password
from study.spec import Invalid, Mistake, SpecError, did_you_mean
from study.study import Cell, Run, Study
from study.tasks import Task

if TYPE_CHECKING:
    from study.stages import Stages


def run(arguments: argparse.Namespace) -> int:
    """Run a study: only what is missing. Ctrl-C leaves it resumable; the same command resumes.

    Finished runs are in MLflow, each exactly once, by a key of everything that decides their
    result. Adding a seed or a technique to the file runs only what is new.
    """
    path = Path(arguments.file)
    return run_study(load_study(path), str(path.resolve()), arguments)


def run_study(given: Study | Invalid, source: str, arguments: argparse.Namespace) -> int:
    """Run what is missing of a study.

    Args:
        given: As the file states it.
        source: The file.
        arguments: Of `study run`.

    Returns:
        The exit code: 1 if any run is missing afterwards.
    """
    from study.display import shown
    from study.runner import Options, check, execute
    from study.stages import Stages
    from study.store import TROUBLE
    from study.tracking import Tracking

    study, home = sound(given), default_home()
    check(study)
    only: list[str] = arguments.only
    if arguments.dry_run:
        done = _finished(study, home)
        stages, seen = Stages(study, _scores(done)), _seen(done)
        runs, later = _chosen(stages, only), 0 if only else stages.still_to_come()
        missing = _announced(study, stages, runs, seen, workers=arguments.workers, later=later)
        ending = Ending(study.name, len(runs) + later, as_json=arguments.json)
        return ending.nothing_started(missing, later)
    with ExitStack() as held:
        try:
            held.enter_context(home.lease(study.name))
        except OSError as error:
            complain(f"{error}; free space, or name another folder with STUDY_HOME")
            return 1
        try:
            tracking = Tracking(home, study, source)
        except TROUBLE as error:
            return _store_trouble(home.uri, error)
        held.callback(tracking.release)
        stages = tracking.stages
        runs, later = _chosen(stages, only), 0 if only else stages.still_to_come()
        seen = {key: (record.cell, record.seconds) for key, record in tracking.records.items()}
        missing = _announced(study, stages, runs, seen, workers=arguments.workers, later=later)
        if not missing:
            tracking.close(0.0)
            return Ending(study.name, len(runs), as_json=arguments.json).nothing_to_run()
        options = Options(
            source=Path(source),
            address=arguments.address,
            workers=arguments.workers,
            keep_going=arguments.keep_going,
            verbose=arguments.verbose,
        )
        progress = Progress(total=len(runs) + later, finished=len(runs) - len(missing))
        wanted = (lambda run: _wanted(run, stages, only)) if only else None
        with shown(progress, tracking):
            execute(
                missing,
                tracking,
                progress,
                home=home,
                study=study,
                options=options,
                wanted=wanted,
            )
        runs, later = _chosen(stages, only), 0 if only else stages.still_to_come()
        waiting = {*(tracking.waiting or [])} & {run.key for run in runs}
        lost = [run for run in runs if run.key not in tracking.records.keys() | waiting]
    ending = Ending(study.name, len(runs) + later, as_json=arguments.json)
    return ending.ended(progress, lost=len(lost) + later, waiting=len(waiting), home=home)


def status(arguments: argparse.Namespace) -> int:
    """Show a study's cells: mean, sd, interval, n, collapsed, missing."""
    from analysis import cells, cells_table, load_runs, to_text
    from analysis.tuning import progress

    home = default_home()
    name = study_named(arguments.study, home)
    runs = load_runs(name, home.uri)
    table = cells(runs)
    if arguments.json:
        print(table.to_json(orient="records"))
        return 0
    print(to_text(cells_table(table)))
    if said := progress(runs):
        print(f"\n{said}")
    holder = home.driver(name)
    if home.shared and not holder:
        from study.lease import driver  # MLflow takes a second to load

        holder = driver(home, name)
    print(f"\nbeing run by {holder}" if holder else "\nnot running")
    if not holder and (runs["outcome"] == "missing").any():
        print(f"resume:  {program()} run FILE")
    tell_next(name)
    return 0


def stop(arguments: argparse.Namespace) -> int:
    """Ask the driver of a study to stop; it stays resumable."""
    home = default_home()
    name = study_named(arguments.study, home)
    if not home.shared and name not in home.names():
        raise LookupError(f"no study {name!r} in {home.root}. {did_you_mean(name, home.names())}")
    holder = home.ask_to_stop(name)
    if home.shared and not holder:
        from study.lease import ask_to_stop
        from study.store import TROUBLE

        try:
            holder = ask_to_stop(home, name)
        except TROUBLE as error:
            return _store_trouble(home.uri, error)
    if holder is None:
        print(f"nobody runs study {name!r}")
        return 0
    if not holder.startswith("process"):  # a command that has no runs to stop
        print(f"{holder} has study {name!r}, and ends by itself")
        return 0
    print(f"asked {holder} to stop; runs under way will be done again when the study resumes")
    return 0


def sync(arguments: argparse.Namespace) -> int:
    """Copy a study into another MLflow store, such as the team's server; again copies what is new.

    A finished run that is there with other scores stays as it is; exit code 1 says so.
    """
    from analysis.load import experiment_id
    from study.store import TROUBLE, Store
    from study.sync import Synced
    from study.sync import sync as synced

    home, uri = default_home(), arguments.to
    name = study_named(arguments.study, home)
    if not uri.startswith(("http://", "https://", "sqlite:///")) or uri == home.uri:
        text = "is the store in use" if uri == home.uri else "is no address of a store"
        complain(without_password(f"--to {uri} {text}; name http://HOST:PORT or sqlite:///FILE"))
        return 2
    experiment_id(name, home.uri)

    def told(done: Synced) -> None:
        if (done.copied + done.there) % 100 == 0:
            complain(f"{done.copied + done.there} of {done.total} runs")

    at = home.uri
    try:
        source = Store(at, home.artifacts)
        at = uri
        target = Store(uri, Path(uri.removeprefix("sqlite:///")).absolute().parent / "artifacts")
        done = synced(name, source, target, told=told)
    except TROUBLE as error:
        complain("the same command again goes on from here")
        return _store_trouble(at, error)
    print(f"{done.copied} runs copied, {done.there} were there")
    for run in done.different:
        complain(f"{run} is there with other scores, and stays as it is")
    return 1 if done.different else 0


def gc(arguments: argparse.Namespace) -> int:
    """List what a study left behind that nothing needs, and remove it if you say so.

    Runs that its file no longer asks for, writes that were cut short, what was deleted or refused
    by MLflow, models, checkpoints and errors of no use any more, encoded data not read for long.
    """
    from analysis import load_runs
    from analysis.load import experiment_id
    from study.gc import leftovers, remove, unused
    from study.lease import alone
    from study.store import TROUBLE, Store

    home = default_home()
    name = study_named(arguments.study, home)
    experiment_id(name, home.uri)  # there is such a study
    try:
        store = Store(home.uri, home.artifacts)
        with alone(home, store, name, command="gc") as check:
            runs = load_runs(name, home.uri)  # what finishes before is asked for, too
            missing = runs["outcome"] == "missing"
            left = leftovers(
                home, store, name, asked=set(runs["key"]), failing=set(runs.loc[missing, "cell"])
            )
            left += unused(home)
            for each in left:
                print(f"  {each.why:<32} {_megabytes(each.size):>10}  {each.name}")
            if not left:
                print("nothing to remove")
                return 0
            if not (arguments.yes or _agreed(f"remove {_megabytes(sum(e.size for e in left))}")):
                print("nothing was removed")
                return 0
            remove(left, store, check=check)
    except TROUBLE as error:
        return _store_trouble(home.uri, error)
    print("removed")
    if not store.is_database and any(each.runs for each in left):
        print("runs are marked as deleted; `mlflow gc` on the server frees their space")
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write report.html and the tables of a study as Markdown, CSV and LaTeX.

    In place of a study, or after --against, there may be a CSV of scores from elsewhere.
    """
    from analysis import command
    from analysis.foreign import holds_scores
    from analysis.frame import Malformed

    home = default_home()
    name = study_named(arguments.study, home)
    stored = not holds_scores(name)
    folder = home.study(name) / "report" if stored else command.default_folder(name)
    try:
        path = command.report(name, arguments, folder=folder)
    except Malformed as error:
        complain(error)
        return 2
    print(f"report: {near(path)}")
    print(f"tables: {near(path.parent / 'tables')}")
    if stored:
        print(f"browse: {program()} ui {name}")
    return 0


def table(arguments: argparse.Namespace) -> int:
    """Print a table for a paper, in LaTeX, Markdown, HTML, CSV or plain text."""
    from analysis import command
    from analysis.frame import Malformed

    try:
        name = study_named(arguments.study, default_home())
        print(command.table(name, arguments))
    except Malformed as error:
        complain(error)
        return 2
    return 0


def recommend(arguments: argparse.Namespace) -> int:
    """Say which strategy to use, how sure that is, and the lines to paste.

    Chosen on dev among the configurations that keep within the limits on memory and time. Exit
    code 1 if none does, or none has a score.
    """
    from analysis import by_group, load_runs
    from analysis.groups import sentences
    from analysis.recommend import advice
    from analysis.recommend import recommend as recommended

    home = default_home()
    runs = load_runs(study_named(arguments.study, home), home.uri)
    found = recommended(
        runs,
        max_memory=arguments.max_memory,
        max_seconds=arguments.max_seconds,
        prefer=arguments.prefer,
    )
    found["paste"] = [_to_paste(key, home) for key in found["key"]]
    if arguments.json:
        print(found.to_json(orient="records"))
    else:
        rows: list[Any] = list(found.itertuples())
        for row, said in zip(rows, advice(found), strict=True):
            print(said)
            if row.unfitting:
                print(f"  over the limit: {row.unfitting.replace('; ', ', ')}")
            print("".join(f"  {line}\n" for line in row.paste.splitlines()))
        if len(found) > 1:
            print("\n".join(sentences(by_group(runs))))
    return 0 if (found["recommended"] != "").any() else 1


def listing(arguments: argparse.Namespace) -> int:
    """List the techniques, tasks, models, search spaces, or the studies in the store."""
    rows = _listed(arguments.what)
    if arguments.json:
        print(json.dumps(rows))
        return 0
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['purpose']}")
        if row.get("source"):
            print(f"{'':<{width}}  Source: {row['source']}")
    return 0


def _listed(what: str) -> list[dict[str, str]]:
    if what == "techniques":
        from study.techniques import TECHNIQUES

        return [_described(name, kind.__doc__ or "") for name, kind in TECHNIQUES.items()]
    if what == "tasks":
        from study.tasks import TASKS

        return [
            {
                "name": name,
                "purpose": ", ".join(filter(None, (t.kind, t.metric, t.task_type, _place(t)))),
                "source": t.source.partition(" Not bundled")[0],
            }
            for name, t in TASKS.items()
        ]
    if what == "models":
        from study.catalogue import MODELS, about

        return [about(model) for model in MODELS.values()]
    if what == "spaces":
        from search_spaces import SPACES

        return [
            {"name": name, "purpose": _ranges({**space.technique, **space.recipe})}
            for name, space in SPACES.items()
        ]
    from analysis.load import studies

    return [{"name": name, "purpose": ""} for name in studies(default_home().uri)]


def _place(task: Task) -> str:
    return "bundled" if task.train.startswith("bundled:") else "rows of your own (docs/tasks.md)"


def _ranges(distributions: Mapping[str, Any]) -> str:
    parts = []
    for name, distribution in distributions.items():
        choices = getattr(distribution, "choices", None)
        if choices is None:
            scale = ", log" if distribution.log else ""
            parts.append(f"{name} {distribution.low:g} to {distribution.high:g}{scale}")
        else:
            parts.append(f"{name} in {', '.join(map(str, choices))}")
    return "; ".join(parts)


def _described(name: str, text: str) -> dict[str, str]:
    brief, _, rest = text.partition("\n")
    source = rest.partition("Source:")[2].partition("Differs:")[0]
    return {"name": name, "purpose": brief, "source": " ".join(source.split())}


def convert(arguments: argparse.Namespace) -> int:
    """Turn a checkpoint that exists only as a pickle (or GGUF) into safetensors, once.

    The pickle is read with weights_only=True, so no code in it runs; its SHA-256 is kept.
    """
    from study.catalogue import MODELS
    from study.convert import convert as converted

    known = MODELS.get(arguments.model)
    source = known.checkpoint if known else arguments.model
    new = converted(source, arguments.out, arguments.model_type)
    print(f"written: {near(arguments.out)}")
    print(f"new in each run, since the checkpoint lacks them: {', '.join(new)}")
    where = f"checkpoint={str(arguments.out)!r}"
    use = f"MODELS[{known.name!r}].replace({where})" if known else f"Model(name=..., {where})"
    print(f"in a study file: {use}")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Show one run: what it was, its scores, where its artifacts are."""
    from analysis.load import find_run

    found = find_run(arguments.key, default_home().uri)
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value)
        print(f"{name:<20} {text}")
    print(f"\nnext: {program()} export {found['key']} --out FOLDER    the trained model")
    return 0


def plan(arguments: argparse.Namespace) -> int:
    """Say what a study will take: runs, hours, memory, and the seeds that an effect needs."""
    from analysis.statistics.common import stream
    from analysis.statistics.power import (
        seeds_for_difference,
        seeds_for_ratio,
        seeds_for_robust_ratio,
    )
    from study.plan import at_once, expect, total_seconds
    from study.stages import Stages
    from study.study import problems

    study = sound(load_study(Path(arguments.file)))
    if mistakes := problems(study):
        return _plan_elsewhere(study, mistakes, arguments)
    done = _finished(study, default_home())
    stages = Stages(study, _scores(done))
    runs, cells, later = stages.runs(), stages.cells, stages.still_to_come()
    seen = {str(cell): list(part["seconds"]) for cell, part in done.groupby("cell")}
    expected = expect(cells, seen, gpus=study.gpus)
    workers = at_once(runs, study.gpus, arguments.workers)
    known = total_seconds(runs, expected)
    total = known + stages.seconds_to_come(expected)
    spent = [(run.cell, expected[run.cell.key].seconds * total / known) for run in runs]
    cost = _Cost(study, spent, arguments.hourly)
    scattered = done.groupby(["cell", "stage"])["dev"].std().max()
    sd = arguments.sd or (None if pd.isna(scattered) else float(scattered))
    seeds = ratio = None
    try:
        if arguments.detect is not None:
            if sd is None:
                raise LookupError("--detect needs --sd: this study has no cell with two runs yet")
            seeds = seeds_for_difference(arguments.detect, sd)
        if arguments.ratio is not None:
            ratio = seeds_for_robust_ratio(arguments.ratio, rng=stream("plan"))
    except ValueError as error:  # an effect of nothing, or next to it
        complain(error)
        return 2
    if arguments.json:
        each_cell = {cell.name: vars(expected[cell.key]) for cell in cells}
        answer = {"runs": len(runs) + later, "seconds": total, "cells": each_cell, "seeds": seeds}
        answer["seeds_for_ratio"] = ratio
        answer["price"] = cost.price
        print(json.dumps(answer | ({"stages": stages.sizes()} if study.tune else {})))
        return 0
    _tell_sizes(study, stages)
    for cell in cells:
        each = expected[cell.key]
        took, size = duration(each.seconds), f"{each.memory / 1e9:.1f} GB"
        print(f"  {cell.name:<50} {took:>8} a run, {size} ({each.basis})")
    print(f"\n{duration(total)} on one worker, {duration(total / workers)} on {workers}")
    cost.tell()
    if seeds is not None:
        print(
            f"{seeds} seeds per cell to see a difference of {arguments.detect:g} at sd {sd:.3g} "
            "(two-sided 5 %, power 80 %)"
        )
    if ratio is not None:
        print(
            f"{ratio} seeds per cell to see one sd {arguments.ratio:g} times another (Brown-"
            f"Forsythe, 5 %, power 80 %); {seeds_for_ratio(arguments.ratio)} by an F test, which "
            "failed runs mislead"
        )
    print(f"\nnext: {program()} run {arguments.file}")
    return 0


def ui(arguments: argparse.Namespace) -> int:
    """Open the MLflow UI on the store, at a study's cells; on this machine only."""
    home = default_home()
    page = f"http://127.0.0.1:{arguments.port}/"
    if home.uri.startswith("http"):
        print(f"the store has a server: {home.uri}")
        return 0
    name = study_named(arguments.study, home)
    experiment = _experiment(name, home)
    print(f"cells: {page}#/experiments/{experiment}/runs?viewStateShareKey=cells")
    print("end it with Ctrl-C")
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", home.uri]
    local = ["--default-artifact-root", home.artifacts.as_uri(), "--host", "127.0.0.1"]
    try:
        return subprocess.call([*server, *local, "--port", str(arguments.port), "--workers", "1"])
    except KeyboardInterrupt:
        return 0


def import_blurb(arguments: argparse.Namespace) -> int:
    """Write BLURB's data sets as rows that tasks read."""
    from study.tasks.blurb import import_blurb

    for task, splits in import_blurb(arguments.folder, arguments.out).items():
        print(f"{task}: " + ", ".join(f"{count} {split}" for split, count in splits.items()))
    print(f"now: export STUDY_DATA={arguments.out}")
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Give out a run's model as `transformers` loads it: kept, or trained again bit for bit."""
    from analysis.load import find_run
    from study.export import copy, export, kept

    run = _trusted_run(arguments)
    if source := kept(run.key, default_home()):
        copy(source, arguments.out)
        print(f"model: {near(arguments.out)}, as the study kept it")
        return 0
    try:
        found = find_run(run.key, default_home().uri)
    except LookupError:  # exported from its file before it was ever run
        found = {"metrics": {}, "tags": {}}
    device = "cuda" if "device" in found["tags"] and "cpu" not in found["tags"]["device"] else "cpu"
    print(f"training {run.name} again on {device}")
    outcome = export(run, arguments.out, device)
    print(f"model: {near(arguments.out)}")
    if not found["tags"]:
        print(f"test score {outcome.test:.6f}; the study has not run it yet")
        return 0
    before = found["metrics"].get("test", math.nan)  # a diverged run has none
    same = before == outcome.test or (math.isnan(before) and math.isnan(outcome.test))
    told = "the same as" if same else f"NOT the {before:.6f} of"
    print(f"test score {outcome.test:.6f}, {told} when the study ran it")
    return 0 if same else 1


# --- helpers ----------------------------------------------------------------------------------


def _store_trouble(uri: str, error: Exception) -> int:
    from study.store import in_brief

    complain(f"MLflow at {without_password(uri)}: {in_brief(error)}")
    return 1


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _agreed(deed: str) -> bool:
    if not sys.stdin.isatty():
        complain(f"--yes to {deed}")
        return False
    return input(f"{deed}? [y/N] ").strip().lower() in ("y", "yes")


def _to_paste(key: str, home: Home) -> str:
    """The lines of a study file that state what a run trained with; empty for no key."""
    from analysis.load import find_run
    from study.study import own_code, run_from

    if not key:
        return ""
    spec = find_run(key, home.uri)["spec"]
    if own := own_code(spec):
        return f"# uses {', '.join(own)}: copy it from the study file"
    cell = run_from(spec).cell
    fields = ", ".join(f"{field}={value!r}" for field, value in cell.recipe.canonical().items())
    parts = " + ".join(map(repr, getattr(cell.technique, "parts", [cell.technique])))
    return f"recipe=Recipe({fields}),\ntechniques=[{parts}],"


def _plan_elsewhere(study: Study, mistakes: list[Mistake], arguments: argparse.Namespace) -> int:
    """A plan where data or checkpoints are not at hand, from published sizes; exit code 1."""
    from study.plan import rough

    cells = study.cells()
    expected = [rough(cell, gpus=study.gpus) for cell in cells]
    runs = len(study.runs())
    spent = [
        (cell, each.seconds * len(study.each_seed(cell.task)))
        for cell, each in zip(cells, expected, strict=True)
    ]
    seconds = sum(taken for _, taken in spent)
    cost = _Cost(study, spent, arguments.hourly)
    if arguments.json:
        told = list(map(str, mistakes))
        answer = {"runs": runs, "seconds": seconds, "price": cost.price, "mistakes": told}
        print(json.dumps(answer))
        return 1
    _tell_counts(study)
    places = Counter[tuple[str, str]]()
    for cell, taken in spent:
        places[cell.task.name, cell.model.name] += round(taken)
    for (task, model), taken in places.items():
        print(f"  {task + '/' + model:<45} {duration(taken):>8} for all its runs (rough)")
    print(f"\n{runs} runs, about {cost.hours:,.0f} {cost.unit} hours from published sizes")
    cost.tell()
    complain(SpecError("what the study needs here", mistakes))
    return 1


class _Cost:
    """What a study costs, without the time in which the cluster is idle.

    Attributes:
        hours: Of GPUs, or of cores where runs are on CPUs.
        unit: Which of the two.
        price: None where no hourly price is known.
    """

    def __init__(self, study: Study, spent: list[tuple[Cell, float]], hourly: float | None) -> None:
        """Add up what runs hold.

        Args:
            study: Gives the share of a GPU per run, and the price where none is given.
            spent: Cells, and the seconds of runs in them.
            hourly: Price of a GPU, or of a core where runs are on CPUs.
        """
        held = [
            seconds * (study.gpus or cell.technique.recipe(cell.recipe).threads)
            for cell, seconds in spent
        ]
        self.hours, self.unit = sum(held) / 3600, "GPU" if study.gpus else "core"
        self._hourly = hourly or (study.budget.hourly if study.budget else None)
        self.price = None if self._hourly is None else self.hours * self._hourly

    def tell(self) -> None:
        """Say it, where there is a price."""
        if self.price is not None:
            hours = f"{self.hours:,.1f} {self.unit} hours x {self._hourly:g}"
            print(f"{hours} = {self.price:,.2f}, idle time not counted")


def _tell_counts(study: Study) -> None:
    counts = Counter(len(study.each_seed(cell.task)) for cell in study.cells())
    crossed = " + ".join(f"{cells} cells x {seeds} seeds" for seeds, cells in counts.items())
    print(f"{len(study.runs())} runs: {crossed}\n")


def _tell_sizes(study: Study, stages: "Stages") -> None:
    """How many runs there are; with searches, at most, since choices can coincide."""
    tune, searched = study.tune, [task for task, _ in study.places() for _ in study.searches]
    if tune is None:
        _tell_counts(study)
        return
    tasks = [cell.task for cell in study.cells()] + searched
    counts = Counter(len(study.each_seed(task)) for task in tasks)
    crossed = " + ".join(f"{cells} cells x {seeds} seeds" for seeds, cells in counts.items())
    sizes = stages.sizes()
    print(f"{sum(sizes.values())} runs at most:")
    print(
        f"  tune   {sizes['tune']} runs: {len(searched)} searches x {tune.trials} configurations "
        f"x {len(tune.seeds)} seeds ({tune.sampler})"
    )
    print(f"  final  {sizes['final']} runs: {crossed}\n")


def _chosen(stages: "Stages", only: list[str]) -> list[Run]:
    runs = [run for run in stages.runs() if _wanted(run, stages, only)]
    if not runs:
        raise LookupError(f"no run matches --only {' --only '.join(only)}")
    return runs


def _wanted(run: Run, stages: "Stages", only: list[str]) -> bool:
    wishes = [wish.partition("=") for wish in only]
    return all(
        _matches(run, stages.stage(run.key), name, value=value if equals else None)
        for name, equals, value in wishes
    )


def _matches(run: Run, stage: str, name: str, *, value: str | None) -> bool:
    if value is None:
        return run.key.startswith(name)
    cell = run.cell
    known = {
        "task": cell.task.name,
        "model": cell.model.name,
        "technique": cell.technique.title,
        "configuration": cell.label,
        "stage": stage,
        "seed": run.seed.label.removeprefix("s"),
    }
    if name not in known:
        raise LookupError(f"--only {name}=: no such name. {did_you_mean(name, known)}")
    return known[name] == value


def _announced(
    study: Study,
    stages: "Stages",
    runs: list[Run],
    seen: Mapping[str, tuple[str, float]],
    *,
    workers: int | None,
    later: int,
) -> list[Run]:
    """Say what will be done and how long it should take.

    Args:
        study: All of it.
        stages: The runs that it asks for so far.
        runs: The runs that were asked for.
        seen: Cell key and seconds of every finished run, by its key.
        workers: Runs at once at most.
        later: Runs at most that searches will ask for on the way.

    Returns:
        The runs that are missing.
    """
    from study.plan import at_once, expect, total_seconds

    missing = [run for run in runs if run.key not in seen]
    counts = [f"{len(runs) - len(missing)} done", f"{len(missing)} new"]
    if study.tune:
        tuning = sum(stages.stage(run.key) == "tune" for run in missing)
        counts[1] += f" ({tuning} tune, {len(missing) - tuning} final)"
        counts.append(f"at most {later} once more is decided")
    if retired := len(seen.keys() - {run.key for run in stages.runs()}):
        counts.append(f"{retired} no longer in the file (kept in MLflow)")
    text = f"study {study.name}: {', '.join(counts)}"
    if missing:
        seconds: dict[str, list[float]] = {}
        for cell, spent in seen.values():
            seconds.setdefault(cell, []).append(spent)
        expected = expect(stages.cells, seconds, gpus=study.gpus)
        together = at_once(missing, study.gpus, workers)
        word = "about"
        if any(expected[run.cell.key].basis == "rough" for run in missing):
            word = "roughly"
        work = total_seconds(missing, expected) + (stages.seconds_to_come(expected) if later else 0)
        text += f"; {word} {duration(work / together)} on {together} workers"
    print(text, file=sys.stderr)
    return missing


def _seen(done: Any) -> dict[str, tuple[str, float]]:
    """Cell key and seconds of every finished run, by its key."""
    return dict(zip(done["key"], zip(done["cell"], done["seconds"], strict=True), strict=True))


def _scores(done: Any) -> dict[str, float]:
    """Dev score of every finished run, by its key; the constant answer's where it diverged."""
    return dict(zip(done["key"], done["dev"].fillna(done["floor"]), strict=True))


def _finished(study: Study, home: Home) -> Any:
    """Every run with a result, in the store or on its way there, as `load_finished` gives them.

    A run counts by its key alone, as when a study is run: the file may have changed since.
    """
    from analysis.load import FINISHED, load_finished
    from study.outbox import waiting

    try:
        done = load_finished(study.name, home.uri)
    except LookupError:  # no store yet, or not this study
        done = pd.DataFrame(columns=FINISHED)
    known = set(done["key"])
    rows = [
        {
            "key": entry.key,
            "cell": entry.cell,
            "stage": entry.tags.get("stage", "final"),
            **dict.fromkeys(("dev", "dev_floor", "seconds"), math.nan),
            **{name: value for name, value, epoch in entry.metrics if epoch == 0},
        }
        for entry in waiting(home.study(study.name) / "outbox")
        if entry.key not in known
    ]
    if not rows:
        return done
    new = pd.DataFrame(rows).rename(columns={"dev_floor": "floor"})[FINISHED]
    return pd.concat([done, new], ignore_index=True) if len(done) else new


def _trusted_run(arguments: argparse.Namespace) -> Run:
    """The run to export: from the user's own file, or from the store if it names built-ins only."""
    from analysis.load import find_run
    from study.stages import Stages
    from study.study import own_code, run_from

    if arguments.file:
        study = sound(load_study(Path(arguments.file)))
        done = _finished(study, default_home())
        for run in Stages(study, _scores(done)).runs():
            if run.key.startswith(arguments.key):
                return run
        raise LookupError(f"no run {arguments.key!r} in {arguments.file}")
    spec = find_run(arguments.key, default_home().uri)["spec"]
    if names := own_code(spec):
        text = f"the run uses {', '.join(names)}, code of your own; name its study file with --file"
        raise LookupError(text)
    return run_from(spec)


def _experiment(name: str, home: Home) -> str:
    from analysis.load import experiment_id

    return experiment_id(name, home.uri)
