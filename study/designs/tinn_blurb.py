"""Fine-tuning stability on BLURB at the scale of Tinn et al. 2023 (arXiv 2112.07869).

Thirteen tasks, ten models, seven configurations; ten seeds on the three smallest question answering
and similarity tasks, five on the others, as in Gu et al. 2021. The recipe of each task is the one
published by Yasunaga et al. 2022 for BioLinkBERT-base, since the paper's are not known to us.

Before running it, import the data with `study import-blurb`, and convert both PubMedELECTRA models,
which the hub has only as pickles, with `study convert`. `study plan study/designs/tinn_blurb.py`
estimates the time.
"""

from study import (
    BiasedAdam,
    FreezeLower,
    LayerwiseDecay,
    Recipe,
    ReinitTop,
    Standard,
    Study,
    TaskOverrides,
    main,
)
from study.models import MODELS
from study.tasks import BLURB

SHARED = Recipe(max_length=512, precision="bfloat16")
MANY = range(10)

STUDY = Study(
    name="tinn-blurb",
    tasks=BLURB,
    models=[
        MODELS[name]
        for name in (
            "bert-base",
            "bert-large",
            "electra-base",
            "electra-large",
            "bluebert-base",
            "bluebert-large",
            "pubmedbert-base",
            "pubmedbert-large",
            "pubmedelectra-base",
            "pubmedelectra-large",
        )
    ],
    recipe=SHARED,
    techniques=[
        Standard(),
        BiasedAdam(),
        FreezeLower(layers=6),
        LayerwiseDecay(rate=0.9),
        LayerwiseDecay(rate=0.8),
        ReinitTop(layers=1),
        ReinitTop(layers=3),
    ],
    seeds=range(5),
    per_task={
        "bc5_chem": TaskOverrides(recipe=SHARED.replace(lr=5e-5, batch_size=32, epochs=20)),
        "bc5_disease": TaskOverrides(recipe=SHARED.replace(lr=5e-5, batch_size=16, epochs=8)),
        "ncbi_disease": TaskOverrides(recipe=SHARED.replace(lr=5e-5, batch_size=32, epochs=20)),
        "bc2gm": TaskOverrides(recipe=SHARED.replace(lr=6e-5, batch_size=32, epochs=50)),
        "jnlpba": TaskOverrides(recipe=SHARED.replace(lr=1e-5, batch_size=16, epochs=5)),
        "ebm_pico": TaskOverrides(recipe=SHARED.replace(lr=5e-5, batch_size=32, epochs=1)),
        "chemprot": TaskOverrides(
            recipe=SHARED.replace(lr=3e-5, batch_size=32, epochs=10, max_length=256)
        ),
        "ddi": TaskOverrides(
            recipe=SHARED.replace(lr=2e-5, batch_size=32, epochs=5, max_length=256)
        ),
        "gad": TaskOverrides(
            recipe=SHARED.replace(lr=3e-5, batch_size=32, epochs=10, max_length=128)
        ),
        "biosses": TaskOverrides(
            recipe=SHARED.replace(lr=1e-5, batch_size=16, epochs=30), seeds=MANY
        ),
        "hoc": TaskOverrides(recipe=SHARED.replace(lr=4e-5, batch_size=32, epochs=40)),
        "pubmedqa": TaskOverrides(
            recipe=SHARED.replace(lr=2e-5, batch_size=16, epochs=30), seeds=MANY
        ),
        "bioasq": TaskOverrides(
            recipe=SHARED.replace(lr=2e-5, batch_size=16, epochs=20), seeds=MANY
        ),
    },
    gpus=0.25,
)

if __name__ == "__main__":
    main(STUDY)
