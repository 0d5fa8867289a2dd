"""Pairwise comparisons of the configurations of a task and model: tests and effect sizes."""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.runs import (
    BLOCK,
    Row,
    blocks,
    checked,
    configurations,
    final,
    scores,
    task_facts,
)
from analysis.rendering.builder import SHARED_COLUMNS, Columns, table_of
from analysis.rendering.formatting import (
    ENTERS,
    PERMUTATION,
    interval_text,
    number_text,
    number_with_interval,
    p_text,
    score_text,
)
from analysis.rendering.table import Table
from analysis.statistics.common import ALPHA, DECIMALS, FloatArray, stream
from analysis.statistics.dominance import DOMINATES, FALSE_ALARMS, order, violation_ratios
from analysis.statistics.effects import (
    Counts,
    cliffs_delta,
    counts,
    hedges_g,
    magnitude,
    probability_of_improvement,
    resampled_improvement,
)
from analysis.statistics.intervals import LEAST_FOR_MEAN, LEAST_FOR_SD, percentile_interval
from analysis.statistics.location import mann_whitney, mean_difference, paired_t, welch, wilcoxon
from analysis.statistics.multiplicity import benjamini_hochberg, holm
from analysis.statistics.resampling import Positions, drawn
from analysis.statistics.spread import sd_ratio, some_scatter, spread_test
from analysis.statistics.summary import Scores

RESAMPLES = 1_000  # per cell; the Monte Carlo error is about 5% of an interval's width
ENOUGH_TO_RESAMPLE = 5  # with fewer runs a bootstrap interval means nothing


def pairs(runs: pd.DataFrame) -> pd.DataFrame:
    """Compare every pair of configurations of a task and model on test.

    Failed runs enter with their score, or the constant predictor's; columns named `clean_*` leave
    them out. Effect sizes and verdicts are oriented towards the first configuration: positive, or
    above 0.5, means that the first is better, whatever the direction of the metric.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per task, model and pair of the final stage, by name: first and second
        (configurations), metric, higher_is_better, scale; for each side n_*, missing_* and
        failed_*; and

        - difference of means (first minus second, in the metric's own unit) with its interval by
          Welch, or by bootstrap where runs failed and both have 50, welch_p, rank_p
          (Mann-Whitney), and reason why there is no test;
        - paired by seed: common (seeds of both), lost (seeds of only one), correlation, paired_p
          (t test), signed_p (Wilcoxon), paired_reason;
        - hedges_g, cliffs_delta and its verbal magnitude, improvement (probability of
          improvement) with its interval, epsilon (violation ratio of almost stochastic order: 0 if
          the first dominates) with its upper bounds epsilon_bound for the first and epsilon_reverse
          for the second, at 5% over the pairs of the block (where runs failed, from 20 runs);
        - ratio of sds with its interval (F; where runs failed bootstrap, from 20 runs), spread_p
          (Brown-Forsythe);
        - p (of the permutation test where a run failed, else Welch's: `method`; see
          `statistics.location.mean_difference`), p_holm over the pairs of the block, p_bh
          over all pairs of all blocks, spread_p_holm, and verdict: `better`, `worse`, `not shown`
          (p_holm is not below 0.05) or `not tested`;
        - the same without failed runs: clean_n_* of each side, clean_difference with its interval,
          clean_p (Welch), clean_p_holm, clean_p_bh, clean_verdict, clean_ratio, clean_spread_p
          and clean_spread_p_holm.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> names = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(configuration=names, model="any")  # compare the models
        >>> pairs(runs)[["first", "second", "difference", "verdict"]].round(3).head(3)
              first                     second  difference    verdict
        0  Standard          bert_base_uncased      -0.009  not shown
        1  Standard  microsoft_deberta_v3_base      -0.115      worse
        2  Standard               roberta_base      -0.043  not shown
    """
    runs = final(checked(runs))
    rows = [row for task, model, block in blocks(runs) for row in _of_block(task, model, block)]
    if not rows:
        return pd.DataFrame(columns=[*BLOCK, "first", "second", "difference", "p_holm", "verdict"])
    frame = pd.DataFrame(rows)
    for name in ("p", "clean_p"):
        frame[f"{name}_bh"] = benjamini_hochberg(np.asarray(frame[name], dtype=np.float64))
        frame[f"{name}_holm"] = frame.groupby(BLOCK)[name].transform(_holm)
    for name in ("spread_p", "clean_spread_p"):
        frame[f"{name}_holm"] = frame.groupby(BLOCK)[name].transform(_holm)
    for view in ("", "clean_"):
        frame[f"{view}verdict"] = _verdicts(frame, view)
    return frame


def _holm(p: "pd.Series[float]") -> FloatArray:
    return holm(np.asarray(p, dtype=np.float64))


def _verdicts(frame: pd.DataFrame, view: str) -> Any:
    p = frame[f"{view}p_holm"]
    gain = frame[f"{view}difference"] * np.where(frame["higher_is_better"], 1, -1)
    choices = [p.isna(), ~(p < ALPHA), gain > 0]
    return np.select(choices, ["not tested", "not shown", "better"], "worse")


@dataclass(frozen=True)
class _Side:
    """One configuration of a pair, its scores oriented so that higher is better.

    Cached, since each configuration enters several pairs.
    """

    scores: Scores
    sign: float
    seeds: FloatArray  # score by seed of the block, NaN where missing; empty if a seed repeats
    key: tuple[str, ...]

    @cached_property
    def whole(self) -> FloatArray:
        return np.sort(self.sign * self.scores.all_floor)

    @cached_property
    def clean(self) -> FloatArray:
        return np.sort(self.sign * self.scores.excluded)

    @cached_property
    def failed(self) -> int:
        return int(self.scores.failed.sum())

    @cached_property
    def positions(self) -> Positions:
        rng = stream(*self.key, "pairs")
        return drawn(self.whole.size, resamples=RESAMPLES, rng=rng)

    @cached_property
    def resampled(self) -> FloatArray:
        """Ascending in each column, shape (n, RESAMPLES)."""
        return np.round(self.whole, DECIMALS)[self.positions]

    @cached_property
    def counts(self) -> Counts:
        return counts(self.whole, self.positions)

    @cached_property
    def means(self) -> FloatArray:
        return np.asarray(self.resampled.mean(axis=0))

    @cached_property
    def spreads(self) -> FloatArray:
        return some_scatter(self.resampled.std(axis=0, ddof=1))


def _of_block(task: str, model: str, block: pd.DataFrame) -> list[Row]:
    facts = {"task": task, "model": model} | task_facts(block)
    sides = _sides(task, model, block)
    label_pairs = list(combinations(sides, 2))
    return [
        facts
        | {"first": first, "second": second}
        | _counted(sides[first], sides[second])
        | _location(sides[first], sides[second])
        | _by_seed(sides[first], sides[second])
        | _effects(sides[first], sides[second], comparisons=len(label_pairs))
        | _spread(sides[first], sides[second])
        | _clean(sides[first], sides[second])
        for first, second in label_pairs
    ]


def _sides(task: str, model: str, block: pd.DataFrame) -> dict[str, _Side]:
    sign = 1.0 if block["higher_is_better"].iloc[0] else -1.0
    block = block.assign(number=block.groupby(["head", "order", "noise"], dropna=False).ngroup())
    sides = {}
    for label, cell in configurations(block).items():
        test = scores(cell, "test")
        seeds = np.full(block["number"].max() + 1, np.nan)
        seeds[cell["number"]] = sign * test.coded
        if cell["number"].duplicated().any():
            seeds = np.empty(0)
        sides[label] = _Side(test, sign, seeds, (task, model, label))
    return sides


def _counted(a: _Side, b: _Side) -> Row:
    return {
        f"{name}_{position}": value
        for position, side in (("first", a), ("second", b))
        for name, value in (
            ("n", side.whole.size),
            ("missing", side.scores.values.size - side.scores.finished),
            ("failed", side.failed),
            ("clean_n", side.clean.size),
        )
    }


def _location(a: _Side, b: _Side) -> Row:
    gap, test = mean_difference(a.scores, b.scores)  # as scored, whatever the metric's direction
    low, high, method = gap.low, gap.high, "" if gap.reason else "Welch"
    if test == "permutation" and min(a.whole.size, b.whole.size) >= LEAST_FOR_MEAN:
        low, high, method, _ = percentile_interval(a.means - b.means)
        low, high = (low, high) if a.sign > 0 else (-high, -low)
    return {
        "difference": gap.estimate,
        "difference_low": low,
        "difference_high": high,
        "interval": method,
        "reason": gap.reason,
        "p": gap.p,
        "method": test,
        "welch_p": welch(a.whole, b.whole).p,
        "rank_p": mann_whitney(a.whole, b.whole).p,
    }


def _by_seed(a: _Side, b: _Side) -> Row:
    if not (a.seeds.size and b.seeds.size):
        return _UNPAIRED
    both = ~np.isnan(a.seeds) & ~np.isnan(b.seeds)
    either = ~np.isnan(a.seeds) | ~np.isnan(b.seeds)
    common = int(both.sum())
    if not common:
        return _UNPAIRED | {"common": 0, "lost": int(either.sum())}
    x, y = a.seeds[both], b.seeds[both]
    paired = paired_t(x, y)
    sds = x.std() * y.std()
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return {
        "common": common,
        "lost": int(either.sum()) - common,
        "correlation": float(covariance / sds) if round(sds, 2 * DECIMALS) else np.nan,
        "paired_p": paired.p,
        "signed_p": wilcoxon(x, y).p,
        "paired_reason": paired.reason,
    }


_UNPAIRED: Row = {"common": 0, "lost": np.nan, "correlation": np.nan}
_UNPAIRED |= {"paired_p": np.nan, "signed_p": np.nan, "paired_reason": "unpaired"}


def _effects(a: _Side, b: _Side, *, comparisons: int) -> Row:
    delta = cliffs_delta(a.whole, b.whole)
    low = high = np.nan
    ratios = np.empty(0)
    if min(a.whole.size, b.whole.size) >= ENOUGH_TO_RESAMPLE:
        low, high, *_ = percentile_interval(resampled_improvement(a.counts, b.counts))
        ratios = violation_ratios(a.resampled, b.resampled)
    failed = bool(a.failed or b.failed)
    dominance = order(a.whole, b.whole, ratios, failed=failed, comparisons=comparisons)
    return {
        "hedges_g": hedges_g(a.whole, b.whole),
        "cliffs_delta": delta,
        "magnitude": magnitude(delta),
        "improvement": probability_of_improvement(a.whole, b.whole),
        "improvement_low": low,
        "improvement_high": high,
        "epsilon": dominance.epsilon,
        "epsilon_bound": dominance.bound,
        "epsilon_reverse": dominance.reverse,
    }


def _spread(a: _Side, b: _Side) -> Row:
    ratio = sd_ratio(a.whole, b.whole)
    low, high, method = ratio.low, ratio.high, ratio.method
    if (a.failed or b.failed) and method:
        low, high, method = np.nan, np.nan, ""
        if min(a.whole.size, b.whole.size) >= LEAST_FOR_SD:
            low, high, method, _ = percentile_interval(a.spreads / b.spreads)
    return {
        "ratio": ratio.estimate,
        "ratio_low": low,
        "ratio_high": high,
        "ratio_method": method,
        "spread_p": spread_test(a.whole, b.whole).p,
    }


def _clean(a: _Side, b: _Side) -> Row:
    gap = welch(a.clean, b.clean)
    low, high = (gap.low, gap.high) if a.sign > 0 else (-gap.high, -gap.low)
    return {
        "clean_difference": a.sign * gap.estimate,
        "clean_difference_low": low,
        "clean_difference_high": high,
        "clean_p": gap.p,
        "clean_ratio": sd_ratio(a.clean, b.clean).estimate,
        "clean_spread_p": spread_test(a.clean, b.clean).p,
    }


def pairs_table(frame: pd.DataFrame) -> Table:
    """The table of `pairs`.

    Example:
        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> names = runs["model"].replace("bert_base_cased", "Standard")
        >>> runs = runs.assign(configuration=names, model="any")  # compare the models
        >>> pairs_table(pairs(runs)).title
        'Pairwise comparisons of configurations'
    """
    columns: Columns = {
        **SHARED_COLUMNS,
        "First": lambda r: r.first,
        "Second": lambda r: r.second,
        "n": lambda r: _two(r.n_first, r.n_second),
        "Missing": lambda r: _two(r.missing_first, r.missing_second),
        "Failed": lambda r: _two(r.failed_first, r.failed_second),
        "Difference [95% CI]": lambda r: (
            f"{score_text(r.difference, r.scale, sign='+')} "
            f"{interval_text(r.difference_low, r.difference_high, scale=r.scale)}"
        ),
        "p": lambda r: p_text(r.p_holm) + ("*" if r.method == "permutation" else ""),
        "p (BH)": lambda r: p_text(r.p_bh),
        "p (Mann–Whitney)": lambda r: p_text(r.rank_p),
        "p (paired t)": lambda r: (
            f"{p_text(r.paired_p)} ({r.common} seeds, r {number_text(r.correlation)})"
            if r.common
            else "–"
        ),
        "Hedges' g": lambda r: number_text(r.hedges_g),
        "Cliff's delta": lambda r: (
            f"{number_text(r.cliffs_delta)} {r.magnitude}" if r.magnitude else "–"
        ),
        "P(first better)": lambda r: number_with_interval(
            r.improvement, r.improvement_low, r.improvement_high
        ),
        "ASO": lambda r: _two(number_text(r.epsilon_bound), number_text(r.epsilon_reverse)),
        "sd ratio": lambda r: number_text(r.ratio),
        "p (sd)": lambda r: p_text(r.spread_p_holm),
        "First is": lambda r: r.verdict,
        "Without failed runs": lambda r: r.clean_verdict,
    }
    notes = []
    if not frame.empty:
        n = frame[["n_first", "n_second"]].to_numpy()
        runs = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
        notes.append(f"n, the number of seeds with a result, is {runs}.")
    notes += [
        "Two numbers in a cell: first, second. Difference: mean of the first minus mean of the "
        "second, over seeds, with its 95% interval.",
        f"p: Welch's test (* where runs failed: {PERMUTATION}), Holm-adjusted over the pairs of "
        "a task and model.",
        "A verdict requires p < 0.05; 'not shown' does not mean equal.",
    ]
    method = [
        "The interval is Welch's, of the same scores as p; bootstrap where runs failed and both "
        "have at least 50.",
        "p (BH): Benjamini–Hochberg over the pairs of all tasks and models. "
        "p (Mann–Whitney) and p (paired t) are not adjusted; r: correlation over seeds.",
        "Hedges' g and Cliff's delta are positive, and P(first better) above 0.5 (ties count "
        "half), where the first is better. ASO: upper 95% bound of the violation ratio of almost "
        f"stochastic order in each direction; that one dominates if it is below {DOMINATES}. "
        f"{FALSE_ALARMS}",
        "sd ratio: first over second; p (sd): Brown–Forsythe test, Holm-adjusted as p; neither "
        "where all runs of a side scored the same.",
        f"'Without failed runs': the verdict with all of them excluded. A failed run {ENTERS}.",
    ]
    details = ["Missing", "p (BH)", "p (Mann–Whitney)", "p (paired t)", "Hedges' g"]
    details += ["P(first better)", "ASO", "sd ratio", "p (sd)"]
    title = "Pairwise comparisons of configurations"
    return table_of("pairs", title, frame, columns, notes=notes, details=details, method=method)


def _two(first: object, second: object) -> str:
    return f"{first}" if first == second else f"{first}, {second}"
