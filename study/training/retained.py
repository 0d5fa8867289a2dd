"""What fine-tuning forgets: scores before and after it on tasks that a model is not trained on.

Source: Biderman et al. 2024 (LoRA Learns Less and Forgets Less), section 3, a model's scores on
    other tasks than that of the training; Chaudhry et al. 2018, forgetting as a difference from an
    earlier score. Differs: a share of the earlier score, which metrics of any unit have in common.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from study.core.atomic import atomic
from study.core.provenance import environment
from study.core.spec import digest
from study.models.families import depths_of
from study.models.loading import Loaded
from study.tasks.kinds import Kind
from study.tasks.kinds.encoded import Encoded
from study.tasks.metrics import Metric
from study.techniques.state import TrainState
from study.training.fit import Read, Setting, answers_of, predict
from study.training.generate import generate


class Skill(NamedTuple):
    """Rows that a model is scored on and not trained on.

    Attributes:
        name: The task's, a dot, and the metric's.
        metric: What scores them.
        kind: What a model's outputs for them mean; its head is that of pretraining.
        rows: The rows, encoded for the model.
        before: The score of the untouched checkpoint; NaN while unknown.
    """

    name: str
    metric: Metric
    kind: Kind
    rows: Encoded
    before: float = math.nan

    def score(self, state: TrainState, tokenizer: Any) -> float:
        """The score of the model as it is now, in the metric's own unit; NaN where undefined."""
        texts = generate(state, self.rows, tokenizer) if self.metric.generates else None
        read = Read(predict(state, self.rows), texts)
        return self.metric(self.rows.gold, answers_of(self.kind, read, self.rows))

    def kept(self, after: float) -> float:
        """The share of the score before that a score after training still has.

        Returns:
            After over before, or where lower is better before over after: of a perplexity the
            probability per token (geometric mean) relative to that before. 1 where nothing is lost,
            more where the model has gained; NaN where the score before is not above 0.
        """
        whole, part = (self.before, after) if self.metric.higher_is_better else (after, self.before)
        return part / whole if self.before > 0 and whole > 0 else math.nan


def facts_of(skills: Sequence[Skill], state: TrainState | None, tokenizer: Any) -> dict[str, float]:
    """What a run has kept of some skills.

    Args:
        skills: With their scores before training.
        state: The model with the weights that count; None where the run has none.
        tokenizer: The checkpoint's.

    Returns:
        `before.<name>` of each skill; with a model also `after.<name>` and `retained.<name>`, see
        `Skill.kept`, and the least of these, `retained`: no gain hides a loss. NaN if any is.
    """
    facts = {f"before.{skill.name}": skill.before for skill in skills}
    if state is None or not skills:
        return facts
    after = [skill.score(state, tokenizer) for skill in skills]
    kept = [skill.kept(score) for skill, score in zip(skills, after, strict=True)]
    facts |= {f"after.{skill.name}": n for skill, n in zip(skills, after, strict=True)}
    facts |= {f"retained.{skill.name}": n for skill, n in zip(skills, kept, strict=True)}
    return facts | {"retained": float(np.min(kept))}


def measured_before(
    skills: Sequence[Skill],
    setting: Setting,
    loaded: Loaded,
    device: torch.device,
    *,
    identity: str,
    folder: Path | None,
    heartbeat: Callable[[], None],
) -> list[Skill]:
    """The skills with the scores of the untouched checkpoint.

    They are the same for all runs on one kind of device, so each is measured once and kept.

    Args:
        skills: What to score.
        setting: Of the run; threads and precision count.
        loaded: The pretrained model.
        device: Where to evaluate.
        identity: That of the checkpoint.
        folder: Has a file per score, named by what it depends on; None keeps nothing.
        heartbeat: Called at every batch.
    """
    recipe = setting.technique.recipe(setting.recipe)
    state: TrainState | None = None
    known = []
    for skill in skills:
        content = {
            "model": identity,
            "rows": _content(skill.rows),
            "metric": skill.metric.name,
            "recipe": [recipe.threads, recipe.precision, recipe.micro_batch_size],
            "environment": environment(device, [skill.metric.score]),
        }
        file = folder / f"{digest(content)}.json" if folder else None
        if (score := _read(file)) is not None:
            known.append(skill._replace(before=score))
            continue
        if state is None:
            torch.set_num_threads(recipe.threads)
            model = loaded.fresh(setting.seed, None).to(device)
            state = TrainState(
                *(model, recipe, setting.seed, depths_of(model), device, setting.kind),
                batches=lambda: iter(()),
                heartbeat=heartbeat,
            )
        known.append(skill._replace(before=skill.score(state, loaded.processor)))
        if file:
            with suppress(OSError), atomic(file, sync=True) as partial:  # the score is known
                partial.write_text(json.dumps(known[-1].before), "utf-8")
    return known


def _read(file: Path | None) -> float | None:
    """A score that was kept; None if there is none, or the file is damaged."""
    with suppress(OSError, ValueError):
        return float(json.loads(file.read_text("utf-8"))) if file else None
    return None


def _content(rows: Encoded) -> str:
    """A digest of everything about encoded rows that a score depends on."""
    hashed = hashlib.sha256(repr(rows.gold).encode())
    for array in (rows.starts, rows.units, *rows.columns.values()):
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()
