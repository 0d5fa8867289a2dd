"""Do Adam's missing bias correction and warm-up increase variance over seeds on small data?"""

from study import BiasedAdam, Recipe, Standard, Study, main
from study.models import MINILM
from study.tasks import TERMS

STUDY = Study(
    name="bias-correction",
    tasks=[TERMS.subset(128, seed=0)],
    models=[MINILM],
    recipe=Recipe(lr=1e-4, epochs=5, batch_size=16, max_length=64),
    techniques=[Standard(), BiasedAdam()],
    seeds=range(20),  # enough to detect a ratio of two between standard deviations
)

if __name__ == "__main__":
    main(STUDY)
