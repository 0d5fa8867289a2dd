"""Template for your own data: copy this file and edit the commented lines."""

from study import FreezeLower, KFold, LayerwiseDecay, Recipe, ReinitTop, Standard, Study, Task, main
from study.models import MINILM

TASK = Task(
    name="mine",
    # A CSV, JSONL or Parquet file, beside this one, in the folder in STUDY_DATA or in the working
    # directory; or "hf:OWNER/DATASET:train". docs/tasks.md has an example of every kind of task.
    train="mine.csv",
    # One fold is test, one dev; TASK.folds() has all five as tasks of their own.
    split=KFold(folds=5),  # or ByGroup, ByTime; or remove it and set dev="..." and test="..."
    text="text",  # the column with the text
    text_pair=None,  # the column with a second text, for pairs
    label="label",  # the column with the label
    kind="classification",  # or regression, multilabel, tagging, span, image, generation
    metric="accuracy",  # or macro_f1, matthews_corrcoef, pearson, ...
)

STUDY = Study(
    name="own-data",
    tasks=[TASK],  # TASK.subset(300, seed=0, dev_rows=150, test_rows=300) for a first look
    models=[MINILM],  # or Model(name="bert", checkpoint="google-bert/bert-base-uncased")
    # lr: 3e-5 to 3e-4 for models smaller than base, such as this one (Turc et al. 2019), 1e-5 to
    # 5e-5 from base on (Gu et al. 2021). epochs: 5 for a first look; more where the report says
    # that dev scores still rose. Mosbach et al. 2021 train for 20 on a few thousand rows.
    recipe=Recipe(lr=1e-4, epochs=5, batch_size=16, max_length=128),
    techniques=[
        # The baseline, and the three of Tinn et al. 2023: drop any but Standard() to save time.
        Standard(),
        FreezeLower(layers=3),  # the lower half
        LayerwiseDecay(rate=0.8),
        ReinitTop(layers=1),
    ],
    # 5 for a first look, 15 before anything can be said about which varies less. After some runs,
    # `study plan FILE --detect 0.02` says how many find a difference of 0.02 (2 points).
    seeds=range(10),
    keep="best",  # save the best model of each technique, 90 MB each; `study export KEY` exports it
)

if __name__ == "__main__":
    main(STUDY)
