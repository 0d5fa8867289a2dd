"""Format numbers as text: scores, intervals, p-values and counts."""

import numpy as np

from analysis.statistics.common import DECIMALS

ENTERS = (  # how a failed run enters a mean; follows "a failed run" or "it"
    "counts with its score, or the constant predictor's score if it has none, and is excluded if "
    "that is unknown"
)
PERMUTATION = (  # the test of two means where a run of either cell failed
    "studentised permutation test, with one failed and one successful run added to each cell"
)
ALL_PAIRS = "Welch tests of all pairs, Holm-adjusted, 5%"  # of a task and model, on one split
DAGGER = "†"
SIGNED = (  # in names of metrics that can be below 0
    *("corr", "pearson", "spearman", "kendall", "tau", "rho", "matthews", "mcc", "kappa", "ccc"),
    *("pcc", "ari", "adjusted", "similarity", "cosine", "ssim", "r2"),
)
NBSP = "\u00a0"  # no-break space, keeps an interval on one line


def score_text(value: float, scale: float, *, sign: str = "") -> str:
    """Format a score or difference: points with one decimal, or four significant digits.

    Args:
        value: In the metric's own unit; NaN becomes a dash.
        scale: 100 for scores that are proportions, otherwise 1.
        sign: `+` to show the sign of positive values too.
    """
    if not np.isfinite(value):
        return "–"
    shown = value * scale
    if scale != 100:
        return _significant(shown, 4, sign)
    if 0 < abs(shown) < 0.05 and round(shown, DECIMALS):
        return _significant(shown, 1, sign)  # a small spread must not print as 0.0
    return f"{shown:{sign}.1f}".replace("-", "−")


def _significant(value: float, digits: int, sign: str = "") -> str:
    """Significant digits without an exponent; rounding errors of sums print as 0."""
    if abs(value) >= 10**digits or not round(value, DECIMALS):
        return f"{value:{sign}.0f}".replace("-", "−")
    text = np.format_float_positional(
        value, digits, unique=False, fractional=False, trim="-", sign=sign == "+"
    )
    return text.replace("-", "−")


def sd_text(value: float, scale: float) -> str:
    """Format a standard deviation: as `score_text`, below one point with two significant digits.

    With one decimal, 0.05 and 0.14 points would look alike. In another unit: three digits.
    """
    shown = value * scale
    if scale != 100 and np.isfinite(shown):
        return _significant(shown, 3)
    if not 0 < shown < 1 or not round(shown, DECIMALS):
        return score_text(value, scale)
    return _significant(shown, 2) if shown < 0.095 else f"{shown:.2f}"


def sd_interval_text(low: float, high: float, *, scale: float) -> str:
    """Format the interval of a standard deviation; a dash if there is none."""
    if not has_width(low, high):
        return "–"
    return f"[{sd_text(low, scale)},{NBSP}{sd_text(high, scale)}]"


def has_width(low: float, high: float) -> bool:
    """Whether to print an interval; one of zero width would suggest certainty."""
    return bool(np.isfinite(low) and np.isfinite(high) and round(high - low, DECIMALS) > 0)


def interval_text(low: float, high: float, *, scale: float) -> str:
    """Format an interval, such as `[70.1, 72.5]`; a dash if there is none."""
    if not has_width(low, high):
        return "–"
    return f"[{score_text(low, scale)},{NBSP}{score_text(high, scale)}]"


def possible(low: float, high: float, *, metric: str, scale: float) -> tuple[float, float]:
    """The interval of a mean within the scores that are possible.

    Shares are in [0, 1], and correlations and what agreement exceeds chance by in [-1, 1].
    """
    if scale != 100:
        return low, high
    signed = any(word in metric.lower() for word in SIGNED)
    return max(low, -1.0 if signed else 0.0), min(high, 1.0)


def p_text(p: float) -> str:
    """Format a p-value: three decimals, `<0.001`, or a dash for NaN."""
    if not np.isfinite(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def p_sentence(p: float) -> str:
    """A p-value within a sentence: `p = 0.046`, or `p < 0.001`."""
    return f"p {p_text(p).replace('<', '< ')}" if p < 0.001 else f"p = {p_text(p)}"


def count_text(finished: int, asked: int) -> str:
    """The number of finished runs, such as `5 of 7` if some are missing."""
    return f"{finished}" if finished == asked else f"{finished} of {asked}"


def metric_text(metric: str, higher_is_better: bool, *, scale: float, source: str = "") -> str:
    """A metric with its direction, optionally where that comes from, and its unit."""
    direction = "higher" if higher_is_better else "lower"
    unit = ", in points" if scale == 100 else ""
    return f"{metric} ({direction} is better{f', {source}' if source else ''}{unit})"


def mean_sd_text(mean: float, sd: float, scale: float) -> str:
    """A mean and its standard deviation, as `81.3 ± 0.5`; the mean alone if there is no sd."""
    if np.isnan(mean) or np.isnan(sd):
        return score_text(mean, scale)
    return f"{score_text(mean, scale)}{NBSP}±{NBSP}{sd_text(sd, scale)}"


def pair_text(low: float, high: float, scale: float) -> str:
    """The two ends of a range; a dash if neither is known."""
    if not (np.isfinite(low) or np.isfinite(high)):
        return "–"
    return f"{score_text(low, scale)},{NBSP}{score_text(high, scale)}"


def rank_range_text(low: float, high: float, count: float) -> str:
    """Format an interval of ranks, such as `1 to 3 of 5`; a dash for NaN."""
    if np.isnan(low):
        return "–"
    return f"{low:.0f} of {count:.0f}" if low == high else f"{low:.0f} to {high:.0f} of {count:.0f}"


def score_with_interval(
    value: float, low: float, high: float, *, scale: float, sign: str = ""
) -> str:
    """Format a score or difference with its interval, if it has one; a dash for NaN."""
    shown = score_text(value, scale, sign=sign)
    if not np.isfinite(value) or not has_width(low, high):
        return shown
    return f"{shown} {interval_text(low, high, scale=scale)}"


def number_text(value: float, *, digits: int = 2) -> str:
    """Format a unitless number, such as a probability or an effect size; a dash for NaN."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def number_with_interval(value: float, low: float, high: float, *, digits: int = 2) -> str:
    """Format a unitless number with its interval, if it has one; a dash for NaN."""
    shown = number_text(value, digits=digits)
    if np.isnan(value) or not has_width(low, high):
        return shown
    ends = (number_text(end, digits=digits) for end in (low, high))
    return f"{shown} [{f',{NBSP}'.join(ends)}]"


def percent_text(share: float, *, digits: int = 0) -> str:
    """Format a proportion in per cent; a dash for NaN."""
    return "–" if np.isnan(share) else f"{share:.{digits}%}"
