"""SlimFit on GLUE as published: BERT-base, a rate and a learning rate per task, three epochs.

Every task runs at all four of the published rates, with and without compressed activations, and in
full, so that the rate chosen for it can be compared with the others. Some tasks are read from the
Hugging Face hub, the others from the folder in STUDY_DATA; `study plan slimfit_paper` estimates
the time. `study memory slimfit_paper --limit 8GB` says what fits on a GPU.

Source: the official scripts of Ardakani et al. 2023 (arXiv 2305.18513) for learning rates, batches,
lengths and epochs; they run one seed each. Their rates: CoLA, MRPC and RTE 0.9, SST-2 and QNLI
0.95, STS-B 0.85, QQP and MNLI 0.8. Gradients are not clipped here, since their norm depends on
what is frozen. Their other tasks are in `slimfit_squad` and `slimfit_images`.
"""

from study import (
    CompressedActivations,
    InterLayerScheduling,
    Recipe,
    Standard,
    Study,
    TaskOverrides,
    main,
)
from study.models import BERT_BASE_CASED
from study.tasks import GLUE

SHARED = Recipe(epochs=3, batch_size=32, max_length=128, warmup=0.0, clip_norm=None)
COMPRESSED = CompressedActivations(attention="stored")  # the published one
RATES = {
    "glue_cola": 8e-5,
    "glue_sst2": 8e-5,
    "glue_mrpc": 1.25e-4,
    "glue_stsb": 8e-5,
    "glue_qqp": 5e-5,
    "glue_mnli": 4e-5,
    "glue_qnli": 5e-5,
    "glue_rte": 1.2e-4,
}

STUDY = Study(
    name="slimfit-paper",
    tasks=[task for task in GLUE if task.name in RATES],
    models=[BERT_BASE_CASED],
    recipe=SHARED,
    techniques=[
        Standard(),
        COMPRESSED,
        *[
            technique
            for rate in (0.8, 0.85, 0.9, 0.95)
            for technique in (
                InterLayerScheduling(freeze_rate=rate),
                InterLayerScheduling(freeze_rate=rate) + COMPRESSED,
            )
        ],
    ],
    seeds=range(5),
    per_task={
        name: TaskOverrides(
            recipe=SHARED.replace(lr=lr, batch_size=16 if name == "glue_rte" else 32)
        )
        for name, lr in RATES.items()
    },
    gpus=0.25,
)

if __name__ == "__main__":
    main(STUDY)
