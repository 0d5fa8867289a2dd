"""Three techniques tuned on BIOSSES with equal budgets, then compared on fresh seeds.

The rows are read from the folder in STUDY_DATA; docs/tasks.md says how to get them.
"""

from search_spaces import SPACES, small
from search_spaces.freeze_lower import quarters
from study import (
    FreezeLower,
    LayerwiseDecay,
    Recipe,
    ReinitTop,
    Search,
    Standard,
    Study,
    Tune,
    main,
)
from study.models import MINILM
from study.tasks import BIOSSES

STUDY = Study(
    name="protocol-biosses",
    tasks=[BIOSSES],
    models=[MINILM],
    recipe=Recipe(lr=1e-4, epochs=5, batch_size=16, max_length=128),
    techniques=[
        Standard(),  # the untuned baseline
        Search(FreezeLower, small(quarters(6))),
        Search(LayerwiseDecay, small(SPACES["LayerwiseDecay"])),
        Search(ReinitTop, small(SPACES["ReinitTop"])),
    ],
    tune=Tune(trials=12, seeds=2, sampler="tpe"),
    seeds=range(100, 105),
)

if __name__ == "__main__":
    main(STUDY)
