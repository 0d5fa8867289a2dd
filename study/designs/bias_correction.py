"""Does Adam without bias correction and warm-up scatter more on little data, and by what ratio?"""

from study import BiasedAdam, Recipe, Standard, Study, main
from study.models import MINILM
from study.tasks import TERMS

STUDY = Study(
    name="bias-correction",
    tasks=[TERMS.subset(128, seed=0)],
    models=[MINILM],
    recipe=Recipe(lr=1e-4, epochs=5, batch_size=16, max_length=64),
    techniques=[Standard(), BiasedAdam()],
    seeds=range(20),  # enough to see a ratio of two
)

if __name__ == "__main__":
    main(STUDY)
