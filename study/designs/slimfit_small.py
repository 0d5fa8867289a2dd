"""SlimFit and what it must be compared with, on a small encoder and three tasks.

Full fine-tuning; inter-layer scheduling at two rates, and at the higher one with the activations
compressed as well (SlimFit); random and static choices at the same rate, which show what the score
is worth; LISA. Each arm has three learning rates on a seed of its own, then five fresh seeds.
Gradient checkpointing is no arm: it moves no bit. The rows are read from the folder in STUDY_DATA;
docs/tasks.md says how to get them.

Source: Ardakani et al. 2023 (SlimFit) for the rates of freezing. Tasks, learning rates and steps
are chosen here for two CPU cores: 320 steps of four rows.
"""

from optuna.distributions import CategoricalDistribution

from search_spaces import Space
from study import (
    LISA,
    CompressedActivations,
    InterLayerScheduling,
    Recipe,
    Search,
    Standard,
    Study,
    TaskOverrides,
    Tune,
    main,
)
from study.models import MINILM
from study.tasks import BIOSSES, GAD, SST2


def rates(*lr: float) -> Space:
    """A search space of learning rates alone."""
    return Space(technique={}, recipe={"lr": CategoricalDistribution(lr)})


FULL = rates(1e-4, 2e-4, 4e-4)
SCHEDULED = rates(2e-4, 4e-4, 8e-4)  # each weight tensor gets few updates
SHARED = Recipe(epochs=2, batch_size=4, max_length=64)

STUDY = Study(
    name="slimfit-small",
    tasks=[
        BIOSSES,
        GAD.subset(640, seed=0, dev_rows=256, test_rows=512),
        SST2.subset(640, seed=0, dev_rows=256),
    ],
    models=[MINILM],
    recipe=SHARED,
    techniques=[
        Search(Standard(), FULL),
        Search(InterLayerScheduling(freeze_rate=0.8), SCHEDULED),
        Search(InterLayerScheduling(freeze_rate=0.9), SCHEDULED),
        Search(InterLayerScheduling(freeze_rate=0.9, selection="random"), SCHEDULED),
        Search(InterLayerScheduling(freeze_rate=0.9, selection="static"), SCHEDULED),
        Search(InterLayerScheduling(freeze_rate=0.9) + CompressedActivations(), SCHEDULED),
        Search(LISA(interval=10), FULL),
    ],
    tune=Tune(trials=3, seeds=[100], sampler="grid"),
    seeds=range(5),
    per_task={"biosses": TaskOverrides(recipe=SHARED.replace(epochs=20))},  # 64 rows
)

if __name__ == "__main__":
    main(STUDY)
