"""A starting point for a table of your own: copy this file and change what the comments say."""

from study import FreezeLower, KFold, LayerwiseDecay, Recipe, ReinitTop, Standard, Study, Task, main
from study.models import MINILM

TASK = Task(
    name="mine",
    # A CSV, JSONL or Parquet file, here or in the folder that STUDY_DATA names; or
    # "hf:OWNER/DATASET:train". docs/tasks.md has all kinds of task and what their rows are.
    train="mine.csv",
    split=KFold(folds=5),  # or ByGroup, ByTime; or leave it out and name dev="..." and test="..."
    text="text",  # the column with the text
    text_pair=None,  # the column with a second text, for pairs
    label="label",  # the column with the label
    kind="classification",  # or regression, multilabel, tagging, span, image
    metric="accuracy",  # or macro_f1, matthews_corrcoef, pearson, ...
)

STUDY = Study(
    name="own-data",
    tasks=[TASK],
    models=[MINILM],  # or Model(name="bert", checkpoint="google-bert/bert-base-uncased")
    recipe=Recipe(lr=1e-4, epochs=5, batch_size=16, max_length=128),
    techniques=[
        Standard(),  # the baseline is always in
        FreezeLower(layers=3),
        LayerwiseDecay(rate=0.8),
        ReinitTop(layers=1),
    ],
    seeds=range(10),  # `study plan FILE --detect 0.02` says how many a difference takes
    keep="best",  # the best model of each technique stays on disk; `study export KEY` gives it out
)

if __name__ == "__main__":
    main(STUDY)
