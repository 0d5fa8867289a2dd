"""Trained models on disk: saved by workers, all of them or the best of each cell; exported."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from study.core.atomic import atomic
from study.core.paths import Home
from study.core.spec import Mistake, SpecError
from study.models.loading import Loaded
from study.planning.runs import Run
from study.tasks.kinds import Kind, Regression
from study.tasks.metrics import metric_named
from study.techniques.base import not_exportable
from study.training.prepare import prepare
from study.training.savers import MemorySavers
from study.training.train import Outcome, train

Keep = Literal["none", "best", "all"]


def save(
    model: nn.Module, loaded: Loaded, run: Run, outcome: Outcome, folder: Path, *, key: str
) -> None:
    """Save a trained model so that `transformers` loads it; what was there is replaced.

    The task's rows are not read: a worker need not have them.

    Args:
        model: With the selected weights; what techniques inserted is merged into it.
        loaded: The checkpoint it started from.
        run: Which run trained it.
        outcome: Its outcome.
        folder: Gets safetensors, configuration, tokenizer, `run.json` and a card. Where the task
            standardises its labels, `run.json` has `label_mean` and `label_sd`, and a value in the
            label's unit is output * sd + mean.
        key: The run's; computing it would require the task's rows.

    Raises:
        OSError: If it cannot be written, as on a full disk; nothing partial is left.
    """
    run.cell.technique.merge(model)
    config: Any = model.config
    if labels := loaded.kind.labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {name: number for number, name in enumerate(labels)}
    unit = _unit(loaded.kind)
    about = {"key": key, "dev": outcome.dev, **run.spec(), **unit}
    try:
        with atomic(folder) as partial:
            partial.mkdir()
            model.save_pretrained(partial)  # type: ignore[operator]
            loaded.processor.save_pretrained(partial)
            (partial / "run.json").write_text(json.dumps(about, indent=1) + "\n")
            (partial / "README.md").write_text(_card(run, outcome, key, unit), "utf-8")
            if folder.exists():
                shutil.rmtree(folder)
    except Exception as error:
        if "(os error " in str(error):  # safetensors and tokenizers, in Rust, have no OSError
            raise OSError(str(error)) from error
        raise


class ModelStore:
    """The models that a study keeps; one folder per run, named by its key."""

    def __init__(self, folder: Path, keep: Keep, runs: Iterable[Run]) -> None:
        """Find the models of earlier starts of the study.

        Args:
            folder: Folder of the models; on a cluster one that all machines share.
            keep: Which models to keep.
            runs: The study's. Models of other runs, for instance on data that have changed since,
                are ignored.
        """
        self._folder, self._keep = folder, keep
        self._best: dict[str, tuple[float, str]] = {}  # dev and run key by cell key
        known = {run.key: run for run in runs}
        for path in folder.glob("*/run.json") if keep == "best" else ():
            if run := known.get(path.parent.name):
                self._settle(run, json.loads(path.read_text())["dev"])

    def folder(self, run: Run) -> Path | None:
        """The folder for a run's model; None if no models are kept."""
        return None if self._keep == "none" else self._folder / run.key

    def settle(self, run: Run, outcome: Outcome) -> None:
        """Remove the worse of a cell's two models; a run without a saved model changes nothing."""
        saved = (self._folder / run.key).is_dir()
        if self._keep != "best" or outcome.outcome == "diverged" or not saved:
            return
        self._settle(run, outcome.dev)

    def _settle(self, run: Run, dev: float) -> None:
        """Among equal scores the lowest key stays, so that the order of arrival does not matter."""
        new = (metric_named(run.cell.task.metric).oriented(dev), run.key)
        best, other = sorted(
            (new, self._best.get(run.cell.key, new)), key=lambda model: (-model[0], model[1])
        )
        self._best[run.cell.key] = best
        if other[1] != best[1]:
            shutil.rmtree(self._folder / other[1], ignore_errors=True)


def _unit(kind: Kind) -> dict[str, float]:
    """What converts the outputs of a model with standardised labels; empty for other models."""
    if not isinstance(kind, Regression) or not kind.standardised:
        return {}
    return {"label_mean": kind.mean, "label_sd": kind.sd}


_STANDARDISED = """
The model's output is standardised; a value in the label's unit is
output * {label_sd} + {label_mean}.
"""


def _card(run: Run, outcome: Outcome, key: str, unit: dict[str, float]) -> str:
    metric = metric_named(run.cell.task.metric).name
    output = _STANDARDISED.format(**unit) if unit else ""
    return f"""# {run.name}

One run of a stability study; its key is `{key}`. It is one seed of several: the study's report
says how much the scores vary between seeds.

| | |
|---|---|
| task | {run.cell.task.name} ({run.cell.task.source or "own data"}) |
| starting from | {run.cell.model.checkpoint} ({run.cell.model.source or "licence unknown"}) |
| technique | {run.cell.label} |
| dev {metric} | {outcome.dev:.4f} |
| test {metric} | {outcome.test:.4f} |
{output}
`run.json` has everything that decides the result.
"""


def saved_model(key: str, home: Home) -> Path | None:
    """The folder of a run's model; None if no study kept it."""
    folders = sorted(home.root.glob(f"studies/*/models/{key}"))
    return folders[0] if folders else None


def copy(source: Path, folder: Path) -> None:
    """Copy a kept model."""
    shutil.copytree(source, folder, dirs_exist_ok=True)


def export(run: Run, folder: Path, device: str, *, savers: str = "") -> Outcome:
    """Train a run and save its model with its tokenizer.

    Args:
        run: The run.
        folder: Gets safetensors, configuration, tokenizer, `run.json` and a model card.
        device: `cpu` or `cuda`, as in the study; results differ between the two by rounding.
        savers: How the study's run needed less memory, as its tag `memory_savers` says.

    Returns:
        The outcome, to compare with the one of the study. If a technique's modules were merged into
        the model, the saved model's outputs equal the run's only up to rounding.

    Raises:
        SpecError: If `transformers` has no plain model that computes what was trained.
    """
    if reason := not_exportable(run.cell.technique):
        raise SpecError(run.name, [Mistake("technique", f"cannot be exported: {reason}.")])
    rows = run.cell.task.load()
    loaded = Loaded(run.cell.model, rows.kind)
    data = prepare(rows, loaded.processor, run.recipe.max_length)
    setting = replace(run.setting(data.kind), savers=MemorySavers.from_text(savers))
    outcome, model = train(setting, data.splits, loaded, torch.device(device))
    save(model, loaded, run, outcome, folder, key=run.key)
    return outcome
