"""The biomedical stability study, small: which strategy suits a small encoder on which task?

BIOSSES whole on ten seeds; at most 256 training rows of five more tasks of BLURB on three seeds, 64
tokens a row; the paper's three techniques beside the baseline, small enough for two cores.
The rows come from the folder that STUDY_DATA names; docs/tasks.md says how to get them.

Source: Tinn et al. 2023 (arXiv 2112.07869), whose questions these are. Rates and epochs are chosen
here for a six-layer model on little data; the paper's are not known to us.
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
    """A task with as many rows as two cores can train on."""
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
        # More, smaller steps where the model else stays at the constant answer.
        "chemprot@256d128t256": TaskOverrides(recipe=SHARED.replace(epochs=10, batch_size=8)),
        "hoc@256d128t256": TaskOverrides(recipe=SHARED.replace(epochs=15, batch_size=4)),
        "bc5_disease@256d128t256": TaskOverrides(recipe=SHARED.replace(lr=5e-4, epochs=8)),
    },
)

if __name__ == "__main__":
    main(STUDY)
