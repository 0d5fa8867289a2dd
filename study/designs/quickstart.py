"""Which technique is reliable on small data? Five techniques on 128 biomedical term pairs."""

from study import BiasedAdam, FreezeLower, LayerwiseDecay, Recipe, ReinitTop, Standard, Study, main
from study.models import MINILM
from study.tasks import TERMS

STUDY = Study(
    name="quickstart",
    tasks=[TERMS.subset(128, seed=0)],
    models=[MINILM],
    recipe=Recipe(lr=1e-4, epochs=4, batch_size=16, max_length=64),
    techniques=[
        Standard(),  # the baseline
        BiasedAdam(),  # known from the literature to be unstable
        FreezeLower(layers=4),
        LayerwiseDecay(rate=0.7),
        ReinitTop(layers=1),
    ],
    seeds=range(5),
)

if __name__ == "__main__":
    main(STUDY)
