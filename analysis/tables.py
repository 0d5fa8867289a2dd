"""Frames of numbers: every cell, the best strategy per task and model, scatter against baseline."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from analysis.frame import (
    BASELINE,
    CELL,
    Split,
    baseline_of,
    blocks,
    checked,
    configurations,
    final,
    scores,
)
from analysis.statistics.cell import Scores, summarise
from analysis.statistics.choice import Preference, TieSet, tie_set
from analysis.statistics.common import ALPHA, DECIMALS, FloatArray, stream
from analysis.statistics.effects import probability_of_improvement
from analysis.statistics.estimates import mean, sd
from analysis.statistics.intervals import wilson_interval
from analysis.statistics.location import mean_difference, welch
from analysis.statistics.multiplicity import holm
from analysis.statistics.power import minimum_detectable_ratio
from analysis.statistics.spread import brown_forsythe, fisher, sd_ratio, sd_ratio_bootstrap
from analysis.statistics.standing import (
    Resampled,
    expected_elsewhere,
    optimism,
    probability_best,
    probability_near_best,
    rank_intervals,
    resampled,
)

ROPE = 0.005  # of scores that are shares: half a point, a difference too small to matter
ENOUGH_FOR_SCATTER = 15  # seeds below which no claim about scatter is made

SPLITS: tuple[Split, ...] = ("test", "dev")

Row = dict[str, Any]


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """What is known of each cell.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per cell of the final stage: task, model, configuration, technique, tried
        (configurations that it was chosen from; 1 if the file states it), metric,
        higher_is_better, scale (what rendering multiplies scores by), asked (runs the study asks
        for), finished (completed or diverged), seconds (mean of a run), missing, diverged,
        collapsed, failure rate with its interval, and the fields of `View` of all finished runs
        as `test_*` and `dev_*`, of those that did not fail as `test_clean_*` and `dev_clean_*`, in
        the metric's own unit. Within a task and model by falling dev mean, then
        name. Empty for no runs.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    rows: list[Row] = []
    for task, model, block in blocks(final(checked(runs))):
        for label, cell in configurations(block).items():
            row: Row = {"task": task, "model": model, "configuration": label}
            row["technique"] = cell["technique"].iloc[0]
            row["tried"] = int(cell["tried"].max())
            row |= task_facts(block)
            both = {split: summarise(scores(cell, split)) for split in SPLITS}
            # Scores from elsewhere may be of one split alone, where a run has finished as well.
            counts = asdict(min(both.values(), key=lambda summary: summary.missing))
            row |= {"asked": len(cell), "finished": len(cell) - counts["missing"]}
            row["seconds"] = float(cell["seconds"].mean())
            for split, summary in both.items():
                whole, clean = asdict(summary.whole), asdict(summary.clean)
                row |= {f"{split}_{field}": value for field, value in whole.items()}
                row |= {f"{split}_clean_{field}": value for field, value in clean.items()}
            row |= {name: counts[name] for name in counts if name not in ("whole", "clean")}
            rows.append(row)
    if not rows:
        return pd.DataFrame(
            columns=[*CELL, "technique", "finished", "test_mean", "test_sd", "dev_mean"]
        )
    found = pd.DataFrame(rows)
    rank = (found["dev_mean"] * np.where(found["higher_is_better"], -1, 1)).round(DECIMALS)
    return (
        found.assign(rank=rank)
        .sort_values(["task", "model", "rank", "configuration"], ignore_index=True)
        .drop(columns="rank")
    )


def best_strategy(runs: pd.DataFrame, prefer: Preference = "stable") -> pd.DataFrame:
    """Which configuration to use for each task and model, and which others may be as good.

    Chosen on dev scores alone; what is then reported of the choice are its test scores.

    Args:
        runs: One row per run, as `load_runs` gives them.
        prefer: What decides within the tie set; see `choice.tie_set`.

    Returns:
        One row per task and model: family (the model's), recommended (from the tie set on dev, by
        `decided_by`; empty where nothing has a score or all runs of the one picked failed, which
        `decided_by` then says), best_dev (highest dev mean), tied (the other members, joined by
        "; "), untested and unscored configurations; of the one picked tried (as in `cells`), n,
        finished, asked, failed, dev_mean, test mean and sd with intervals and, on dev, the ranks
        left open (rank_low, rank_high, of as many as are `ranked`), probability_best and
        probability_near_best (within half a point; NaN where scores are no shares).
        Of best_dev: dev_corrected, its dev mean without what being chosen adds (`optimism`);
        expected_test, the test score to expect of choosing the highest dev mean of as many new
        runs; best_test, what has the highest test mean, `agrees` (1 if that is best_dev, NaN
        where a test mean is missing) and regret, how far best_dev is below it.
        Against the baseline on test the difference (recommended minus baseline) with its
        Welch interval, p (Welch's, or of a permutation test where a run failed: `method`), p_holm
        (over all configurations against the baseline), improvement (probability of improvement) and
        `reason` why something of that is NaN: `no_baseline`, `is_baseline`, or a test's own.
        `sensitivity` says what would change if failed runs were left out; empty if nothing.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    rows = [
        _best_of(task, model, block, prefer) for task, model, block in blocks(final(checked(runs)))
    ]
    columns = ["task", "model", "family", "recommended", "tied", "n", "test_mean"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def stability(runs: pd.DataFrame) -> pd.DataFrame:
    """Does a configuration scatter, or fail, more or less than the baseline?

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per cell, on test scores: n, sd, ratio (sd over the baseline's) with its interval
        and method, Brown-Forsythe p and p_holm over the configurations of the task and model; the
        same as `clean_*` without failed runs; failed, finished, the failure rate with its Wilson
        interval, Fisher's failure_p and failure_p_holm against the baseline; n_both (the smaller n
        of the two cells) and mdr (the ratio of sds
        that so few runs would show); and verdict: `baseline`, `no baseline`, `too few seeds`,
        `not shown`, `less scatter` or `more scatter`. The last two need 15 seeds in both cells and
        p_holm below 0.05 both with and without the failed runs.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    found: list[Row] = []
    for task, model, block in blocks(final(checked(runs))):
        test = {label: scores(cell, "test") for label, cell in configurations(block).items()}
        base = baseline_of(block)
        rows = [
            {"task": task, "model": model, "configuration": label}
            | task_facts(block)
            | _scatter(own)
            | _scatter_against(own, test.get(base), label=label, base_label=base, key=(task, model))
            for label, own in test.items()
        ]
        _adjust(rows, "p", "clean_p", "failure_p")
        found += [row | {"verdict": _verdict(row)} for row in rows]
    columns = [*CELL, "n", "sd", "ratio", "p_holm", "verdict"]
    return pd.DataFrame(found) if found else pd.DataFrame(columns=columns)


def task_facts(block: pd.DataFrame) -> Row:
    """What a task fixes: metric, direction, and scale, which is 100 where scores are shares.

    Args:
        block: Rows of `checked` runs that share a task.
    """
    known = block[["dev", "test", "floor", "test_floor"]]
    negated = known.max().max() < 0  # an error with its sign turned is no share
    largest = known.abs().max().max()
    higher = bool(block["higher_is_better"].iloc[0])
    return {
        "metric": block["metric"].iloc[0],
        "higher_is_better": higher,
        "scale": 100.0 if higher and not (largest > 1 or negated) else 1.0,
    }


def choice(block: pd.DataFrame, prefer: Preference = "stable") -> TieSet:
    """The configurations that may be the best on dev, and the one to use.

    Args:
        block: Rows of `checked` runs that share task and model.
        prefer: What decides within the tie set.
    """
    sign = orientation(block)
    parts = configurations(block)
    dev = {label: scores(cell, "dev") for label, cell in parts.items()}
    return tie_set(
        {label: sign * own.all_floor for label, own in dev.items()},
        failures={label: int(own.failed.sum()) for label, own in dev.items()},
        seconds={label: float(cell["seconds"].mean()) for label, cell in parts.items()},
        prefer=prefer,
    )


def orientation(block: pd.DataFrame) -> float:
    """What scores are multiplied by so that higher is better; rows of `checked` runs of a task."""
    return 1.0 if block["higher_is_better"].iloc[0] else -1.0


def _best_of(task: str, model: str, block: pd.DataFrame, prefer: Preference) -> Row:
    facts, sign = task_facts(block), orientation(block)
    parts = configurations(block)
    dev, test = ({k: scores(c, split) for k, c in parts.items()} for split in ("dev", "test"))
    failures = {label: int(own.failed.sum()) for label, own in dev.items()}
    coded = {label: sign * own.all_floor for label, own in dev.items()}
    clean = {label: sign * own.excluded for label, own in dev.items()}
    seconds = {label: float(cell["seconds"].mean()) for label, cell in parts.items()}
    drawn = resampled(coded, stream(task, model, "resampled"))

    on_test = {name: mean(test[name].all_floor) for name, x in coded.items() if x.size}

    chosen = choice(block, prefer)
    without = tie_set(clean, failures=dict.fromkeys(dev, 0), seconds=seconds, prefer=prefer)
    name = chosen.recommended  # empty if nothing has a score
    hopeless = bool(name) and failures[name] == dev[name].finished
    family = str(block["family"].fillna("").iloc[0])
    row: Row = {"task": task, "model": model, "family": family} | facts
    row |= {
        "recommended": "" if hopeless else name,
        "decided_by": f"all runs of {name} failed" if hopeless else chosen.decided_by,
        "best_dev": chosen.best,
        "tied": "; ".join(other for other in chosen.members if other != name),
        "untested": "; ".join(chosen.untested),
        "unscored": "; ".join(chosen.unscored),
        "compared": len(parts),
    }
    row["tried"] = int(parts[name]["tried"].max()) if name else 1
    summary = asdict(summarise(test.get(name, _NO_RUNS)).whole)
    versus = _against_baseline(test, baseline_of(block), sign=sign)
    versus_baseline = versus.get(row["recommended"], _NO_DIFFERENCE)
    return (
        row
        | {"n": summary["n"], "finished": dev.get(name, _NO_RUNS).finished}
        | {"asked": len(parts.get(name, ())), "failed": failures.get(name, 0)}
        | {"dev_mean": sign * mean(coded.get(name, _NO_RUNS.all_floor))}
        | {
            f"test_{field}": summary[field]
            for field in ("mean", "mean_low", "mean_high", "sd", "sd_low", "sd_high")
        }
        | _standing(name, coded, drawn, rope=ROPE if facts["scale"] == 100 else np.nan)
        | _carried_over(chosen.best, drawn, on_test, sign)
        | versus_baseline
        | {"sensitivity": _sensitivity(chosen, without, versus_baseline)}
    )


_NO_RUNS = Scores(np.empty(0), np.empty(0, bool), np.empty(0, bool), np.nan)
_DIFFERENCE = ("difference", "difference_low", "difference_high", "p", "clean_p", "improvement")
_NO_DIFFERENCE: Row = dict.fromkeys((*_DIFFERENCE, "p_holm", "clean_p_holm"), np.nan)
_NO_DIFFERENCE |= {"method": "", "reason": "no_baseline"}


def _standing(name: str, coded: Mapping[str, FloatArray], drawn: Resampled, *, rope: float) -> Row:
    """Of the recommended configuration on dev: the ranks left open, and how often it is on top."""
    ranks = rank_intervals(coded)
    low, high = ranks.get(name, (np.nan, np.nan))
    near = {} if np.isnan(rope) else probability_near_best(drawn, rope)
    return {
        **{"rank_low": low, "rank_high": high, "ranked": len(ranks)},
        "probability_best": probability_best(drawn).get(name, np.nan),
        "probability_near_best": near.get(name, np.nan),
    }


def _carried_over(best: str, drawn: Resampled, test: Mapping[str, float], sign: float) -> Row:
    """What having the highest dev mean is worth on test.

    Args:
        best: What has it; empty if nothing has a score.
        drawn: The dev scores of the block, resampled.
        test: Test mean of each configuration with a dev score; NaN if it has none.
        sign: -1 where lower is better.
    """
    means = dict(zip(drawn.names, drawn.means, strict=True))
    excess = optimism(drawn)
    row: Row = {"optimism": excess, "dev_corrected": sign * (means.get(best, np.nan) - excess)}
    row["expected_test"] = expected_elsewhere(drawn, test)
    if not best or any(np.isnan(score) for score in test.values()):
        return row | {"best_test": "", "agrees": np.nan, "regret": np.nan}
    top = min(test, key=lambda name: (-round(sign * test[name], DECIMALS), name))
    gap = sign * (test[top] - test[best])
    return row | {"best_test": top, "agrees": float(top == best), "regret": gap}


def _against_baseline(test: Mapping[str, Scores], baseline: str, *, sign: float) -> dict[str, Row]:
    """Each configuration minus the baseline; sign is -1 where lower is better."""
    base = test.get(baseline)
    rows: dict[str, Row] = {}
    for label, own in test.items():
        rows[label] = dict(_NO_DIFFERENCE)
        if base is None:
            continue
        if label == baseline:
            rows[label]["reason"] = "is_baseline"
            continue
        a, b = own.all_floor, base.all_floor
        gap, method = mean_difference(own, base)
        rows[label] = {
            "difference": gap.estimate,
            "difference_low": gap.low,
            "difference_high": gap.high,
            "p": gap.p,
            "clean_p": welch(own.excluded, base.excluded).p,
            "improvement": probability_of_improvement(sign * a, sign * b),
            "method": method,
            "reason": gap.reason,
        }
    _adjust(list(rows.values()), "p", "clean_p")
    return rows


def _sensitivity(chosen: TieSet, without: TieSet, versus: Row) -> str:
    """What leaving out the failed runs would change, as a sentence."""
    if not without.best:
        return ""  # all failed, or nothing has a score
    changes = []
    if without.best != chosen.best:
        changes.append(f"{without.best}, not {chosen.best}, has the best dev mean")
    if set(without.members) != set(chosen.members):
        changes.append(f"the tie set is {', '.join(without.members)}")
    before, after = versus["p_holm"] < ALPHA, versus["clean_p_holm"] < ALPHA
    if before != after:
        verdict = "is" if after else "is no longer"
        changes.append(f"the difference to {BASELINE} {verdict} significant")
    return f"Without failed runs {', and '.join(changes)}." if changes else ""


def _scatter(own: Scores) -> Row:
    failed, finished = int(own.failed.sum()), own.finished
    rate = wilson_interval(failed, finished)
    return {
        "n": own.all_floor.size,
        "sd": sd(own.all_floor),
        "clean_n": own.excluded.size,
        "clean_sd": sd(own.excluded),
        "failed": failed,
        "finished": finished,
        "failure_rate": failed / finished if finished else np.nan,
        "failure_low": rate.low,
        "failure_high": rate.high,
    }


def _scatter_against(
    own: Scores, base: Scores | None, *, label: str, base_label: str, key: tuple[str, str]
) -> Row:
    if base is None or label == base_label:
        numbers = ["ratio", "ratio_low", "ratio_high", "p", "failure_p", "n_both", "mdr"]
        numbers += ["clean_ratio", "clean_ratio_low", "clean_ratio_high", "clean_p"]
        reason = "no_baseline" if base is None else "is_baseline"
        return dict.fromkeys(numbers, np.nan) | {"method": "", "reason": reason}
    a, b = own.all_floor, base.all_floor
    if own.failed.any() or base.failed.any():
        ratio = sd_ratio_bootstrap(a, b, rng=stream(*key, label, "sd_ratio"))
    else:
        ratio = sd_ratio(a, b)
    clean = sd_ratio(own.excluded, base.excluded)
    failures = [(int(s.failed.sum()), s.finished) for s in (own, base)]
    return {
        "ratio": ratio.estimate,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "method": ratio.method,
        "reason": ratio.reason,
        "p": brown_forsythe(a, b).p,
        "clean_ratio": clean.estimate,
        "clean_ratio_low": clean.low,
        "clean_ratio_high": clean.high,
        "clean_p": brown_forsythe(own.excluded, base.excluded).p,
        "failure_p": fisher(*failures).p,
        "n_both": min(a.size, b.size),
        "mdr": minimum_detectable_ratio(min(a.size, b.size)),
    }


def _verdict(row: Row) -> str:
    if row["reason"] in ("is_baseline", "no_baseline"):
        return "baseline" if row["reason"] == "is_baseline" else "no baseline"
    if row["n_both"] < ENOUGH_FOR_SCATTER:
        return "too few seeds"
    ratios = np.array([row["ratio"], row["clean_ratio"]])
    if row["p_holm"] < ALPHA and row["clean_p_holm"] < ALPHA:
        if (ratios < 1).all():
            return "less scatter"
        if (ratios > 1).all():
            return "more scatter"
    return "not shown"


def _adjust(rows: list[Row], *names: str) -> None:
    """Add `NAME_holm` to each row, adjusted over the rows."""
    for name in names:
        adjusted = holm(np.array([row[name] for row in rows]))
        for row, value in zip(rows, adjusted, strict=True):
            row[f"{name}_holm"] = float(value)
