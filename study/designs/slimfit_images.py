"""SlimFit on images as published: ViT-base on CIFAR-10, CIFAR-100 and ImageNet.

Every task runs at all three of the published rates, with and without compressed activations, and in
full, as in `slimfit_paper`. Images are read from the folder in STUDY_DATA: `cifar10`, `cifar100`
and `imagenet`, each with `train`, `dev` and `test`, each of these with a folder per class. Dev is a
part of the official training set that is set aside, test the official test set (of ImageNet the
validation set).

Source: the official scripts of Ardakani et al. 2023 (arXiv 2305.18513) for learning rates, batches
and epochs; one seed each. Their rates: CIFAR-10 0.9, CIFAR-100 0.75, ImageNet 0.95. Differs: on
ImageNet they start from a checkpoint that was trained on its classes before, at 384 pixels and with
augmentation; here it is the model of the other two, which has seen none of them, at 224 pixels and
without.
"""

from study import (
    CompressedActivations,
    InterLayerScheduling,
    Recipe,
    Standard,
    Study,
    Task,
    TaskOverrides,
    main,
)
from study.models import VIT_BASE

SHARED = Recipe(epochs=3, batch_size=32, warmup=0.0, weight_decay=0.0, clip_norm=None)
COMPRESSED = CompressedActivations(attention="stored")  # the published one
RECIPES = {
    "cifar10": SHARED.replace(lr=7.5e-5),
    "cifar100": SHARED.replace(lr=5.5e-5),
    "imagenet": SHARED.replace(lr=5e-5, batch_size=128, weight_decay=0.01),
}


def images(name: str) -> Task:
    """A task of a folder per part and class."""
    parts = {part: f"{name}/{part}" for part in ("train", "dev", "test")}
    return Task(name=name, kind="image", task_type="image classification", **parts)


STUDY = Study(
    name="slimfit-images",
    tasks=[images(name) for name in RECIPES],
    models=[VIT_BASE],
    recipe=SHARED,
    techniques=[
        Standard(),
        COMPRESSED,
        *[
            technique
            for rate in (0.75, 0.9, 0.95)
            for technique in (
                InterLayerScheduling(freeze_rate=rate),
                InterLayerScheduling(freeze_rate=rate) + COMPRESSED,
            )
        ],
    ],
    seeds=range(5),
    per_task={name: TaskOverrides(recipe=recipe) for name, recipe in RECIPES.items()},
)

if __name__ == "__main__":
    main(STUDY)
