"""Failed runs in words: how many there are of each kind, and why a run counts as collapsed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.metric_names import meaning
from analysis.rendering.formatting import score_text
from analysis.statistics.collapse import chance_margin, margin
from analysis.statistics.common import DECIMALS

_MARGINS = {"at_floor": margin, "no_fit": chance_margin}


def failed_text(diverged: float, collapsed: float) -> str:
    """The number of failed runs of each kind, such as `1 diverged, 2 collapsed`; empty if none."""
    kinds = ((diverged, "diverged"), (collapsed, "collapsed"))
    return ", ".join(f"{count:.0f} {word}" for count, word in kinds if count)


def why_collapsed(run: Mapping[Any, Any], scale: float) -> str:
    """The rules by which a run counts as collapsed, each with the bar that the run missed.

    Args:
        run: collapse_rule, metric, higher_is_better, dev, dev_floor and dev_rows of the run, as in
            `load_runs`; numbers may be missing.
        scale: Factor of printed scores: 100 for points, otherwise 1.

    Returns:
        Text such as `dev spearman 0.54 against a bar of 0.58 (no_fit)`. A bar is computed from the
        stored floor and number of examples, and left out where one of these or the scale of the
        metric (one of the user's own) is unknown, or where no dev score is below it.
    """
    return ", ".join(_rule(rule, run, scale) for rule in run["collapse_rule"].split(","))


def _rule(rule: str, run: Mapping[Any, Any], scale: float) -> str:
    if rule == "constant":
        return "one answer for all dev examples (constant)"
    bar = _bar(rule, run)
    if np.isnan(bar):
        return f"by the rule {rule}"
    dev, bar_text = (score_text(value, scale) for value in (run["dev"], bar))
    if scale == 100 and run["higher_is_better"] and bar >= 1:
        few = f"on {run['dev_rows']:.0f} dev rows no score is clearly better"
        return f"dev {run['metric']} {dev}, and {few} ({rule})"
    return f"dev {run['metric']} {dev} against a bar of {bar_text} ({rule})"


def _bar(rule: str, run: Mapping[Any, Any]) -> float:
    """The dev score that the run had to exceed; NaN if unknown."""
    named = meaning(run["metric"])
    examples = pd.Series([run["dev_rows"]]).to_numpy("float64", na_value=np.nan)
    known = named.bounded or named.direction == "lower"  # whether its scores are shares
    if rule not in _MARGINS or not known or np.isnan(examples).any():
        return np.nan
    sign = 1.0 if run["higher_is_better"] else -1.0
    above = float(_MARGINS[rule](float(run["dev_floor"]), examples, bounded=named.bounded)[0])
    bar = float(run["dev_floor"]) + sign * above
    return bar if round(sign * (run["dev"] - bar), DECIMALS) <= 0 else np.nan
