"""Template for your own prompts and answers: copy this file and edit the commented lines."""

from study import Configuration, FreezeLower, KFold, LoRA, Recipe, Standard, Study, Task, main
from study.models import SMOLLM2_135M_INSTRUCT
from study.tasks import FACTS, WIKIPEDIA_TEXT

TASK = Task(
    name="mine",
    # A CSV, JSONL or Parquet file, beside this one, in the folder in STUDY_DATA or in the working
    # directory; or "hf:OWNER/DATASET:train". docs/tasks.md says how prompts and answers are joined.
    train="mine.jsonl",
    # One fold is test, one dev; TASK.folds() has all five as tasks of their own.
    split=KFold(folds=5),  # or ByGroup, ByTime; or remove it and set dev="..." and test="..."
    text="text",  # the column with the prompt
    label="label",  # the column with the answer, or with a list of right ones
    kind="generation",
    metric="token_f1",  # or rouge_l, exact_match, perplexity
    chat=False,  # True: written by the checkpoint's chat template, as chat models expect it
)
RECIPE = Recipe(lr=5e-5, epochs=3, batch_size=8, max_length=256, schedule="cosine")

STUDY = Study(
    name="own-prompts",
    tasks=[TASK],  # TASK.subset(300, seed=0, dev_rows=150, test_rows=300) for a first look
    models=[SMOLLM2_135M_INSTRUCT],  # or Model(name="mine", checkpoint="FOLDER"), a decoder
    recipe=RECIPE,
    techniques=[
        Standard(),
        FreezeLower(layers=15),  # the lower half
        # Ten times the rate of full fine-tuning (Biderman et al. 2024).
        Configuration(LoRA(rank=8), recipe=RECIPE.replace(lr=5e-4)),
    ],
    # 5 for a first look, 15 before anything can be said about which varies less.
    seeds=range(5),
    # What fine-tuning forgets: scored before and after, and not trained on.
    retains=[WIKIPEDIA_TEXT, FACTS],
)

if __name__ == "__main__":
    main(STUDY)
