"""`study convert`, `export` and `import-blurb`: model and data conversion."""

import argparse
import math
from pathlib import Path

from study.cli import finished
from study.cli.arguments import Commands
from study.cli.messages import near
from study.core.paths import default_home
from study.planning.runs import Run
from study.planning.study_file import find_study_file, load_study, valid_study


def add_commands(commands: Commands) -> None:
    """Add `study import-blurb`, `export` and `convert`."""
    parser = commands.add("import-blurb", import_blurb)
    parser.add_argument(
        "folder", type=Path, help="folder `data` written by BLURB's data preparation"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="output folder, to be named by STUDY_DATA"
    )
    parser = commands.add("export", export)
    parser.add_argument("key", help="key of the run, or its first digits")
    parser.add_argument(
        "--out", type=Path, required=True, help="output folder of the trained model"
    )
    parser.add_argument(
        "--file", help="study file; required if the run uses your own technique or task"
    )
    parser = commands.add("convert", convert)
    parser.add_argument(
        "model", help="name from `study list models`, folder, hub id, or .gguf file"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="output folder of the converted model"
    )
    parser.add_argument(
        "--model-type",
        choices=["bert", "electra"],
        help="architecture, if the checkpoint's configuration names the wrong one",
    )


def convert(arguments: argparse.Namespace) -> int:
    """Convert a checkpoint that exists only as a pickle (or GGUF) to safetensors.

    The pickle is read with weights_only=True, so that no code in it runs; its SHA-256 is recorded.
    """
    from study.models.catalogue import MODELS
    from study.models.convert import convert as converted

    known = MODELS.get(arguments.model)
    source = known.checkpoint if known else arguments.model
    new = converted(source, arguments.out, arguments.model_type)
    print(f"written: {near(arguments.out)}")
    print(f"not in the checkpoint, so initialised in every run: {', '.join(new)}")
    where = f"checkpoint={str(arguments.out)!r}"
    use = f"MODELS[{known.name!r}].replace({where})" if known else f"Model(name=..., {where})"
    print(f"in a study file: {use}")
    return 0


def import_blurb(arguments: argparse.Namespace) -> int:
    """Convert BLURB's data sets to the files that tasks read."""
    from study.tasks.blurb import import_blurb

    for task, splits in import_blurb(arguments.folder, arguments.out).items():
        print(f"{task}: " + ", ".join(f"{count} {split}" for split, count in splits.items()))
    print(f"next: export STUDY_DATA={arguments.out}")
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Export a run's model for `transformers`: the one that was kept, or retrained bit for bit."""
    from analysis.frames.load import find_run
    from study.execution.saved_models import copy, export, saved_model

    run = _trusted_run(arguments)
    if source := saved_model(run.key, default_home()):
        copy(source, arguments.out)
        print(f"model: {near(arguments.out)}, kept by the study")
        return 0
    try:
        found = find_run(run.key, default_home().uri)
    except LookupError:  # exported from its file before the study has run it
        found = {"metrics": {}, "tags": {}}
    device = "cuda" if "device" in found["tags"] and "cpu" not in found["tags"]["device"] else "cpu"
    print(f"training {run.name} again on {device}")
    savers = found["tags"].get("memory_savers", "")
    outcome = export(run, arguments.out, device, savers=savers)
    print(f"model: {near(arguments.out)}")
    if not found["tags"]:
        print(f"test score {outcome.test:.6f}; the study has not run it yet")
        return 0
    before = found["metrics"].get("test", math.nan)  # a diverged run has none
    same = before == outcome.test or (math.isnan(before) and math.isnan(outcome.test))
    comparison = "identical to" if same else f"DIFFERENT from {before:.6f} in"
    print(f"test score {outcome.test:.6f}, {comparison} the study's run")
    return 0 if same else 1


def _trusted_run(arguments: argparse.Namespace) -> Run:
    """The run to export: from the study file, or from the store if it uses only built-in code.

    Code named in a store is never imported.
    """
    from analysis.frames.load import find_run
    from study.planning.runs import outdated_text, own_code, run_from
    from study.planning.stages import Stages

    if arguments.file:
        study = valid_study(load_study(find_study_file(arguments.file)))
        done = finished.finished(study, default_home())
        for run in Stages(study, finished.scores(done)).runs():
            if run.key.startswith(arguments.key):
                return run
        raise LookupError(f"no run {arguments.key!r} in {arguments.file}")
    found = find_run(arguments.key, default_home().uri)
    if names := own_code(found["spec"]):
        raise LookupError(f"the run uses your own {', '.join(names)}: add --file STUDY_FILE")
    run = run_from(found["spec"])
    if run.key != found["key"] and run.cell.former_key == found["tags"]["cell"]:
        raise LookupError(outdated_text([run.cell]))
    return run
