"""Models and rows, in and out."""

import argparse
import math
from pathlib import Path

from study.cli import finished
from study.cli.arguments import Commands
from study.cli.messages import near
from study.core.paths import default_home
from study.planning.runs import Run
from study.planning.study_file import load_study, valid_study


def add_commands(commands: Commands) -> None:
    """Add `study import-blurb`, `export` and `convert`."""
    parser = commands.add("import-blurb", import_blurb)
    parser.add_argument("folder", type=Path, help="the folder `data` of BLURB's data preparation")
    parser.add_argument("--out", type=Path, required=True, help="folder for STUDY_DATA to name")
    parser = commands.add("export", export)
    parser.add_argument("key", help="a run's key")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained model")
    parser.add_argument(
        "--file", help="the study file; needed where the run uses your own technique or task"
    )
    parser = commands.add("convert", convert)
    parser.add_argument(
        "model", help="a name in `study list models`, a folder, a hub id, or a .gguf file"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the converted model")
    parser.add_argument(
        "--model-type",
        choices=["bert", "electra"],
        help="where the checkpoint's configuration names the wrong one of the two",
    )


def convert(arguments: argparse.Namespace) -> int:
    """Turn a checkpoint that exists only as a pickle (or GGUF) into safetensors, once.

    The pickle is read with weights_only=True, so no code in it runs; its SHA-256 is kept.
    """
    from study.models.catalogue import MODELS
    from study.models.convert import convert as converted

    known = MODELS.get(arguments.model)
    source = known.checkpoint if known else arguments.model
    new = converted(source, arguments.out, arguments.model_type)
    print(f"written: {near(arguments.out)}")
    print(f"new in each run, since the checkpoint lacks them: {', '.join(new)}")
    where = f"checkpoint={str(arguments.out)!r}"
    use = f"MODELS[{known.name!r}].replace({where})" if known else f"Model(name=..., {where})"
    print(f"in a study file: {use}")
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
    from analysis.frames.load import find_run
    from study.execution.saved_models import copy, export, saved_model

    run = _trusted_run(arguments)
    if source := saved_model(run.key, default_home()):
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


def _trusted_run(arguments: argparse.Namespace) -> Run:
    """The run to export: from the user's own file, or from the store if it names built-ins only."""
    from analysis.frames.load import find_run
    from study.planning.runs import own_code, run_from
    from study.planning.stages import Stages

    if arguments.file:
        study = valid_study(load_study(Path(arguments.file)))
        done = finished.finished(study, default_home())
        for run in Stages(study, finished.scores(done)).runs():
            if run.key.startswith(arguments.key):
                return run
        raise LookupError(f"no run {arguments.key!r} in {arguments.file}")
    spec = find_run(arguments.key, default_home().uri)["spec"]
    if names := own_code(spec):
        text = f"the run uses {', '.join(names)}, code of your own; name its study file with --file"
        raise LookupError(text)
    return run_from(spec)
