"""Stability over seeds: spread and failure rate of each configuration against the baseline."""

import numpy as np
import pandas as pd

from analysis.frames.runs import (
    BASELINE,
    CELL,
    Row,
    baseline_of,
    blocks,
    checked,
    configurations,
    final,
    scores,
    task_facts,
)
from analysis.per_task.best_strategy import add_holm
from analysis.rendering.builder import SHARED_COLUMNS, Columns, floor_notes, n_note, table_of
from analysis.rendering.formatting import NBSP, number_with_interval, p_text, sd_text
from analysis.rendering.table import Table
from analysis.statistics.common import ALPHA, stream
from analysis.statistics.estimates import sd
from analysis.statistics.intervals import wilson_interval
from analysis.statistics.multiplicity import simultaneous
from analysis.statistics.power import minimum_detectable_ratio as detectable
from analysis.statistics.spread import (
    ENOUGH_FOR_SPREAD,
    fisher,
    sd_ratio,
    sd_ratio_bootstrap,
    spread_test,
)
from analysis.statistics.summary import Scores, spread_interval

COMPARED = (  # columns of the comparison with the baseline
    *("sd ratio [95% CI]", "p (sd)", "sd ratio, without failed runs"),
    *("p (sd), without failed runs", "p (failures)", "Verdict"),
)
SD = "sd: standard deviation of test scores over seeds (n − 1)."


def stability_table(frame: pd.DataFrame) -> Table:
    """The table of `stability`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> names = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(configuration=names, model="any")  # compare the models
        >>> stability_table(stability(runs)).title
        'Stability over seeds'
    """
    columns: Columns = {
        **SHARED_COLUMNS,
        "Configuration": lambda r: r.configuration,
        "n": lambda r: f"{r.n}",
        "sd": lambda r: sd_text(r.sd, r.scale),
        "sd ratio [95% CI]": lambda r: number_with_interval(r.ratio, r.ratio_low, r.ratio_high),
        "p (sd)": lambda r: p_text(r.p_holm),
        "sd ratio, without failed runs": lambda r: number_with_interval(
            r.clean_ratio, r.clean_ratio_low, r.clean_ratio_high
        ),
        "p (sd), without failed runs": lambda r: p_text(r.clean_p_holm),
        "Failed [95% CI of rate]": lambda r: (
            f"{r.failed} of {r.finished} [{r.failure_low:.0%},{NBSP}{r.failure_high:.0%}]"
        ),
        "p (failures)": lambda r: p_text(r.failure_p_holm),
        "Verdict": lambda r: r.verdict,
    }
    if _without_baseline(frame):
        columns = {name: text for name, text in columns.items() if name not in COMPARED}
        notes = [
            n_note(frame),
            SD,
            "There is no baseline to compare with.",
            *floor_notes(frame),
        ]
        return table_of(
            "stability",
            "Stability over seeds",
            frame,
            columns,
            notes=notes,
            details=["n"],
            method=["95% Wilson interval of the failure rate."],
        )
    notes = [
        n_note(frame),
        SD,
        f"sd ratio: to {BASELINE}'s; below 1 is more stable.",
        "Verdict: of the Brown–Forsythe test, Holm-adjusted within a task and model; 'not shown' "
        "does not mean equal.",
        *floor_notes(frame),
    ]
    method = [
        f"A verdict requires {ENOUGH_FOR_SPREAD} seeds and p < 0.05 with and without failed runs. "
        "No scatter: all runs scored the same, and nothing is compared.",
        "95% intervals: F distribution for the ratio (bootstrap where runs failed, from 20 seeds, "
        "and none below); Wilson for the failure rate.",
        "p (sd): Brown–Forsythe test; p (failures): Fisher's exact test; both Holm-adjusted within "
        "a task and model.",
    ]
    if not frame.empty:
        shown = frame[frame["n_both"] >= ENOUGH_FOR_SPREAD]
        sizes = shown[["n_both", "comparisons", "mdr"]].dropna().drop_duplicates()
        ratios = [
            f"{row.mdr:.1f} with {row.n_both:.0f} seeds, {row.comparisons:.0f} compared"
            for row in sizes.sort_values(["n_both", "comparisons"]).itertuples()
        ]
        if ratios:
            method.append(
                "Smallest sd ratio, or its reciprocal, that the adjusted test finds with 80% "
                "power (normal scores, seeds of the smaller cell, number of configurations "
                f"compared with {BASELINE}): {'; '.join(ratios)}."
            )
    details = ["n", "p (sd)", "p (sd), without failed runs", "p (failures)"]
    return table_of(
        "stability",
        "Stability over seeds",
        frame,
        columns,
        notes=notes,
        details=details,
        method=method,
    )


def _without_baseline(frame: pd.DataFrame) -> bool:
    return not frame.empty and bool((frame["verdict"] == "no baseline").all())


def stability(runs: pd.DataFrame) -> pd.DataFrame:
    """Compare the spread and the failure rate of each configuration with the baseline's.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per cell, on test scores: n, sd with its interval (sd_low to sd_high, for all
        configurations of the task and model at once, as whatever has the smallest was chosen for
        it), ratio (sd over the baseline's) with its interval
        and method, Brown-Forsythe p and p_holm over the configurations of the task and model; the
        same as `clean_*` without failed runs; failed, finished, the failure rate with its Wilson
        interval, Fisher's failure_p and failure_p_holm against the baseline; n_both (the smaller n
        of the two cells), comparisons (number of those that p is adjusted for), mdr (minimum
        detectable ratio of sds for these two); and verdict:
        `baseline`, `no baseline`, `no scatter` (all runs of the cell scored the same; there is
        neither ratio nor p), `baseline without scatter` (those of the baseline), `too few seeds`,
        `not shown`, `less scatter` or `more scatter`. The last two need 15 seeds in both cells and
        p_holm below 0.05 both with and without the failed runs.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> names = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(configuration=names, model="any")  # compare the models
        >>> stability(runs)[["configuration", "sd", "ratio", "p_holm", "verdict"]].round(3)
                       configuration     sd  ratio  p_holm    verdict
        0                   Standard  0.066    NaN     NaN   baseline
        1          bert_base_uncased  0.100  1.507   1.000  not shown
        2  microsoft_deberta_v3_base  0.054  0.818   1.000  not shown
        3               roberta_base  0.042  0.638   0.148  not shown
    """
    compared: list[Row] = []
    for task, model, block in blocks(final(checked(runs))):
        test = {label: scores(cell, "test") for label, cell in configurations(block).items()}
        base = baseline_of(block)
        rows: list[Row] = [
            {"task": task, "model": model, "configuration": label}
            | task_facts(block)
            | _spread(own, len(test))
            | _spread_against(own, test.get(base), label=label, base_label=base, key=(task, model))
            for label, own in test.items()
        ]
        add_holm(rows, "p", "clean_p", "failure_p")
        count = sum(not np.isnan(row["p"]) for row in rows)
        for row in rows:
            known = not np.isnan(row["n_both"])
            row["comparisons"] = max(1, count) if known else np.nan
            row["mdr"] = detectable(int(row["n_both"]), max(1, count)) if known else np.nan
        compared += [row | {"verdict": _verdict(row)} for row in rows]
    columns = [*CELL, "n", "sd", "ratio", "p_holm", "verdict"]
    return pd.DataFrame(compared) if compared else pd.DataFrame(columns=columns)


def _spread(cell: Scores, count: int) -> Row:
    failed, finished = int(cell.failed.sum()), cell.finished
    ends = spread_interval(cell, simultaneous(count))
    rate = wilson_interval(failed, finished)
    return {
        "n": cell.all_floor.size,
        "sd": sd(cell.all_floor),
        "sd_low": ends.low,
        "sd_high": ends.high,
        "clean_n": cell.excluded.size,
        "clean_sd": sd(cell.excluded),
        "failed": failed,
        "finished": finished,
        "failure_rate": failed / finished if finished else np.nan,
        "failure_low": rate.low,
        "failure_high": rate.high,
    }


def _spread_against(
    cell: Scores, base: Scores | None, *, label: str, base_label: str, key: tuple[str, str]
) -> Row:
    if base is None or label == base_label:
        numbers = ["ratio", "ratio_low", "ratio_high", "p", "failure_p", "n_both"]
        numbers += ["clean_ratio", "clean_ratio_low", "clean_ratio_high", "clean_p"]
        reason = "no_baseline" if base is None else "is_baseline"
        return dict.fromkeys(numbers, np.nan) | {"method": "", "reason": reason}
    a, b = cell.all_floor, base.all_floor
    if cell.failed.any() or base.failed.any():
        ratio = sd_ratio_bootstrap(a, b, rng=stream(*key, label, "sd_ratio"))
    else:
        ratio = sd_ratio(a, b)
    clean = sd_ratio(cell.excluded, base.excluded)
    failures = [(int(s.failed.sum()), s.finished) for s in (cell, base)]
    return {
        "ratio": ratio.estimate,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "method": ratio.method,
        "reason": ratio.reason,
        "p": spread_test(a, b).p,
        "clean_ratio": clean.estimate,
        "clean_ratio_low": clean.low,
        "clean_ratio_high": clean.high,
        "clean_p": spread_test(cell.excluded, base.excluded).p,
        "failure_p": fisher(*failures).p,
        "n_both": min(a.size, b.size),
    }


def _verdict(row: Row) -> str:
    if row["reason"] in ("is_baseline", "no_baseline"):
        return "baseline" if row["reason"] == "is_baseline" else "no baseline"
    if row["n_both"] < ENOUGH_FOR_SPREAD:
        return "too few seeds"
    if row["reason"] == "zero_variance":
        return "no scatter" if row["sd"] == 0 else "baseline without scatter"
    ratios = np.array([row["ratio"], row["clean_ratio"]])
    if row["p_holm"] < ALPHA and row["clean_p_holm"] < ALPHA:
        if (ratios < 1).all():
            return "less scatter"
        if (ratios > 1).all():
            return "more scatter"
    return "not shown"
