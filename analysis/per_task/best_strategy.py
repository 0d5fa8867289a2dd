"""The recommended configuration per task and model: chosen on dev, reported on test."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd

from analysis.frames.runs import (
    BASELINE,
    Row,
    baseline_of,
    blocks,
    checked,
    configurations,
    final,
    orientation,
    scores,
    task_facts,
)
from analysis.per_task.failures import failed_text
from analysis.per_task.retained import retained_columns, retained_notes, retained_of
from analysis.rendering.builder import (
    SHARED_COLUMNS,
    Columns,
    RowTuple,
    floor_notes,
    grid_table,
    n_note,
    starred_notes,
    table_of,
    tried_columns,
    tried_notes,
    versus_text,
)
from analysis.rendering.formatting import (
    ALL_PAIRS,
    DAGGER,
    count_text,
    interval_text,
    mean_sd_text,
    number_text,
    p_text,
    possible,
    rank_range_text,
    score_text,
    sd_interval_text,
)
from analysis.rendering.table import Table
from analysis.statistics.common import ALPHA, DECIMALS, LEVEL, FloatArray, stream
from analysis.statistics.effects import probability_of_improvement
from analysis.statistics.estimates import mean
from analysis.statistics.location import mean_difference, welch
from analysis.statistics.multiplicity import holm, simultaneous
from analysis.statistics.rank_uncertainty import (
    Resampled,
    expected_elsewhere,
    optimism,
    probability_best,
    probability_near_best,
    rank_intervals,
    resampled,
)
from analysis.statistics.summary import Scores, summarise
from analysis.statistics.tie_set import Preference, TieSet, tie_set

ROPE = 0.005  # half a point of a share: means that differ by less are practically equal

_COMPARED = (f"vs {BASELINE}", "p")  # columns of the comparison with the baseline
_VERSUS = (
    f"vs {BASELINE}: difference of test means, 95% Welch interval and Welch's test, Holm-adjusted."
)
_VERSUS_P = f"The p-value is adjusted over all configurations against {BASELINE}, not across rows."
_NO_RUNS = Scores(np.empty(0), np.empty(0, bool), np.empty(0, bool), np.nan)
_DIFFERENCE = ("difference", "difference_low", "difference_high", "p", "clean_p", "improvement")
_NO_DIFFERENCE: Row = dict.fromkeys((*_DIFFERENCE, "p_holm", "clean_p_holm"), np.nan)
_NO_DIFFERENCE |= {"method": "", "reason": "no_baseline"}


def best_strategy_table(frame: pd.DataFrame) -> Table:
    """The table of `best_strategy`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> runs = runs.assign(dev=runs["test"])  # these have no dev scores to choose by
        >>> best_strategy_table(best_strategy(runs)).title
        'Best strategy'
    """
    columns: Columns = {
        **SHARED_COLUMNS,
        "Recommended": lambda r: (r.recommended or "–") + (DAGGER if r.sensitivity else ""),
        "Tied with": _tied,
        **tried_columns(frame),
        "Tie broken by": lambda r: r.decided_by if r.tied and r.recommended else "–",
        "n": lambda r: count_text(r.finished, r.asked),
        "Failed": lambda r: f"{r.failed}",
        "Dev mean": lambda r: score_text(r.dev_mean, r.scale),
        "Test mean ± sd": lambda r: mean_sd_text(r.test_mean, r.test_sd, r.scale),
        "95% CI of mean": lambda r: interval_text(
            *possible(r.test_mean_low, r.test_mean_high, metric=r.metric, scale=r.scale),
            scale=r.scale,
        ),
        "95% CI of sd": lambda r: sd_interval_text(r.test_sd_low, r.test_sd_high, scale=r.scale),
        f"vs {BASELINE}": versus_text,
        "p": lambda r: p_text(r.p_holm) + ("*" if r.method == "permutation" else ""),
        **retained_columns(frame),
        "P(best)": lambda r: number_text(r.probability_best),
        "P(near best)": lambda r: number_text(r.probability_near_best),
        "Possible ranks": lambda r: rank_range_text(r.rank_low, r.rank_high, r.ranked),
        "Best dev mean, bias-corrected": lambda r: score_text(r.dev_corrected, r.scale),
        "Expected test mean": lambda r: score_text(r.expected_test, r.scale),
    }
    alone = not frame.empty and (frame["reason"] == "no_baseline").all()
    if alone:
        columns = {name: text for name, text in columns.items() if name not in _COMPARED}
    notes = [
        n_note(frame),
        "Chosen on dev, reported on test.",
        "± is the standard deviation over seeds (n − 1).",
        f"Tied with: none is significantly better than these on dev ({ALL_PAIRS}).",
        *([] if alone else [_VERSUS, *starred_notes(frame)]),
        *floor_notes(frame),
        *tried_notes(frame),
        *retained_notes(frame),
    ]
    if not frame.empty:
        for row in frame[frame["sensitivity"] != ""].itertuples():
            notes.append(f"{DAGGER} {row.task}, {row.model}: {row.sensitivity}")
    method = [
        *_chosen_notes(frame),
        "In 95% of studies the tied include all that are truly best. Ties are broken by rule, not "
        "by a test.",
        *_unseen_notes(frame),
        *([] if alone else [_VERSUS_P]),
        "P(best), P(near best): share of bootstrap resamples of these runs in which its dev mean "
        "is the best, or within half a point of it. With few seeds it is often near 1 for what is "
        "ahead by chance: the tests for ties decide. Possible ranks: those that they do not "
        "exclude.",
        "Bias-corrected: the best dev mean minus its selection bias. Expected test mean: that of "
        "the configuration with the best dev mean, averaged over resamples.",
        *_transfer_notes(frame),
    ]
    details = [
        "Tie broken by",
        "Dev mean",
        "95% CI of mean",
        "95% CI of sd",
        "P(best)",
        "P(near best)",
    ]
    details += ["Possible ranks", "Best dev mean, bias-corrected", "Expected test mean"]
    return table_of(
        "best_strategy",
        "Best strategy",
        frame,
        columns,
        notes=notes,
        details=details,
        method=method,
    )


def _transfer_notes(frame: pd.DataFrame) -> list[str]:
    """How often dev and test agree on the best, with the rate in published runs for comparison."""
    known = frame.dropna(subset="agrees") if "agrees" in frame else frame
    known = known[known["compared"] > 1] if len(known) else known
    if known.empty:
        return []
    agreed, scale = int(known["agrees"].sum()), known["scale"].unique()
    text = f"The best dev mean also has the best test mean in {agreed} of {len(known)} rows"
    if len(scale) == 1 and agreed < len(known):
        regret = score_text(known["regret"].mean(), scale[0])
        text += f"; averaged over rows it is {regret} worse than the best on test"
    return [
        f"{text}. (In 16,620 published runs on 86 tasks, Gorishniy et al. 2024, the best on dev is "
        "the best on test for 29% of the tasks with one seed and for 35% with fifteen.)"
    ]


def _chosen_notes(frame: pd.DataFrame) -> list[str]:
    """What is done about dev and test scores that come from the same runs."""
    if frame.empty or frame["compared"].max() < 2:
        return []
    return [
        "Dev and test scores are of the same runs, so the one chosen has a test mean that is on "
        "average too good, and a sd that is too small if it was chosen for its small sd. The 95% "
        "intervals of mean, sd and difference allow for that: they hold for all configurations "
        "of a row at once (Bonferroni), whichever is chosen."
    ]


def _unseen_notes(frame: pd.DataFrame) -> list[str]:
    """Failure rates that the tests for ties cannot foresee, as runs may well not show them."""
    seeds = frame["finished"].min() if len(frame) else 0
    if not seeds:
        return []
    rate = 1 - (1 - LEVEL) ** (1 / seeds)
    return [
        f"These tests know only failures that occurred: a configuration that fails in {rate:.0%} "
        f"of its runs shows none in {seeds:.0f} with a probability of 5%, more often at lower "
        "rates, and may then exclude a better one."
    ]


def _tied(row: RowTuple) -> str:
    if not row.recommended:
        return str(row.decided_by)
    if row.unscored and not row.tied:
        return f"not compared yet: {str(row.unscored).replace('; ', ', ')}"
    if row.compared == 1:
        return "nothing to compare"
    return str(row.tied).replace("; ", ", ") or "none"


def best_strategy(runs: pd.DataFrame, prefer: Preference = "stable") -> pd.DataFrame:
    """Which configuration to use for each task and model, and which others are tied with it.

    The choice uses dev scores alone; its test scores are what is reported.

    Args:
        runs: One row per run, as `load_runs` gives them.
        prefer: How ties are broken; see `statistics.tie_set.tie_set`.

    Returns:
        One row per task and model: family (the model's), recommended (from the tie set on dev, by
        `decided_by`; empty where nothing has a score or all runs of the one picked failed, in which
        case `decided_by` says so), best_dev (best dev mean), tied (the other members of the tie
        set, joined by "; "), seeds (finished runs of each member, such as `3 to 5`), untested and
        unscored configurations. For the configuration picked: tried (as in `cells`), n, finished,
        asked, failed, dev_mean, test mean and sd with intervals that hold for all configurations at
        once, since the choice and the test scores are of the same runs, what it retained (see
        `retained_of`), and, on dev, the possible ranks (rank_low to rank_high out of `ranked`),
        probability_best and probability_near_best (within half a point; NaN where scores are not
        shares). For best_dev: dev_corrected, its dev mean minus its selection bias (`optimism`);
        expected_test, the expected test mean when choosing the best dev mean of as many new runs;
        best_test, the configuration with the best test mean; `agrees` (1 if that is best_dev, NaN
        where a test mean is missing); and regret, how far best_dev is from it on test.
        Against the baseline on test: the difference (recommended minus baseline) with its
        Welch interval, again for all at once, p (Welch's, or of a permutation test where a run
        failed: `method`; see `statistics.location.mean_difference`), p_holm (over all
        configurations against the baseline), improvement (probability of improvement) and
        `reason` why any of these is NaN: `no_baseline`, `is_baseline`, `no_choice` (nothing is
        recommended), or the test's own.
        `sensitivity` says what would change if failed runs were left out; empty if nothing.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb' and model.str.startswith('bert')")
        >>> runs = runs.assign(dev=runs["test"])  # these have no dev scores to choose by
        >>> best_strategy(runs)[["model", "recommended", "n", "test_mean"]].round(3)
                       model recommended   n  test_mean
        0    bert_base_cased    Standard  20      0.635
        1  bert_base_uncased    Standard  20      0.644
    """
    rows = [
        _best_of(task, model, block, prefer) for task, model, block in blocks(final(checked(runs)))
    ]
    columns = ["task", "model", "family", "recommended", "tied", "n", "test_mean"]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)


def choice(block: pd.DataFrame, prefer: Preference = "stable") -> TieSet:
    """The tie set on dev of one task and model, and the configuration to use.

    Args:
        block: Rows of `checked` runs that share task and model.
        prefer: How ties are broken.
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
    hopeless = {
        label: failed_text(own.diverged.sum(), own.collapsed.sum())
        for label, own in dev.items()
        if own.finished and own.failed.sum() == own.finished
    }
    all_failed = name in hopeless
    family = str(block["family"].fillna("").iloc[0])
    row: Row = {"task": task, "model": model, "family": family} | facts
    row |= {
        "recommended": "" if all_failed else name,
        "decided_by": _why(chosen, hopeless),
        "best_dev": chosen.best,
        "tied": "; ".join(other for other in chosen.members if other != name),
        "untested": "; ".join(chosen.untested),
        "unscored": "; ".join(chosen.unscored),
        "compared": len(parts),
        "seeds": _span([dev[member].finished for member in chosen.members]),
    }
    row["tried"] = int(parts[name]["tried"].max()) if name else 1
    level = simultaneous(len(on_test))
    summary = asdict(summarise(test.get(name, _NO_RUNS), level=level).whole)
    base = baseline_of(block)
    versus = _against_baseline(test, base, sign=sign)
    none = _NO_DIFFERENCE | {"reason": "no_choice" if base else "no_baseline"}
    versus_baseline = versus.get(row["recommended"], none)
    return (
        row
        | {"n": summary["n"], "finished": dev.get(name, _NO_RUNS).finished}
        | {"asked": len(parts.get(name, ())), "failed": failures.get(name, 0)}
        | {"dev_mean": sign * mean(coded.get(name, _NO_RUNS.all_floor))}
        | {
            f"test_{field}": summary[field]
            for field in ("mean", "mean_low", "mean_high", "sd", "sd_low", "sd_high")
        }
        | retained_of(parts.get(name, block[:0]), level)
        | _rank_uncertainty(name, coded, drawn, rope=ROPE if facts["scale"] == 100 else np.nan)
        | _transfer_to_test(chosen.best, drawn, on_test, sign)
        | versus_baseline
        | {"sensitivity": _sensitivity(chosen, without, versus_baseline)}
    )


def _span(numbers: list[int]) -> str:
    """The range of some numbers, such as `3 to 5`; empty if there are none."""
    ends = sorted({min(numbers), max(numbers)}) if numbers else []
    return " to ".join(map(str, ends))


def no_winner(row: RowTuple) -> str:
    """The first words on a tie set of several: among how many, and with how many seeds.

    Args:
        row: A row of `best_strategy`.

    Returns:
        Words such as `no clear winner among 4 of 5 configurations with 3 seeds each`; empty if the
        tie set has one member.
    """
    if not row.tied:
        return ""
    count = len(str(row.tied).split("; ")) + 1
    some = f"{count} of {row.compared}" if count < row.compared else f"{count}"
    seeds = "1 seed" if row.seeds == "1" else f"{row.seeds} seeds"
    return f"no clear winner among {some} configurations with {seeds} each"


def _why(chosen: TieSet, hopeless: Mapping[str, str]) -> str:
    """How the choice was made, or why there is none.

    Args:
        chosen: The choice.
        hopeless: By configuration of which all runs failed, how many of them in which way.
    """
    if not chosen.best:
        return "no run has a dev score"
    if chosen.recommended not in hopeless:
        return chosen.decided_by
    return f"all runs of {', '.join(f'{name} ({how})' for name, how in hopeless.items())} failed"


def _rank_uncertainty(
    name: str, coded: Mapping[str, FloatArray], drawn: Resampled, *, rope: float
) -> Row:
    """The possible ranks of the recommended configuration on dev, and how often it ranks first."""
    ranks = rank_intervals(coded)
    low, high = ranks.get(name, (np.nan, np.nan))
    near = {} if np.isnan(rope) else probability_near_best(drawn, rope)
    return {
        **{"rank_low": low, "rank_high": high, "ranked": len(ranks)},
        "probability_best": probability_best(drawn).get(name, np.nan),
        "probability_near_best": near.get(name, np.nan),
    }


def _transfer_to_test(best: str, drawn: Resampled, test: Mapping[str, float], sign: float) -> Row:
    """Selection bias and regret of choosing the best dev mean.

    Args:
        best: The configuration with the best dev mean; empty if nothing has a score.
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
    """Each configuration minus the baseline, with simultaneous intervals.

    Args:
        test: Scores by configuration.
        baseline: One of them.
        sign: -1 where lower is better.
    """
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
        gap, method = mean_difference(own, base, simultaneous(len(test) - 1))
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
    add_holm(list(rows.values()), "p", "clean_p")
    return rows


def _sensitivity(chosen: TieSet, without: TieSet, versus: Row) -> str:
    """A sentence on what leaving out the failed runs would change; empty if nothing."""
    if not without.best:
        return ""  # all failed, or nothing has a score
    changes = []
    if without.best != chosen.best:
        changes.append(f"{without.best}, not {chosen.best}, has the best dev mean")
    if set(without.members) != set(chosen.members):
        changes.append(f"those that do not differ significantly are {', '.join(without.members)}")
    before, after = versus["p_holm"] < ALPHA, versus["clean_p_holm"] < ALPHA
    if before != after:
        verdict = "is" if after else "is no longer"
        changes.append(f"the difference to {BASELINE} {verdict} significant")
    return f"Without failed runs {', and '.join(changes)}." if changes else ""


def add_holm(rows: list[Row], *names: str) -> None:
    """Add a column `NAME_holm` per name: p-values Holm-adjusted over the rows."""
    for name in names:
        adjusted = holm(np.array([row[name] for row in rows]))
        for row, value in zip(rows, adjusted, strict=True):
            row[f"{name}_holm"] = float(value)


def strategy_table(frame: pd.DataFrame) -> Table:
    """The recommended configurations of `best_strategy`, tasks by models.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task in ('cb', 'copa') and model == 'roberta_base'")
        >>> runs = runs.assign(dev=runs["test"])  # these have no dev scores to choose by
        >>> strategy_table(best_strategy(runs)).body
        (('cb', 'Standard'), ('copa', 'Standard'))
    """
    frame = frame.sort_values(["family", "model", "task"])

    def text(row: RowTuple) -> str:
        if not row.recommended:
            return "–"
        tied = len(row.tied.split("; ")) if row.tied else 0
        gain = "" if np.isnan(row.difference) else f" {versus_text(row)}"
        return f"{row.recommended}{gain}" + (f", {tied} tied" if tied else "")

    alone = not frame.empty and (frame["reason"] == "no_baseline").all()
    gains = f"; gain over {BASELINE}: difference of test means over seeds with its 95% interval"
    notes = [
        f"Chosen on dev{'' if alone else gains}.",
        f"Tied: number of other configurations that none is significantly better than on dev "
        f"({ALL_PAIRS}).",
    ]
    welch_of_all = (
        "Welch intervals hold for all configurations of a task and model at once (Bonferroni), "
        "since the choice is of the same runs."
    )
    return grid_table(
        ("strategies", "Best strategy by model family"),
        frame,
        {"Task": lambda r: r.task},
        lambda r: f"{r.family}: {r.model}" if r.family else r.model,
        text=text,
        notes=notes,
        method=[] if alone else [welch_of_all],
    )
