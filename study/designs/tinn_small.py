"""Small biomedical stability study: which technique suits a small encoder on which task?

All of BIOSSES on ten seeds; 256 training rows of each of five other BLURB tasks on three seeds; 64
tokens per row; the paper's three techniques and the baseline. Small enough for two CPU cores.
The rows are read from the folder in STUDY_DATA; docs/tasks.md says how to get them.

Source: Tinn et al. 2023 (arXiv 2112.07869) for the questions. Learning rates and epochs were chosen
here for a six-layer model on small data; the paper's are not known to us.
"""

from study import (
    FreezeLower,
    LayerwiseDecay,
    Recipe,
    ReinitTop,
    Standard,
    Study,
    TaskOverrides,
    main,
)
from study.models import MINILM
from study.tasks import BC5_DISEASE, BIOSSES, CHEMPROT, GAD, HOC, PUBMEDQA, Task

SHARED = Recipe(lr=2e-4, epochs=6, batch_size=16, max_length=64)


def part(task: Task, dev: int = 128) -> Task:
    """A subset of a task that two cores can train on."""
    return task.subset(256, seed=0, dev_rows=dev, test_rows=256)


STUDY = Study(
    name="tinn-small",
    tasks=[
        BIOSSES,
        part(GAD),
        part(CHEMPROT),
        part(BC5_DISEASE),
        part(HOC),
        part(PUBMEDQA, dev=50),
    ],
    models=[MINILM],
    recipe=SHARED,
    techniques=[
        Standard(),
        FreezeLower(layers=3),  # the lower half
        LayerwiseDecay(rate=0.8),  # ELECTRA's for base models
        ReinitTop(layers=1),
    ],
    seeds=range(3),
    per_task={
        "biosses": TaskOverrides(recipe=SHARED.replace(epochs=10), seeds=range(10)),
        # More and smaller steps, without which the model predicts a constant.
        "chemprot@256d128t256": TaskOverrides(recipe=SHARED.replace(epochs=10, batch_size=8)),
        "hoc@256d128t256": TaskOverrides(recipe=SHARED.replace(epochs=15, batch_size=4)),
        "bc5_disease@256d128t256": TaskOverrides(recipe=SHARED.replace(lr=5e-4, epochs=8)),
    },
)

if __name__ == "__main__":
    main(STUDY)
