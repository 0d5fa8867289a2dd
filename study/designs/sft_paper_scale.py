"""LoRA and its relatives on a decoder of seven billion weights: what is learnt, what is forgotten.

Low ranks and high, DoRA, OFT and IA3 on school mathematics (GSM8K), and what each retains of
Wikipedia and of plain facts. For a cluster with GPUs of 80 GB: weights are in float32, 30 GB, and
only the inputs of layers are kept for the backward pass. `study plan sft_paper_scale` says how long
it takes, and once the checkpoint is here what a step holds. Preference goes to the likelihood of
the solutions; whether their last number is right needs a metric of your own (docs/tasks.md).

Source: Biderman et al. 2024 (LoRA Learns Less and Forgets Less) for the ranks, all linear maps as
targets and rates ten times the full one. Model, task and steps are chosen here.
"""

from study import PEFT, Configuration, LoRA, Recipe, Study, Task, main
from study.models import QWEN25_7B
from study.tasks import FACTS, WIKIPEDIA_TEXT

GSM8K = Task(
    name="gsm8k",
    kind="generation",
    metric="perplexity",
    train="hf:openai/gsm8k/main:train[:90%]",
    dev="hf:openai/gsm8k/main:train[90%:]",
    test="hf:openai/gsm8k/main:test",
    text="question",
    label="answer",
    published=(6726, 747, 1319, 147),
    source="Grade school mathematics (Cobbe et al. 2021, GSM8K), MIT.",
)
SHARED = Recipe(
    lr=2e-4,
    steps=600,
    batch_size=32,
    micro_batch_size=8,
    max_length=512,
    schedule="cosine",
    warmup=0.03,
    precision="bfloat16",
)

STUDY = Study(
    name="sft-paper-scale",
    tasks=[GSM8K],
    models=[QWEN25_7B],
    recipe=SHARED,
    techniques=[
        LoRA(rank=16, targets="linear"),
        LoRA(rank=64, targets="linear"),
        LoRA(rank=256, targets="linear"),
        PEFT(method="dora", size=16, targets="linear"),
        PEFT(method="oft", targets="linear"),
        Configuration(PEFT(method="ia3"), recipe=SHARED.replace(lr=3e-3)),
    ],
    seeds=range(5),
    retains=[WIKIPEDIA_TEXT, FACTS],
    gpus=1,
    gradient_checkpointing=True,
)

if __name__ == "__main__":
    main(STUDY)
