"""Tables of what lies inside scores: agreement, examples, ensembles, and sources of scatter."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.frame import CELL
from analysis.load import STREAMS
from analysis.render import (
    NBSP,
    NOTHING,
    Row,
    Table,
    count_text,
    has_width,
    interval_text,
    metric_text,
    p_text,
    score_text,
    table_of,
)
from analysis.stored import ENSEMBLES_OF

SHOWN = 10  # examples of a task

Texts = dict[str, Callable[[Row], str]]

_CELL: Texts = {
    "Task": lambda r: r.task,
    "Model": lambda r: r.model,
    "Configuration": lambda r: r.configuration,
}
_POINTS = 100.0  # shares of examples are printed in points


def agreement_table(found: pd.DataFrame) -> Table:
    """How far seeds agree, as `agreement.agreement` gives it."""
    with_runs = "asked" in found
    columns: Texts = {
        **_CELL,
        "n": lambda r: count_text(r.n, r.asked) if with_runs else f"{r.n}",
        "Examples": lambda r: f"{r.examples}",
        "Disagreement": lambda r: _points(r.disagreement, r.disagreement_low, r.disagreement_high),
        "Fleiss' kappa": lambda r: _number(r.kappa, r.kappa_low, r.kappa_high),
        "Flip rate": lambda r: _points(r.flip_rate, r.flip_rate_low, r.flip_rate_high),
        "Ambiguity of 5": lambda r: _points(r.ambiguity, r.ambiguity_low, r.ambiguity_high),
        "JSD": lambda r: _number(r.jsd, r.jsd_low, r.jsd_high),
        "Right, mixed, wrong": lambda r: _three(r.all_right, r.mixed, r.all_wrong),
    }
    if with_runs:
        columns |= {
            "Collapsed": lambda r: f"{r.collapsed}",
            "Disagreement, not collapsed": lambda r: _points(
                r.clean_disagreement, r.clean_disagreement_low, r.clean_disagreement_high
            ),
        }
    if not found.empty and found["value_sd"].notna().any():
        columns["sd per example"] = lambda r: score_text(r.value_sd, 1)
    notes = [
        "Test examples; shares of them in points. Disagreement: examples on which two runs differ. "
        "Flip rate: runs off an example's most frequent answer. Ambiguity of 5: examples on which "
        "five runs would not all agree. JSD: divergence of the probabilities of two runs, in nats.",
        "Right, mixed, wrong: examples that all runs get right, some, or none; 'mixed' grows with "
        "the number of runs.",
        "Intervals (95%) are over seeds, for the same examples: jackknife, and bootstrap over runs "
        "for disagreement and JSD from 20 runs.",
        "A diverged run has no predictions; a collapsed one counts"
        + (", and is left out in the last column." if with_runs else "."),
    ]
    absent = int(found["absent"].sum()) if not found.empty else 0
    if absent:
        notes.append(f"{absent} answers are absent; each example counts with those it has.")
    details = ["Examples", "JSD", "Ambiguity of 5", "Right, mixed, wrong"]
    return table_of("agreement", "Do seeds agree?", found, columns, notes=notes, details=details)


def flips_table(found: pd.DataFrame) -> Table:
    """The examples of each task that seeds disagree on most, as `agreement.flips` gives them."""
    columns: Texts = {
        **_CELL,
        "Example": lambda r: str(r.id),
        "Label": lambda r: _label(r.label),
        "n": lambda r: f"{r.n}",
        "Most frequent": lambda r: str(r.answer) or score_text(r.value_mean, 1),
        "Off it": lambda r: _percent(r.flip_rate),
        "Right": lambda r: _percent(r.right),
        "Disagreement": lambda r: score_text(r.disagreement, _POINTS),
    }
    shown, nothing = found, NOTHING
    notes = []
    if not found.empty:
        if found["value_sd"].notna().any():
            columns["sd"] = lambda r: score_text(r.value_sd, 1)
        order = found.assign(scatter=found["disagreement"].fillna(found["value_sd"]))
        compared = order["scatter"].notna().any()
        nothing = f"{'Seeds agree on every' if compared else 'One seed answered each'} example."
        order = order[order["scatter"] > 0]
        order = order.sort_values(
            ["task", "scatter", "model", "configuration", "id"],
            ascending=[True, False, True, True, True],
        )
        shown = order.groupby("task").head(SHOWN).drop(columns="scatter")
        notes = [
            f"The {SHOWN} test examples of each task that the seeds of one cell disagree on most, "
            f"of {len(order)} of {len(found)} (cell and example) on which they disagree at all.",
            "n: runs with an answer. Off it: share of them that do not give the most frequent "
            "answer; right: share that gives the label; disagreement: pairs of runs that differ, "
            "in points.",
        ]
    return table_of(
        "flips",
        "Examples that seeds disagree on",
        shown,
        columns,
        notes=notes,
        details=["n"],
        nothing=nothing,
    )


def ensembles_table(found: pd.DataFrame) -> Table:
    """What ensembles of seeds would gain, as `stored.ensembles` gives them."""
    names = [f"{how}_{name}" for how in ("mean", "vote") for name in ("gain", "low", "high")]
    wide = found
    if not found.empty:
        wide = _spread(found, CELL, "k", list(ENSEMBLES_OF), names=names)
    columns: Texts = {
        **_CELL,
        "n": lambda r: f"{r.n}",
        "One seed": lambda r: score_text(r.single, _POINTS),
    }
    for place, k in enumerate(ENSEMBLES_OF):
        for how in ("mean", "vote"):
            columns[f"Gain of {k}, {how}"] = _gain(how, place)
    notes = [
        "Test accuracy in points: of one seed, and what an ensemble of k of the n seeds gains over "
        "one of its members, by the mean of their probabilities or by their votes.",
        "Intervals (95%) are over seeds and examples; a dash where k is above half of n. "
        "An ensemble costs k times the training and the answering.",
    ]
    details = [f"Gain of {k}, vote" for k in ENSEMBLES_OF]
    table = table_of(
        "ensembles",
        "Ensembles of seeds",
        wide,
        columns,
        notes=notes,
        details=details,
        nothing="No cell has predictions of classes.",
    )
    return replace(table, frame=found)


def seeds_and_examples_table(found: pd.DataFrame) -> Table:
    """Differences over seeds and examples, as `stored.seeds_and_examples` gives them."""

    def ends(name: str) -> Callable[[Row], str]:
        return lambda r: interval_text(
            getattr(r, f"{name}_low"), getattr(r, f"{name}_high"), scale=_POINTS
        )

    columns: Texts = {
        **_CELL,
        "Baseline": lambda r: r.baseline,
        "n": lambda r: f"{r.n}, {r.n_baseline}" + (" paired" if r.paired else ""),
        "Examples": lambda r: f"{r.examples}",
        "Difference": lambda r: score_text(r.difference, _POINTS, sign="+"),
        "Over seeds": ends("seeds"),
        "Over examples": ends("examples"),
        "Over both": ends("both"),
        "p": lambda r: p_text(r.p_holm),
    }
    notes = [
        "Difference of mean test accuracies to the baseline, in points, with 95% bootstrap "
        "intervals for other seeds on the same examples, for other examples with the same runs, "
        "and for both. p: one-sided, that there is no gain, over both; Holm-adjusted over the "
        "configurations of a task and model.",
    ]
    return table_of(
        "seeds_and_examples",
        "Gains over seeds and examples",
        found,
        columns,
        notes=notes,
        details=["Baseline", "Examples"],
        nothing="No configuration and its baseline both have predictions of classes.",
    )


def sources_table(found: pd.DataFrame) -> Table:
    """Where scatter comes from, as `sources.sources` gives it; a line per cell."""
    every = [name for name in found["source"].unique() if name]
    wide = found
    if not found.empty:
        names = ["variance", "share", "share_low", "share_high"]
        wide = _spread(found, [*CELL, "of"], "source", every, names=names)
    single = [name for name in STREAMS if name in every]
    together = [name for name in every if name not in single]
    columns: Texts = {
        **_CELL,
        "Metric": lambda r: metric_text(r.metric, r.higher_is_better, scale=r.scale),
        "Of": lambda r: r.of,
        "n": lambda r: count_text(r.n, r.asked),
        "Failed": lambda r: f"{r.failed}",
        "Levels": lambda r: r.levels or "–",
        "sd": lambda r: score_text(r.sd, r.scale if r.of == "score" else 1.0),
        **{name: _share(place) for place, name in enumerate(every)},
        "Note": _why,
    }
    notes = [
        "Share of the variance of test scores (of failure: of whether a run fails) that comes from "
        "each seed stream alone and, with ×, from several together; in per cent with 95% intervals "
        "under normal components, which are wide with few levels.",
        "The highest interaction holds all that is left. A component estimated below 0 is shown as "
        "0 and marked −. sd is over the n runs used; others would leave gaps in the grid.",
    ]
    table = table_of(
        "sources", "Where scatter comes from", wide, columns, notes=notes, details=together
    )
    return replace(table, frame=found)


def _points(value: float, low: float, high: float) -> str:
    return _with_ends(score_text(value, _POINTS), interval_text(low, high, scale=_POINTS))


def _number(value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return "–"
    ends = f"[{low:.3f},{NBSP}{high:.3f}]" if has_width(low, high) else "–"
    return _with_ends(f"{value:.3f}", ends).replace("-", "−")


def _with_ends(value: str, ends: str) -> str:
    return value if ends == "–" else f"{value} {ends}"


def _three(*shares: float) -> str:
    return ", ".join(score_text(share, _POINTS) for share in shares)


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.0%}"


def _label(label: Any) -> str:
    return score_text(label, 1) if isinstance(label, float) else str(label)


def _spread(
    found: pd.DataFrame, rows: list[str], by: str, values: list[Any], *, names: list[str]
) -> pd.DataFrame:
    """One line per `rows`; the columns `names` of each value of `by` get the value's number."""
    wide = found.drop_duplicates(rows).drop(columns=names)
    for place, value in enumerate(values):
        own = found[found[by] == value][[*rows, *names]]
        wide = wide.merge(own.rename(columns={n: f"{n}_{place}" for n in names}), "left", on=rows)
    return wide


def _gain(how: str, place: int) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        names = ("gain", "low", "high")
        gain, low, high = (getattr(row, f"{how}_{name}_{place}") for name in names)
        ends = interval_text(low, high, scale=_POINTS)
        return _with_ends(score_text(gain, _POINTS, sign="+"), ends)

    return text


def _share(place: int) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        names = ("share", "share_low", "share_high", "variance")
        share, low, high, variance = (getattr(row, f"{name}_{place}") for name in names)
        if np.isnan(share):
            return "–"
        below = "−" if variance < 0 else ""
        return f"{share:.0%}{below} [{low:.0%},{NBSP}{high:.0%}]"

    return text


def _why(row: Row) -> str:
    if row.reason == "not_identified":
        return "seeds are not crossed, or too many runs are missing"
    if row.reason == "zero_variance":
        return "all the same"
    return f"{row.fixed} fixed" if row.fixed else ""
