"""Seven techniques on small subsets of three GLUE tasks: scores and variance over seeds.

The rows are read from the folder in STUDY_DATA; docs/tasks.md says how to get them.
"""

from study import (
    BiasedAdam,
    FreezeLower,
    LayerwiseDecay,
    Mixout,
    PriorDecay,
    Recipe,
    ReinitTop,
    Standard,
    Study,
    main,
)
from study.models import MINILM
from study.tasks import COLA, SST2, STSB

STUDY = Study(
    name="glue-small",
    tasks=[task.subset(256, seed=0, dev_rows=256, test_rows=512) for task in (COLA, SST2, STSB)],
    models=[MINILM],
    recipe=Recipe(lr=2e-4, epochs=6, batch_size=16, max_length=64),
    techniques=[
        Standard(),
        BiasedAdam(),
        FreezeLower(layers=3),
        LayerwiseDecay(rate=0.8),
        ReinitTop(layers=1),
        Mixout(),
        PriorDecay(),
    ],
    seeds=range(10),
)

if __name__ == "__main__":
    main(STUDY)
