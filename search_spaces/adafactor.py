"""Adafactor: relative learning rates, far above those of Adam.

Source: Shazeer & Stern 2018 propose 1e-2; Raffel et al. 2020 fine-tune T5 with 1e-3. Differs: the
    whole interval, and a third of its lower end.
"""

from optuna.distributions import FloatDistribution

from search_spaces.common import EPOCHS, Space

TECHNIQUE = "Adafactor"
SPACE = Space(
    technique={},
    recipe={"lr": FloatDistribution(3e-4, 1e-2, log=True), "epochs": EPOCHS},
)
