"""A run's trained model: trained again from its key, bit for bit, and saved for `transformers`."""

import json
from pathlib import Path

import torch

from study.data import prepare
from study.metrics import metric_named
from study.models import Loaded
from study.study import Run
from study.techniques.base import parts_of
from study.train import Outcome, train


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
        ValueError: If `transformers` has no plain model that computes what was trained.
    """
    for part in parts_of(run.cell.technique):
        if part.no_export:
            raise ValueError(f"{run.name} cannot be exported: {part.no_export}")
    task = run.cell.task
    rows = task.load()
    loaded = Loaded(run.cell.model, rows.kind)
    data = prepare(rows, loaded.processor, run.recipe.max_length)
    outcome, model = train(run.setting(data.kind), data.splits, loaded, torch.device(device))
    run.cell.technique.merge(model)
    if labels := rows.kind.labels:
        model.config.id2label = dict(enumerate(labels))  # type: ignore[union-attr]
        model.config.label2id = {name: i for i, name in enumerate(labels)}  # type: ignore[union-attr]
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)  # type: ignore[operator]
    loaded.processor.save_pretrained(folder)
    (folder / "run.json").write_text(json.dumps({"key": run.key, **run.spec()}, indent=1) + "\n")
    (folder / "README.md").write_text(_card(run, outcome))
    return outcome


def _card(run: Run, outcome: Outcome) -> str:
    metric = metric_named(run.cell.task.metric).name
    return f"""# {run.name}

One run of a stability study, trained again from its key `{run.key}`. It is one seed of many: the
study's report says how much its scores scatter.

| | |
|---|---|
| task | {run.cell.task.name} ({run.cell.task.source or "own data"}) |
| starting from | {run.cell.model.checkpoint} ({run.cell.model.source or "licence unknown"}) |
| technique | {run.cell.label} |
| dev {metric} | {outcome.dev:.4f} |
| test {metric} | {outcome.test:.4f} |

`run.json` has everything that decides the result.
"""
