"""The same study on the platform, and with Hugging Face `Trainer` in plain Ray Tune.

Theirs follows Ray's documentation: a function trainable that loads the checkpoint, builds a
`Trainer`, and reports each epoch's evaluation; `tune.grid_search` over techniques and seeds; Tune's
default loggers. In its favour, data is tokenised once and shared by all trials, batches are padded
to their longest row, each trial uses one thread, no checkpoint is saved, and nothing is reported
outside Tune. Ours is what `study run` does, until the last run is in MLflow.

Both use the same data, checkpoint, recipe and seeds; float32; dev after each epoch and test once;
two runs at a time. Both are timed as whole processes, from start to exit, and alternate. The random
numbers of a seed differ between the two sides, so scores agree in distribution only, which a Welch
test over seeds checks for each technique.

The bar: theirs takes at least 1.5 times as long as ours, and no Welch p is below 0.001. `--quick`
does two runs, almost all of it start-up: it shows that the benchmark works, and says little about
the bar.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common

if TYPE_CHECKING:
    from study import Study

BAR = 1.5
BAR_P = 0.001
FROZEN = 4
TECHNIQUES = ("Standard", f"FreezeLower({FROZEN})")
Scores = dict[str, list[float]]  # test accuracy per technique, one per seed


def main() -> int:
    """Run the benchmark and print whether the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1 technique, 2 seeds, 1 epoch, once")
    quick = parser.parse_args().quick
    techniques, seeds, epochs = (1, 2, 1) if quick else (2, 4, 5)
    rounds = [
        [common.measured(side, techniques, seeds, epochs) for side in (theirs, ours)]
        for _ in range(1 if quick else 2)
    ]
    taken = [[round_[side].seconds for round_ in rounds] for side in (0, 1)]
    their_scores, our_scores = (side.answer for side in rounds[0])

    runs = techniques * seeds
    print(f"{runs} runs of {epochs} epochs, {common.WORKERS} at once      seconds")
    for name, seconds in zip(("Trainer in plain Ray Tune", "ours"), taken, strict=True):
        print(f"{name:<36}  {'  '.join(f'{second:6.1f}' for second in seconds)}")
    print(f"\n{'test accuracy, mean ± sd over seeds':<36}  {'theirs':<14}  {'ours':<14}  Welch p")
    p_values = []
    for name in TECHNIQUES[:techniques]:
        p_values.append(welch(their_scores[name], our_scores[name]))
        cells = [f"{mean_and_sd(scores[name]):<14}" for scores in (their_scores, our_scores)]
        print(f"{name:<36}  {'  '.join(cells)}  {p_values[-1]:.3f}")
    agree = not any(p < BAR_P for p in p_values)
    if not agree:
        print("the scores do not agree: this is not the same study")

    ratio = statistics.median(taken[0]) / statistics.median(taken[1])
    figure, bar = f"{ratio:.2f} times as fast as Trainer", f"{BAR}"
    return common.ending("versus_trainer", figure, bar=bar, met=ratio >= BAR and agree)


def mean_and_sd(scores: list[float]) -> str:
    """Mean and standard deviation, as text."""
    return f"{statistics.mean(scores):.3f} ± {statistics.stdev(scores):.3f}"


def welch(ours: list[float], theirs: list[float]) -> float:
    """Two-sided p of Welch's test; NaN with fewer than three seeds per side."""
    from scipy import stats

    if min(len(ours), len(theirs)) < 3:
        return math.nan
    return float(stats.ttest_ind(ours, theirs, equal_var=False).pvalue)


def shared_study(techniques: int, seeds: int, epochs: int) -> "Study":
    """The study that both sides run."""
    from study import FreezeLower, Recipe, Standard, Study
    from study.models import MINILM
    from study.tasks import TERMS

    return Study(
        name="versus-trainer",
        tasks=[TERMS.subset(128, seed=0)],
        models=[MINILM],
        recipe=Recipe(lr=1e-4, epochs=epochs, batch_size=16, max_length=64),
        techniques=[Standard(), FreezeLower(layers=FROZEN)][:techniques],
        seeds=range(seeds),
    )


# --- called in a separate process ---------------------------------------------------------------


def ours(techniques: int, seeds: int, epochs: int) -> Scores:
    """Run the study on the platform; test scores as stored in MLflow."""
    study = shared_study(techniques, seeds, epochs)
    records = common.complete(study)
    scores: Scores = {name: [] for name in TECHNIQUES[:techniques]}
    for run in study.runs():
        scores[run.cell.label].append(records[run.key].test)
    return scores


def theirs(techniques: int, seeds: int, epochs: int) -> Scores:
    """Run the study with `Trainer`; test scores as reported by the trials."""
    import ray
    from ray import tune

    from study.models.loading import processor

    study = shared_study(techniques, seeds, epochs)
    task, model = study.tasks[0], study.models[0]
    data = task.load()
    reader = processor(model, type(data.kind))
    splits = {}
    for name, split in data.splits.items():
        tokens = reader(
            split.text, split.text_pair, truncation=True, max_length=study.recipe.max_length
        )
        splits[name] = [
            {**{column: values[row] for column, values in tokens.items()}, "label": int(label)}
            for row, label in enumerate(split.gold)
        ]
    ray.init("local", num_cpus=common.WORKERS, include_dashboard=False, log_to_driver=False)
    trainable = tune.with_parameters(
        trial, splits=splits, checkpoint=str(model.folder()), recipe=study.recipe.model_dump()
    )
    tuner = tune.Tuner(
        trainable,
        param_space={
            "technique": tune.grid_search(list(TECHNIQUES[:techniques])),
            "seed": tune.grid_search(list(range(seeds))),
        },
        run_config=tune.RunConfig(storage_path=str(Path("tune").resolve()), verbose=0),
    )
    results = tuner.fit()
    ray.shutdown()
    if results.errors:
        raise RuntimeError(f"{len(results.errors)} trials failed: {results.errors[0]}")
    scores: Scores = {name: [] for name in TECHNIQUES[:techniques]}
    for result in results:
        scores[result.config["technique"]].append(result.metrics["test_accuracy"])
    return scores


def trial(
    config: Mapping[str, Any],
    splits: Mapping[str, list[dict[str, Any]]],
    checkpoint: str,
    recipe: Mapping[str, Any],
) -> None:
    """One run with `Trainer`: fine-tune, report every epoch's evaluation, and test at the end."""
    import numpy as np
    import torch
    import transformers
    from ray import tune

    class Report(transformers.TrainerCallback):
        """Reports each epoch's evaluation to Tune; the last one is reported with the test score."""

        def on_evaluate(
            self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any
        ) -> None:
            if state.epoch < args.num_train_epochs:
                tune.report(metrics)

    def accuracy(prediction: transformers.EvalPrediction) -> dict[str, float]:
        answers = np.argmax(prediction.predictions, axis=1)
        return {"accuracy": float((answers == prediction.label_ids).mean())}

    torch.set_num_threads(1)
    transformers.set_seed(config["seed"])  # also seeds the initialisation of the new head
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        checkpoint, num_labels=2, dtype=torch.float32
    )
    if config["technique"] != "Standard":
        for part in (model.bert.embeddings, *model.bert.encoder.layer[:FROZEN]):
            part.requires_grad_(False)
    reader = transformers.AutoTokenizer.from_pretrained(checkpoint)
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir="trainer",
            seed=config["seed"],
            learning_rate=recipe["lr"],
            num_train_epochs=recipe["epochs"],
            per_device_train_batch_size=recipe["batch_size"],
            per_device_eval_batch_size=16,  # as ours on a CPU
            lr_scheduler_type=recipe["schedule"],
            warmup_steps=recipe["warmup"],  # values below 1 are a fraction of all steps
            weight_decay=recipe["weight_decay"],
            adam_beta1=recipe["betas"][0],
            adam_beta2=recipe["betas"][1],
            adam_epsilon=recipe["eps"],
            max_grad_norm=recipe["clip_norm"],
            eval_strategy="epoch",
            save_strategy="no",
            logging_strategy="epoch",
            report_to="none",
            disable_tqdm=True,
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
            use_cpu=True,
        ),
        train_dataset=splits["train"],
        eval_dataset=splits["dev"],
        data_collator=transformers.DataCollatorWithPadding(reader),
        compute_metrics=accuracy,
        callbacks=[Report()],
    )
    trainer.train()
    dev = [entry for entry in trainer.state.log_history if "eval_accuracy" in entry][-1]
    tune.report({**dev, **trainer.predict(splits["test"]).metrics})


if __name__ == "__main__":
    sys.exit(main())
