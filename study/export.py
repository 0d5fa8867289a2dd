"""A run's trained model: the one that was kept, or trained again from its key, bit for bit."""

import shutil
from pathlib import Path

import torch

from study.data import prepare
from study.home import Home
from study.keeping import save
from study.models import Loaded
from study.spec import Mistake, SpecError
from study.study import Run
from study.techniques.base import not_exportable
from study.train import Outcome, train


def kept(key: str, home: Home) -> Path | None:
    """The folder of a run's model, where a study kept it."""
    found = sorted(home.root.glob(f"studies/*/models/{key}"))
    return found[0] if found else None


def copy(source: Path, folder: Path) -> None:
    """Give out a kept model."""
    shutil.copytree(source, folder, dirs_exist_ok=True)


def export(run: Run, folder: Path, device: str) -> Outcome:
    """Train a run and save its model with its tokenizer.

    Args:
        run: Which.
        folder: Gets safetensors, configuration, tokenizer, `run.json` and a card.
        device: `cpu` or `cuda`, as the study trained it; the other rounds otherwise.

    Returns:
        The outcome, to compare with the one that the study saw. Merging what a technique inserted
        rounds: the saved model's outputs are then equal to the run's up to the last bits.

    Raises:
        SpecError: If `transformers` has no plain model that computes what was trained.
    """
    if reason := not_exportable(run.cell.technique):
        raise SpecError(run.name, [Mistake("technique", f"cannot be exported: {reason}.")])
    rows = run.cell.task.load()
    loaded = Loaded(run.cell.model, rows.kind)
    data = prepare(rows, loaded.processor, run.recipe.max_length)
    outcome, model = train(run.setting(data.kind), data.splits, loaded, torch.device(device))
    save(model, loaded, run, outcome, folder, key=run.key)
    return outcome
