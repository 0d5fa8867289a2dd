"""Stored predictions as arrays: the answers of each run of a cell to the same examples."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.frames.columns import IDENTITY
from analysis.frames.runs import CELL, Split
from analysis.statistics.common import BoolArray, FloatArray, IntArray

Kind = Literal["class", "tag", "set", "text", "value"]

LOGIT = "logit_"


@dataclass(frozen=True)
class Predicted:
    """The predictions of the runs of one cell on one split.

    Attributes:
        cell: Task, model, configuration.
        kind: Of answer: `class`; `tag`, a class per word; `set` of classes; `text`; or `value`.
        keys: Run keys, sorted by seed, then key, shape (n_runs,).
        seeds: Labels of the runs, shape (n_runs,): the seed, or the key where seeds are crossed.
        ids: Example IDs, sorted, shape (n_examples,); for tags with the word's position.
        labels: Gold labels as the file has them, shape (n_examples,).
        classes: The possible answers; for sets and texts those that occur, for sets also as labels;
            empty for values.
        gold: Gold class per example, shape (n_examples,); -1 if it is none of `classes`.
        answers: Class per run and example, shape (n_runs, n_examples); -1 where there is none.
        logits: Shape (n_runs, n_examples, n_classes) for classes and tags, NaN where there is no
            answer; otherwise n_classes is 0.
        values: Shape (n_runs, n_examples) for values, NaN where there is none; otherwise
            (n_runs, 0).
    """

    cell: tuple[str, str, str]
    kind: Kind
    keys: tuple[str, ...]
    seeds: tuple[str, ...]
    ids: npt.NDArray[np.object_]
    labels: npt.NDArray[np.object_]
    classes: tuple[str, ...]
    gold: IntArray
    answers: IntArray
    logits: npt.NDArray[np.float32]
    values: FloatArray

    @cached_property
    def complete(self) -> BoolArray:
        """Labelled examples for which every run has probabilities, shape (n_examples,)."""
        if not self.logits.shape[-1]:
            return np.zeros(len(self.ids), dtype=bool)
        return (self.gold >= 0) & (self.answers >= 0).all(axis=0)

    def log_probabilities(self, examples: BoolArray) -> FloatArray:
        """Log probabilities of the classes, shape (n_runs, n_chosen, n_classes).

        Args:
            examples: Mask of the examples to take, shape (n_examples,).
        """
        chosen = self.logits[:, examples].astype(np.float64)
        return np.asarray(special.log_softmax(chosen, axis=-1))

    def only(self, keys: set[str]) -> "Predicted":
        """The predictions of the runs with these keys."""
        kept = np.array([key in keys for key in self.keys], dtype=bool)
        return replace(
            self,
            keys=tuple(key for key in self.keys if key in keys),
            seeds=tuple(s for s, keep in zip(self.seeds, kept, strict=True) if keep),
            answers=self.answers[kept],
            logits=self.logits[kept],
            values=self.values[kept],
        )


def predicted(predictions: pd.DataFrame, split: Split) -> Iterator[Predicted]:
    """Yield the predictions of each final-stage cell, by task, model and configuration.

    The columns with entries determine the kind of a task's answers: values, texts, tags or
    classes. Classes are sets of classes if some label is not the name of one.

    Args:
        predictions: One row per run and example, as from `load_predictions`.
        split: `dev` or `test`.

    Raises:
        ValueError: If columns are absent, a run has an example twice, or an example of a task has
            two labels, so that the runs did not use the same data.
    """
    if predictions.empty:
        return
    absent = [name for name in (*IDENTITY, "split", "id", "label") if name not in predictions]
    if absent:
        hint = "; these are runs: load_predictions(...) has predictions"
        raise ValueError(
            f"the frame of predictions has no column {', '.join(map(repr, absent))}"
            f"{hint if 'outcome' in predictions else ''}."
        )
    chosen = predictions[(predictions["stage"] != "tune") & (predictions["split"] == split)]
    for task, of_task in chosen.groupby("task", sort=True):
        filled = [name for name in of_task if of_task[name].notna().any()]
        logits = [str(name) for name in filled if str(name).startswith(LOGIT)]
        example = of_task["id"].astype(str)
        if "word" in filled:
            example = example + " " + of_task["word"].astype(int).astype(str)
        labels = of_task.groupby(example)["label"].agg(["first", "nunique"])
        if (labels["nunique"] > 1).any():
            raise ValueError(
                f"task {task!r} has two labels for example {labels['nunique'].idxmax()!r}; its "
                "runs used different data; analyse them separately."
            )
        names = tuple(name.removeprefix(LOGIT) for name in logits)
        if not logits:
            kind: Kind = "text" if "answer" in filled else "value"
        elif "word" in filled:
            kind = "tag"
        else:
            kind = "class" if set(labels["first"].dropna().astype(str)) <= set(names) else "set"
        columns = logits or ["answer" if kind == "text" else "value"]
        about = of_task[[*CELL, "key", "seed"]].assign(example=example)
        for cell, part in about.groupby(CELL, sort=True):
            outputs = of_task.loc[part.index, columns]
            label = (str(cell[0]), str(cell[1]), str(cell[2]))
            yield _cell(label, kind, names, part, outputs=outputs, labels=labels["first"])


def _cell(
    cell: tuple[str, str, str],
    kind: Kind,
    names: tuple[str, ...],
    part: pd.DataFrame,
    *,
    outputs: pd.DataFrame,
    labels: pd.Series,
) -> Predicted:
    runs = part[["key", "seed"]].drop_duplicates("key").sort_values(["seed", "key"])
    keys = tuple(map(str, runs["key"]))
    columns, found = pd.factorize(part["example"], sort=True)
    ids = found.to_numpy(object)
    rows = pd.Index(keys).get_indexer(pd.Index(part["key"].astype(str)))
    position = rows * len(ids) + columns  # in an array of shape (n_runs, n_examples), flattened
    twice = np.bincount(position) > 1
    if twice.any():
        row, column = divmod(int(twice.argmax()), len(ids))
        raise ValueError(f"run {keys[row]} has example {ids[column]!r} more than once.")
    shape = (len(keys), len(ids))
    right = labels.reindex(ids)
    texts = right.astype(object).where(right.notna(), "").astype(str).to_numpy(object)
    answers = np.full(shape, -1)
    logits = np.full((*shape, 0), np.nan, dtype=np.float32)
    values = np.full((len(keys), 0), np.nan)
    if kind == "value":
        values = np.full(shape, np.nan)
        values.flat[position] = outputs.iloc[:, 0].to_numpy("float64")
    elif kind in ("class", "tag"):
        logits = np.full((*shape, len(names)), np.nan, dtype=np.float32)
        logits.reshape(-1, len(names))[position] = outputs.to_numpy("float32")
        known = ~np.isnan(logits).any(axis=-1)
        answers[known] = logits[known].argmax(axis=-1)
    else:
        given = _sets(outputs, names) if kind == "set" else outputs.iloc[:, 0].astype(object)
        known = outputs.notna().all(axis=1).to_numpy()
        # A set that is the label of an example but no run's answer is a class too: a wrong answer
        # there is not one to an example without a label.
        of_labels = texts[right.notna().to_numpy()] if kind == "set" else texts[:0]
        both = np.concatenate([given.to_numpy(object), of_labels])
        names, codes = _coded(both, np.append(known, np.ones(of_labels.size, dtype=bool)))
        answers.flat[position] = codes[: len(given)]
    gold = pd.Index(names).get_indexer(pd.Index(texts)) if names else np.full(len(ids), -1)
    return Predicted(
        cell=cell,
        kind=kind,
        keys=keys,
        seeds=tuple(
            key if pd.isna(seed) else str(seed)
            for key, seed in zip(keys, runs["seed"], strict=True)
        ),
        ids=ids,
        labels=right.to_numpy(object) if kind == "value" else texts,
        classes=names,
        gold=np.where(right.isna().to_numpy(), -1, gold),
        answers=answers,
        logits=logits,
        values=values,
    )


def _sets(logits: pd.DataFrame, names: tuple[str, ...]) -> pd.Series:
    """Per row the classes whose logit is above 0, joined by `|` as in the labels."""
    patterns, codes = np.unique(logits.to_numpy() > 0, axis=0, return_inverse=True)
    texts = ["|".join(np.array(names, dtype=object)[row]) for row in patterns]
    return pd.Series(np.array(texts, dtype=object)[codes.ravel()])


def _coded(given: npt.NDArray[np.object_], known: BoolArray) -> tuple[tuple[str, ...], IntArray]:
    """The distinct answers, sorted, and the code of each row; -1 where there is no answer."""
    names, known_codes = np.unique(given[known].astype(str), return_inverse=True)
    codes = np.full(given.size, -1)
    codes[known] = known_codes
    return tuple(map(str, names)), codes
