"""Layerwise decay rates and learning rates: eight random configurations and the baseline."""

from search_spaces import SPACES, draw
from study import Configuration, LayerwiseDecay, Recipe, Standard, Study, main
from study.models import MINILM
from study.tasks import TERMS

RECIPE = Recipe(lr=1e-4, epochs=5, batch_size=16, max_length=64)

STUDY = Study(
    name="decay-rates",
    tasks=[TERMS.subset(128, seed=0)],
    models=[MINILM],
    recipe=RECIPE,
    techniques=[
        Standard(),  # the baseline
        *[  # drawn once; every configuration runs on all seeds
            Configuration(LayerwiseDecay(**drawn.technique), recipe=RECIPE.replace(**drawn.recipe))
            for drawn in draw(SPACES["LayerwiseDecay"], n=8, seed=0)
        ],
    ],
    seeds=range(5),
)

if __name__ == "__main__":
    main(STUDY)
