"""Eight techniques on 128 biomedical term pairs, twenty seeds each.

Twenty seeds detect a ratio of standard deviations of about two. Data and weights are bundled, so
this study can be repeated after any change of the code.
"""

from study import (
    EMA,
    BiasedAdam,
    FreezeLower,
    LayerwiseDecay,
    Mixout,
    RDrop,
    Recipe,
    ReinitTop,
    Standard,
    Study,
    main,
)
from study.models import MINILM
from study.tasks import TERMS

STUDY = Study(
    name="terms-20",
    tasks=[TERMS.subset(128, seed=0)],
    models=[MINILM],
    recipe=Recipe(lr=1e-4, epochs=5, batch_size=16, max_length=64),
    techniques=[
        Standard(),
        BiasedAdam(),
        FreezeLower(layers=4),
        LayerwiseDecay(rate=0.7),
        ReinitTop(layers=1),
        Mixout(),
        RDrop(),
        EMA(),
    ],
    seeds=range(20),
)

if __name__ == "__main__":
    main(STUDY)
