"""SlimFit on SQuAD 2.0 as published: BERT-base uncased, a rate of 0.8, batches of 128.

As in `slimfit_paper`, with full fine-tuning and scheduling alone beside it. The rows are read from
the folder in STUDY_DATA; docs/tasks.md says how to get them.

Source: the official script of Ardakani et al. 2023 (arXiv 2305.18513), which runs one seed.
Gradients are not clipped here, since their norm depends on what is frozen.
"""

from study import (
    CompressedActivations,
    InterLayerScheduling,
    Recipe,
    Standard,
    Study,
    main,
)
from study.models import BERT_BASE
from study.tasks import SQUAD2

SCHEDULING = InterLayerScheduling(freeze_rate=0.8)

STUDY = Study(
    name="slimfit-squad",
    tasks=[SQUAD2],
    models=[BERT_BASE],
    recipe=Recipe(lr=1.8e-4, epochs=3, batch_size=128, max_length=384, warmup=0.0, clip_norm=None),
    techniques=[
        Standard(),
        SCHEDULING,
        SCHEDULING + CompressedActivations(attention="stored"),
    ],
    seeds=range(5),
)

if __name__ == "__main__":
    main(STUDY)
