"""Re-initialising the top layers: one to five of them, the pooler always.

Source: 5 layers is the value in the code of Zhang et al. 2021 on RTE with BERT-large. Differs: the
    range is chosen here, because the grid of Tinn et al. 2023 is not known to us.
"""

from optuna.distributions import IntDistribution

from search_spaces.common import EPOCHS, LR, Space

TECHNIQUE = "ReinitTop"
SPACE = Space(
    technique={"layers": IntDistribution(1, 5)},
    recipe={"lr": LR, "epochs": EPOCHS},
)
