"""Plain fine-tuning: all weights, bias-corrected AdamW, warm-up, linear decay."""

from study.techniques.base import Technique


class Standard(Technique):
    """Train everything by the recipe; the baseline that others are measured against.

    Source: Devlin et al. 2019, with Adam's bias correction (Mosbach et al. 2021).
    """
