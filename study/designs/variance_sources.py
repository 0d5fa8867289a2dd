"""Variance of standard fine-tuning: does it come from the new head or from the data order?

Five head seeds crossed with five order seeds, one noise seed; data and weights are bundled.

Source: Dodge et al. 2020, who cross initialisations of the head with data orders.
"""

from study import Recipe, Seeds, Standard, Study, main
from study.models import MINILM
from study.tasks import TERMS

STUDY = Study(
    name="variance-sources",
    tasks=[TERMS.subset(128, seed=0)],
    models=[MINILM],
    recipe=Recipe(lr=1e-4, epochs=5, batch_size=16, max_length=64),
    techniques=[Standard()],
    seeds=Seeds(head=range(5), order=range(5), noise=[0]),
)

if __name__ == "__main__":
    main(STUDY)
