"""Standard fine-tuning: the recipe only.

Source: Gu et al. 2021 (PubMedBERT and BLURB) for batch sizes, dropout 0.1 and a tenth of the steps
    as warm-up; Mosbach et al. 2021 for weight decay 0.01; the BioLinkBERT commands (Yasunaga et
    al. 2022) for no warm-up, on most tasks of the base model, and for half of the steps, on the
    large one. Differs: the other values are chosen here to lie around those.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces.common import EPOCHS, LR, Space

TECHNIQUE = "Standard"
SPACE = Space(
    technique={},
    recipe={
        "lr": LR,
        "epochs": EPOCHS,
        "batch_size": CategoricalDistribution((16, 32)),
        "warmup": CategoricalDistribution((0.0, 0.06, 0.1, 0.5)),  # share of the steps
        "weight_decay": CategoricalDistribution((0.0, 0.01, 0.1)),
        "dropout": CategoricalDistribution((0.0, 0.1)),
    },
)
