"""The trained models of a study: saved by workers, all of them or the best of each cell."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from study.core.atomic import atomic
from study.core.paths import Home
from study.core.spec import Mistake, SpecError
from study.models.loading import Loaded
from study.planning.runs import Run
from study.tasks.metrics import metric_named
from study.techniques.base import not_exportable
from study.training.prepare import prepare
from study.training.train import Outcome, train

Keep = Literal["none", "best", "all"]


def save(
    model: nn.Module, loaded: Loaded, run: Run, outcome: Outcome, folder: Path, *, key: str
) -> None:
    """Save a trained model so that `transformers` loads it; what was there is replaced.

    The task's rows are not read: a worker need not have them.

    Args:
        model: With the weights that count; what techniques inserted is merged into it.
        loaded: The checkpoint it started from.
        run: Which run trained it.
        outcome: What it left.
        folder: Gets safetensors, configuration, tokenizer, `run.json` and a card.
        key: The run's, which only the rows could tell.

    Raises:
        OSError: If it cannot be written, as on a full disk; nothing partial is left.
    """
    run.cell.technique.merge(model)
    config: Any = model.config
    if labels := loaded.kind.labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {name: number for number, name in enumerate(labels)}
    about = {"key": key, "dev": outcome.dev, **run.spec()}
    try:
        with atomic(folder) as partial:
            partial.mkdir()
            model.save_pretrained(partial)  # type: ignore[operator]
            loaded.processor.save_pretrained(partial)
            (partial / "run.json").write_text(json.dumps(about, indent=1) + "\n")
            (partial / "README.md").write_text(_card(run, outcome, key))
            if folder.exists():
                shutil.rmtree(folder)
    except Exception as error:
        if "(os error " in str(error):  # safetensors and tokenizers, in Rust, have no OSError
            raise OSError(str(error)) from error
        raise


class ModelStore:
    """The models that a study keeps, one folder per run, named by its key."""

    def __init__(self, folder: Path, keep: Keep, runs: Iterable[Run]) -> None:
        """Find what an earlier start of the study left.

        Args:
            folder: Holds the models; on a cluster a folder that machines share.
            keep: Which.
            runs: The study's. A model of another, such as one on rows that have changed since,
                is left alone.
        """
        self._folder, self._keep = folder, keep
        self._best: dict[str, tuple[float, str]] = {}  # dev and run key by cell key
        known = {run.key: run for run in runs}
        for found in folder.glob("*/run.json") if keep == "best" else ():
            if run := known.get(found.parent.name):
                self._settle(run, json.loads(found.read_text())["dev"])

    def place(self, run: Run) -> Path | None:
        """Where a run's model goes; None where none is kept."""
        return None if self._keep == "none" else self._folder / run.key

    def settle(self, run: Run, outcome: Outcome) -> None:
        """Discard what is no longer the best of its cell; a model that is not here beats none."""
        here = (self._folder / run.key).is_dir()
        if self._keep != "best" or outcome.outcome == "diverged" or not here:
            return
        self._settle(run, outcome.dev)

    def _settle(self, run: Run, dev: float) -> None:
        """Of equals the lowest key stays, so that the order of arrival does not matter."""
        mine = (metric_named(run.cell.task.metric).oriented(dev), run.key)
        best, other = sorted(
            (mine, self._best.get(run.cell.key, mine)), key=lambda found: (-found[0], found[1])
        )
        self._best[run.cell.key] = best
        if other[1] != best[1]:
            shutil.rmtree(self._folder / other[1], ignore_errors=True)


def _card(run: Run, outcome: Outcome, key: str) -> str:
    metric = metric_named(run.cell.task.metric).name
    return f"""# {run.name}

One run of a stability study; its key is `{key}`. It is one seed of many: the study's report
says how much its scores scatter.

| | |
|---|---|
| task | {run.cell.task.name} ({run.cell.task.source or "own data"}) |
| starting from | {run.cell.model.checkpoint} ({run.cell.model.source or "licence unknown"}) |
| technique | {run.cell.label} |
| dev {metric} | {outcome.dev:.4f} |
| test {metric} | {outcome.test:.4f} |

`run.json` has everything that decides the result.
"""


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
