"""Agreement between the seeds of a cell on the test examples (prediction churn).

All measures apply to classes and to tags, the classes of words. Sets of classes and texts are
compared as a whole, without probabilities. For numeric values there is only the spread per example.
"""

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.predictions import Predicted, predicted
from analysis.frames.runs import CELL, Row, checked, final
from analysis.rendering.builder import CELL_COLUMNS, NOTHING, POINTS, Columns, points_text, table_of
from analysis.rendering.formatting import (
    count_text,
    number_with_interval,
    percent_text,
    score_text,
)
from analysis.rendering.table import Table
from analysis.statistics.common import FloatArray, IntArray, stream
from analysis.statistics.intervals import Interval, no_interval
from analysis.statistics.predictions import (
    ambiguity,
    class_counts,
    consistency,
    disagreement_by_truth,
    disagreement_matrix,
    discrepancy,
    fleiss_kappa,
    flip_rates,
    generalised_jsd,
    jackknife_interval,
    jsd_matrix,
    krippendorff_alpha,
    pair_flip_rates,
    pair_interval,
    pair_mean,
    pairwise_disagreement,
    squared_l2,
)

LEAST_WITH_COLLAPSED = 5  # runs; with fewer, intervals over collapsed runs cover 77 to 88%
AMBIGUITY_OF = 5  # runs, the same for all cells so that they compare whatever their n

_WITH_INTERVAL = (
    "disagreement",
    "kappa",
    "alpha",
    "flip_rate",
    "ambiguity",
    "jsd",
    "generalised_jsd",
    "squared_l2",
)
_WITHOUT = (
    "discrepancy",
    "all_right",
    "all_wrong",
    "mixed",
    "one_right",
    "both_wrong",
    "jsd_error",
    "value_sd",
)

SHOWN = 10  # examples per task in the table
LONGEST = 200  # characters of a text in the table


def agreement(predictions: pd.DataFrame, runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Agreement between the runs of each cell on the test examples.

    Args:
        predictions: One row per run and example, as `load_predictions` gives them.
        runs: One row per run, as `load_runs` gives them, to identify failed runs; optional.

    Returns:
        One row per cell of the final stage: task, model, configuration, kind (of answer, as in
        `predicted`), n (runs), examples, absent (number of missing answers). With 95% intervals
        over seeds as `*_low` and `*_high`: disagreement (share of examples on which two runs
        differ), kappa (Fleiss), alpha (Krippendorff, also with missing answers), flip_rate (share
        of runs that differ from the majority answer), ambiguity (expected share of examples on
        which five runs do not all agree), jsd, generalised_jsd and squared_l2 (of probabilities,
        where every run has them). Where no run collapsed, intervals are for runs that do not; where
        one did, or gives one answer to all examples, there is none below five runs. Without
        intervals: jsd_error (standard error from sampling the
        pairs of runs), discrepancy (largest disagreement of two runs), all_right, all_wrong and
        mixed (shares of examples), one_right and both_wrong (the disagreement split by
        correctness), value_sd (for values: sd over runs, averaged over examples, in the label's
        unit), and reason. NaN where a measure is not defined. Predictions of collapsed runs count;
        diverged runs have none. With `runs` also asked, missing, diverged, collapsed, and all
        measures without the collapsed runs as `clean_*`.

    Raises:
        ValueError: If `runs` or `predictions` is malformed; see `checked` and `predicted`.
        LookupError: If predictions belong to a cell that is not in `runs`.

    Example:
        >>> import pandas as pd
        >>> predictions = pd.DataFrame({
        ...     "task": "nli", "model": "minilm", "configuration": "Standard", "stage": "final",
        ...     "key": [*"rrsstt"], "seed": [0, 0, 1, 1, 2, 2], "split": "test", "id": [*"ababab"],
        ...     "label": "yes", "logit_no": 0.0, "logit_yes": [1, 1, 1, -1, 1, 1],
        ... })
        >>> agreement(predictions)[["n", "examples", "disagreement", "kappa"]].round(3)
           n  examples  disagreement  kappa
        0  3         2         0.333   -0.2
    """
    cells = None if runs is None else dict(list(final(checked(runs)).groupby(CELL)))
    rows: list[Row] = []
    for cell in predicted(predictions, "test"):
        row: Row = dict(zip(CELL, cell.cell, strict=True)) | {"kind": cell.kind}
        collapsed: set[str] = set()
        if cells is not None:
            if cell.cell not in cells:
                raise LookupError(f"the runs have no cell {'/'.join(cell.cell)}.")
            cell_runs = cells[cell.cell]
            collapsed = set(cell_runs.loc[cell_runs["collapsed"], "key"])
        whole = _measured(cell, collapsed)
        row |= whole
        if cells is not None:
            missing, diverged = (cell_runs["outcome"] == name for name in ("missing", "diverged"))
            row |= {"asked": len(cell_runs), "missing": int(missing.sum())}
            row |= {"diverged": int(diverged.sum()), "collapsed": len(collapsed)}
            good = set(cell.keys) - collapsed
            clean = whole if len(good) == len(cell.keys) else _measured(cell.only(good), set())
            row |= {f"clean_{name}": clean[name] for name in _measured_names()}
        rows.append(row)
    columns = [*CELL, "kind", *_measured_names()]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def flips(predictions: pd.DataFrame) -> pd.DataFrame:
    """Every test example of every cell, sorted by the disagreement between seeds.

    Args:
        predictions: One row per run and example, as `load_predictions` gives them.

    Returns:
        One row per cell and example: task, model, configuration, kind, id (for tags with the
        position of the word), label, n (runs with an answer), answer (the majority answer; for ties
        the first class), flip_rate (share of runs that differ from it), disagreement (share of
        pairs of runs that differ), right (share of runs that give the label; NaN for texts, which
        can have several correct answers), and for values value_mean and value_sd instead. Within a
        cell by disagreement or sd, highest first, then id.

    Raises:
        ValueError: If `predictions` is malformed; see `predicted`.

    Example:
        >>> import pandas as pd
        >>> predictions = pd.DataFrame({
        ...     "task": "nli", "model": "minilm", "configuration": "Standard", "stage": "final",
        ...     "key": [*"rrsstt"], "seed": [0, 0, 1, 1, 2, 2], "split": "test", "id": [*"ababab"],
        ...     "label": "yes", "logit_no": 0.0, "logit_yes": [1, 1, 1, -1, 1, 1],
        ... })
        >>> flips(predictions)[["id", "label", "answer", "flip_rate", "right"]].round(3)
          id label answer  flip_rate  right
        0  b   yes    yes      0.333  0.667
        1  a   yes    yes      0.000  1.000
    """
    parts = []
    for cell in predicted(predictions, "test"):
        columns: Row = {"id": cell.ids, "label": cell.labels}
        if cell.kind == "value":
            centre, spread = _of_values(cell.values)
            columns |= {"n": (~np.isnan(cell.values)).sum(axis=0)}
            columns |= {"answer": "", "flip_rate": np.nan, "disagreement": np.nan, "right": np.nan}
            columns |= {"value_mean": centre, "value_sd": spread}
        else:
            counts = class_counts(cell.answers, len(cell.classes))
            n = counts.sum(axis=1)
            columns |= {
                "n": n,
                "answer": np.array(cell.classes, dtype=object)[counts.argmax(axis=1)],
            }
            columns |= {"flip_rate": flip_rates(counts), "disagreement": pair_flip_rates(counts)}
            columns |= {
                "right": _share_right(cell, counts),
                "value_mean": np.nan,
                "value_sd": np.nan,
            }
        part = pd.DataFrame(columns)
        by = "value_sd" if cell.kind == "value" else "disagreement"
        part = part.sort_values([by, "id"], ascending=[False, True], na_position="last")
        for position, (name, value) in enumerate(zip(CELL, cell.cell, strict=True)):
            part.insert(position, name, value)
        part.insert(len(CELL), "kind", cell.kind)
        parts.append(part)
    names = [*CELL, "kind", "id", "label", "n", "answer", "flip_rate", "disagreement", "right"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def disagreements(predictions: pd.DataFrame) -> dict[tuple[str, str, str], pd.DataFrame]:
    """Share of test examples on which each pair of runs differs.

    Args:
        predictions: One row per run and example, as `load_predictions` gives them.

    Returns:
        By task, model and configuration, a square frame whose rows and columns are the seeds;
        cells of numeric values are left out.

    Raises:
        ValueError: If `predictions` is malformed; see `predicted`.

    Example:
        >>> import pandas as pd
        >>> predictions = pd.DataFrame({
        ...     "task": "nli", "model": "minilm", "configuration": "Standard", "stage": "final",
        ...     "key": [*"rrsstt"], "seed": [0, 0, 1, 1, 2, 2], "split": "test", "id": [*"ababab"],
        ...     "label": "yes", "logit_no": 0.0, "logit_yes": [1, 1, 1, -1, 1, 1],
        ... })
        >>> disagreements(predictions)["nli", "minilm", "Standard"]
             0    1    2
        0  0.0  0.5  0.0
        1  0.5  0.0  0.5
        2  0.0  0.5  0.0
    """
    return {
        cell.cell: pd.DataFrame(
            disagreement_matrix(cell.answers, len(cell.classes)),
            index=list(cell.seeds),
            columns=list(cell.seeds),
        )
        for cell in predicted(predictions, "test")
        if cell.kind != "value"
    }


def _measured_names() -> list[str]:
    ends = [f"{name}{end}" for name in _WITH_INTERVAL for end in ("", "_low", "_high")]
    return ["n", "examples", "absent", *ends, *_WITHOUT, "reason"]


def _measured(cell: Predicted, collapsed: Container[str]) -> Row:
    row = _measures(cell)
    if len(cell.keys) < LEAST_WITH_COLLAPSED and _any_collapsed(cell, collapsed):
        row |= {f"{name}{end}": np.nan for name in _WITH_INTERVAL for end in ("_low", "_high")}
    return row


def _any_collapsed(cell: Predicted, known: Container[str]) -> bool:
    """Whether a run is known to have collapsed, or gives one answer where others differ."""
    if any(key in known for key in cell.keys):
        return True
    if cell.kind == "value" or not cell.answers.size or np.ptp(cell.answers) == 0:
        return False
    return bool((np.ptp(cell.answers, axis=1) == 0).any() and cell.answers.shape[1] > 1)


def _measures(cell: Predicted) -> Row:
    runs, examples = len(cell.keys), len(cell.ids)
    row: Row = dict.fromkeys(_measured_names(), np.nan)
    row |= {"n": runs, "examples": examples, "reason": "" if runs > 1 else "n_too_small"}
    if cell.kind == "value":
        row["absent"] = int(np.isnan(cell.values).sum())
        spread = _of_values(cell.values)[1]
        return row | {"value_sd": _known_mean(spread)}
    row["absent"] = int((cell.answers < 0).sum())
    classes = len(cell.classes)
    if runs < 2 or not examples:
        return row
    counts = class_counts(cell.answers, classes)
    distances = disagreement_matrix(cell.answers, classes)
    between = pair_interval(distances, stream(*cell.cell, "disagreement"))
    row |= _with_interval(
        "disagreement", pairwise_disagreement(counts), between, at_least=0, at_most=1
    )
    observed = _of_counts(counts)
    left_out = np.array(
        [_of_counts(counts - (run[:, None] == np.arange(classes))) for run in cell.answers]
    )
    for index, name in enumerate(("kappa", "alpha", "flip_rate", "ambiguity")):
        interval = jackknife_interval(float(observed[index]), left_out[:, index])
        least = -np.inf if name in ("kappa", "alpha") else 0.0
        row |= _with_interval(name, float(observed[index]), interval, at_least=least, at_most=1)
    row["discrepancy"] = float(discrepancy(distances).max())
    row |= _by_truth(cell, counts)
    if (counts.sum(axis=0) > 0).sum() < 2:
        row["reason"] = "zero_variance"
    return row | _of_probabilities(cell)


def _of_counts(counts: IntArray) -> FloatArray:
    """Kappa, alpha, flip rate and ambiguity."""
    rates = flip_rates(counts)
    return np.array(
        [
            fleiss_kappa(counts),
            krippendorff_alpha(counts),
            _known_mean(rates),
            ambiguity(counts, AMBIGUITY_OF),
        ]
    )


def _by_truth(cell: Predicted, counts: IntArray) -> Row:
    """Measures that depend on correctness, over the examples whose label is a class."""
    labelled = cell.gold >= 0
    if cell.kind == "text" or not labelled.any():
        return {}
    gold, counts = cell.gold[labelled], counts[labelled]
    all_right, all_wrong, mixed = consistency(counts, gold)
    one_right, both_wrong = disagreement_by_truth(counts, gold)
    shares = {"all_right": all_right, "all_wrong": all_wrong, "mixed": mixed}
    return shares | {"one_right": one_right, "both_wrong": both_wrong}


def _of_probabilities(cell: Predicted) -> Row:
    """Measures of probabilities, over the examples that every run answers; for classes and tags."""
    answered = np.asarray((cell.answers >= 0).all(axis=0))
    if not cell.logits.shape[-1] or not answered.any():
        return {}
    probabilities = np.exp(cell.log_probabilities(answered))
    rng = stream(*cell.cell, "jsd")
    divergence = jsd_matrix(probabilities, rng)
    estimate, error = pair_mean(divergence)
    row = _with_interval("jsd", estimate, pair_interval(divergence, rng), at_least=0)
    row["jsd_error"] = error
    for name, measure in (("generalised_jsd", generalised_jsd), ("squared_l2", squared_l2)):
        observed, left_out = measure(probabilities)
        interval = jackknife_interval(observed, left_out)
        row |= _with_interval(name, observed, interval, at_least=0)
    return row


def _with_interval(
    name: str, value: float, interval: Interval, *, at_least: float, at_most: float = np.inf
) -> Row:
    if np.isnan(value):
        interval = no_interval("not_identified")
    low = max(interval.low, at_least) if np.isfinite(interval.low) else np.nan
    high = min(interval.high, at_most) if np.isfinite(interval.high) else np.nan
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _share_right(cell: Predicted, counts: IntArray) -> FloatArray:
    n, gold = counts.sum(axis=1), cell.gold
    known = (gold >= 0) & (n > 0) & (cell.kind != "text")
    right = np.take_along_axis(counts, np.maximum(gold, 0)[:, None], axis=1)[:, 0]
    return np.asarray(np.divide(right, n, out=np.full(n.size, np.nan), where=known))


def _of_values(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and sd (n - 1) per example over the runs that have a value, each (n_examples,)."""
    n = (~np.isnan(values)).sum(axis=0)
    unknown = np.full(n.size, np.nan)
    centre = np.divide(np.nansum(values, axis=0), n, out=unknown.copy(), where=n > 0)
    squares = np.nansum((values - centre) ** 2, axis=0)
    return centre, np.sqrt(np.divide(squares, n - 1, out=unknown.copy(), where=n > 1))


def _known_mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan


def agreement_table(frame: pd.DataFrame) -> Table:
    """The table of `agreement`.

    Example:
        >>> import pandas as pd
        >>> predictions = pd.DataFrame({
        ...     "task": "nli", "model": "minilm", "configuration": "Standard", "stage": "final",
        ...     "key": [*"rrsstt"], "seed": [0, 0, 1, 1, 2, 2], "split": "test", "id": [*"ababab"],
        ...     "label": "yes", "logit_no": 0.0, "logit_yes": [1, 1, 1, -1, 1, 1],
        ... })
        >>> agreement_table(agreement(predictions)).title
        'Agreement between seeds'
    """
    with_runs = "asked" in frame
    columns: Columns = {
        **CELL_COLUMNS,
        "n": lambda r: count_text(r.n, r.asked) if with_runs else f"{r.n}",
        "Examples": lambda r: f"{r.examples}",
        "Disagreement": lambda r: points_text(
            r.disagreement, r.disagreement_low, r.disagreement_high
        ),
        "Fleiss' kappa": lambda r: number_with_interval(
            r.kappa, r.kappa_low, r.kappa_high, digits=3
        ),
        "Flip rate": lambda r: points_text(r.flip_rate, r.flip_rate_low, r.flip_rate_high),
        "Ambiguity (5 runs)": lambda r: points_text(r.ambiguity, r.ambiguity_low, r.ambiguity_high),
        "JSD": lambda r: number_with_interval(r.jsd, r.jsd_low, r.jsd_high, digits=3),
        "All correct, mixed, all wrong": lambda r: _three(r.all_right, r.mixed, r.all_wrong),
    }
    if with_runs:
        columns |= {
            "Collapsed": lambda r: f"{r.collapsed}",
            "Disagreement without collapsed runs": lambda r: points_text(
                r.clean_disagreement, r.clean_disagreement_low, r.clean_disagreement_high
            ),
        }
    if not frame.empty and frame["value_sd"].notna().any():
        columns["sd per example"] = lambda r: score_text(r.value_sd, 1)
        if (frame["kind"] == "value").all():
            return _of_values_alone(frame, columns)
    notes = [
        "n: number of runs. Shares of test examples in points, with 95% intervals over seeds. "
        "Disagreement: examples on which two runs differ. Flip rate: runs that differ from an "
        "example's majority answer. Lower means more agreement, except for kappa.",
    ]
    method = [
        "Ambiguity (5 runs): expected share of examples on which five runs do not all agree. JSD: "
        "Jensen–Shannon divergence of the probabilities of two runs, in nats.",
        "All correct, mixed, all wrong: examples answered correctly by all runs, by some, by none; "
        "'mixed' grows with n.",
        "95% intervals over seeds, for the same examples: jackknife; for disagreement and JSD "
        "bootstrap over runs from 20 runs. Where no run collapsed they are for runs that do not; "
        f"where one did, given from {LEAST_WITH_COLLAPSED} runs.",
        "Diverged runs have no predictions; collapsed runs are included"
        + (", except in the last column." if with_runs else "."),
    ]
    absent = int(frame["absent"].sum()) if not frame.empty else 0
    if absent:
        notes.append(f"{absent} answers are missing; each example counts with the answers it has.")
    details = ["Examples", "JSD", "Ambiguity (5 runs)", "All correct, mixed, all wrong"]
    return table_of(
        "agreement",
        "Agreement between seeds",
        frame,
        columns,
        notes=notes,
        details=details,
        method=method,
    )


def _of_values_alone(frame: pd.DataFrame, columns: Columns) -> Table:
    """The table where all answers are values, which are never equal."""
    kept = (*CELL_COLUMNS, "n", "Examples", "Collapsed", "sd per example")
    return table_of(
        "agreement",
        "Agreement between seeds",
        frame,
        {name: text for name, text in columns.items() if name in kept},
        notes=[
            "n: number of runs. sd per example: standard deviation over runs (n − 1), averaged "
            "over test examples, in the label's unit."
        ],
        details=["Examples"],
    )


def flips_table(frame: pd.DataFrame, texts: Mapping[str, Mapping[str, str]] | None = None) -> Table:
    """The table of `flips`: per task, the examples with the most disagreement.

    Args:
        frame: As `flips` returns it.
        texts: Texts of examples that may be shown, by task and ID; they are cut at `LONGEST`
            characters.

    Example:
        >>> import pandas as pd
        >>> predictions = pd.DataFrame({
        ...     "task": "nli", "model": "minilm", "configuration": "Standard", "stage": "final",
        ...     "key": [*"rrsstt"], "seed": [0, 0, 1, 1, 2, 2], "split": "test", "id": [*"ababab"],
        ...     "label": "yes", "logit_no": 0.0, "logit_yes": [1, 1, 1, -1, 1, 1],
        ... })
        >>> flips_table(flips(predictions)).body[0][3:6]
        ('3', 'yes', '33%')
    """
    columns: Columns = {
        **CELL_COLUMNS,
        "Example": lambda r: str(r.id),
        "Label": lambda r: _label(r.label),
        "n": lambda r: f"{r.n}",
        "Majority answer": lambda r: str(r.answer) or score_text(r.value_mean, 1),
        "Flip rate": lambda r: percent_text(r.flip_rate),
        "Correct": lambda r: percent_text(r.right),
        "Disagreement": lambda r: score_text(r.disagreement, POINTS),
    }
    if texts:
        columns["Text"] = lambda r: _text_of(texts.get(r.task, {}), str(r.id))
    shown, empty_caption = frame, NOTHING
    notes = []
    values = bool(len(frame)) and bool((frame["kind"] == "value").all())
    if values:  # numbers have no majority
        for header in ("Flip rate", "Correct", "Disagreement"):
            del columns[header]
        columns["Mean answer"] = columns.pop("Majority answer")
    if not frame.empty:
        if frame["value_sd"].notna().any():
            columns["sd"] = lambda r: score_text(r.value_sd, 1)
        order = frame.assign(scatter=frame["disagreement"].fillna(frame["value_sd"]))
        compared = order["scatter"].notna().any()
        empty_caption = (
            f"{'All seeds agree on every' if compared else 'Only one seed answered each'} example."
        )
        order = order[order["scatter"] > 0]
        order = order.sort_values(
            ["task", "scatter", "model", "configuration", "id"],
            ascending=[True, False, True, True, True],
        )
        shown = order.groupby("task").head(SHOWN).drop(columns="scatter")
        notes = [
            f"The {SHOWN} test examples per task with the most disagreement between seeds. Seeds "
            f"disagree in {len(order)} of {len(frame)} pairs of cell and example.",
            "n: runs with an answer. Flip rate: share of them that differ from the majority "
            "answer. Correct: share that gives the label. Disagreement: pairs of runs that differ, "
            "in points.",
        ]
        if values:
            notes = [
                f"The {SHOWN} test examples per task whose answers differ most over seeds; sd is "
                "over the seeds, in the label's unit. n: runs with an answer."
            ]
    return table_of(
        "flips",
        "Examples with the most disagreement between seeds",
        shown,
        columns,
        notes=notes,
        details=["n"],
        nothing=empty_caption,
    )


def _text_of(texts: Mapping[str, str], example: str) -> str:
    """An example's text; the ID of a word follows that of its sentence."""
    text = texts.get(example) or texts.get(example.rpartition(" ")[0]) or "–"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _three(*shares: float) -> str:
    return ", ".join(score_text(share, POINTS) for share in shares)


def _label(label: Any) -> str:
    return score_text(label, 1) if isinstance(label, float) else str(label)
