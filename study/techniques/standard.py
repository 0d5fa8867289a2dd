"""Standard fine-tuning: all weights, bias-corrected AdamW, warm-up, linear decay."""

from study.techniques.base import Technique


class Standard(Technique):
    """Train all weights by the recipe; the baseline of all comparisons.

    In a combination it changes nothing and drops out.

    Example:
        >>> from study import EMA, Standard
        >>> (Standard() + EMA()).label
        'EMA'

    Source: Devlin et al. 2019, with Adam's bias correction (Mosbach et al. 2021).
    """
