"""Memory against time of every option of `study memory`, and the fastest within a budget.

Steps on one CPU thread, on rows that all have the maximum length, with real weights: MiniLM, or the
folder that scripts/join_mpnet.py writes. Of each option the bytes of a step and the median time of
some steps; for budgets of 25, 35 and 50% of the bytes of full fine-tuning the fastest that fits;
the peak of a fresh process that trains with some of them; the throughput of some at the largest
batch that needs no more bytes than full fine-tuning; and what inter-layer scheduling itself costs.
Bar: choosing and scoring take at most 10% of a step.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import ending, measured

BUDGETS = (0.25, 0.35, 0.5)
PEAKS = (  # options whose processes are measured
    "full fine-tuning",
    "checkpointing + step in backward",
    "8-bit Adam + checkpointing + step in backward",
    "SlimFit at 0.95",
    "SlimFit at 0.95 + 8-bit Adam + step in backward",
)
LARGER = (  # options whose largest batch is measured
    "full fine-tuning",
    "gradient checkpointing",
    "checkpointing + step in backward",
    "SlimFit at 0.9",
    "SlimFit at 0.95",
)
ROWS_AT_MOST = 24
MOST, GB = 0.10, 1e9


def study_of(checkpoint: str, rows: int, length: int, folder: Path) -> Any:
    """A study of one model on rows of the maximum length."""
    from study import Recipe, Standard, Study, Task
    from study.models import MINILM, MPNET
    from study.tasks import TERMS

    texts = TERMS.load().splits["train"].text
    for part, count in (("train", rows), ("dev", 8), ("test", 8)):
        words = [" ".join(texts[i : i + length]) for i in range(count)]
        lines = [
            json.dumps({"id": f"{part}{i}", "text": text, "label": i % 2})
            for i, text in enumerate(words)
        ]
        (folder / f"{part}.jsonl").write_text("\n".join(lines))
    return Study(
        name="budgets",
        tasks=[Task(name="long", train="train.jsonl", dev="dev.jsonl", test="test.jsonl")],
        models=[MPNET.replace(checkpoint=checkpoint) if checkpoint else MINILM],
        techniques=[Standard()],
        recipe=Recipe(batch_size=rows, max_length=length, clip_norm=None),
        seeds=[0],
        data=str(folder),
    )


def options(checkpoint: str, rows: int, length: int, steps: int, *only: str) -> list[Any]:
    """What `study memory` finds, as plain data, and the peak of the process; `only` of some."""
    import torch

    from study.planning import savings
    from study.training.memory import peak_memory

    with tempfile.TemporaryDirectory() as folder:
        study = study_of(checkpoint, rows, length, Path(folder))
        task, model = study.located_tasks()[0], study.models[0]
        every = savings.savings(task, model, study.recipe)
        found = savings.compared(
            study,
            task,
            model,
            [one for one in every if not only or one.name in only],
            steps=steps,
            encoded=None,
            tell=lambda name: print(name, file=sys.stderr),
        )
    peak = peak_memory(torch.device("cpu"))
    return [
        (
            one.saving.name,
            one.total,
            one.predicted and sum(one.predicted),
            one.seconds,
            one.saving.gradients,
            one.on_front,
            peak,
        )
        for one in found
    ]


@contextmanager
def counted(spent: list[float]) -> Iterator[None]:
    """Add the time within the hooks of inter-layer scheduling to the last of `spent`."""
    from study.techniques import InterLayerScheduling as Scheduling

    def timed(hook: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            started = time.perf_counter()
            answer = hook(*args)
            spent[-1] += time.perf_counter() - started
            return answer

        return call

    own = {name: vars(Scheduling)[name] for name in ("active", "before_step", "after_step")}
    for name, hook in own.items():
        setattr(Scheduling, name, timed(hook))
    try:
        yield
    finally:
        for name, hook in own.items():
            setattr(Scheduling, name, hook)


def scheduling(checkpoint: str, rows: int, length: int, steps: int) -> float:
    """Share of a step that inter-layer scheduling takes to choose and to score, at 0.9."""
    spent = [0.0]
    with counted(spent):
        (found,) = options(checkpoint, rows, length, steps, "InterLayerScheduling(0.9)")
    seconds: float = found[3]
    return spent[0] / (steps + 1) / seconds


def largest_batch(checkpoint: str, rows: int, length: int, name: str, budget: float) -> int:
    """Rows of an option's largest batch within some bytes, which grow by as much with every row."""
    sizes = [
        measured(options, checkpoint, count, length, 0, name).answer[0][2]
        for count in (rows, 2 * rows)
    ]
    per_row = (sizes[1] - sizes[0]) / rows
    return min(ROWS_AT_MOST, int(rows + (budget - sizes[0]) / per_row))


def figure(found: list[Any], file: Path, title: str) -> None:
    """Write the picture of time against memory."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 6), layout="constrained")
    axes = drawn.subplots()
    whole, plain = found[0][1], found[0][3]
    colours = {"exact": "#0072B2", "exact, states rounded": "#56B4E9", "of some weights": "#E69F00"}
    for name, total, _, seconds, gradients, front, _ in found:
        x, y = 100 * total / whole, seconds / plain
        colour = colours.get(gradients, "#D55E00")
        axes.plot(x, y, marker="o", color=colour, fillstyle="full" if front else "none")
        axes.annotate(name, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7)
    for gradients, colour in {**colours, "approximate": "#D55E00"}.items():
        axes.plot([], [], marker="o", linewidth=0, color=colour, label=f"gradients: {gradients}")
    for budget in BUDGETS:
        axes.axvline(100 * budget, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel("bytes of a step, % of full fine-tuning")
    axes.set_ylabel("time of a step, full fine-tuning = 1")
    axes.set_title(title)
    axes.legend(fontsize=8)
    drawn.savefig(file)


def main() -> int:
    """Print the table, the budgets, the peaks and the cost of scheduling."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few options, short rows and steps")
    parser.add_argument("--checkpoint", default="", help="folder of MPNet; default: MiniLM")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--figure", type=Path, help="file for the picture")
    asked = parser.parse_args()
    rows, length, steps = (4, 32, 1) if asked.quick else (asked.rows, asked.length, asked.steps)
    where = (asked.checkpoint, rows, length, steps)
    found = measured(options, *where, *(PEAKS if asked.quick else ())).answer
    whole, plain = found[0][1], found[0][3]
    model = "MPNet" if asked.checkpoint else "MiniLM"
    print(f"{model}, {rows} rows of {length} tokens, full fine-tuning {plain:.2f} s a step\n")
    print(f"{'':<50}{'predicted GB':>13}{'GB':>7}{'%':>6}{'time':>7}{'tokens/s':>10}  gradients")
    for name, total, predicted, seconds, gradients, front, _ in found:
        print(
            f"{'* ' if front else '  '}{name:<48}{predicted / GB:>13.2f}{total / GB:>7.2f}"
            f"{100 * total / whole:>6.0f}{seconds / plain:>7.2f}{rows * length / seconds:>10,.0f}"
            f"  {gradients}"
        )
    print()
    for budget in BUDGETS:
        fitting = [one for one in found if one[1] <= budget * whole]
        exact = [one for one in fitting if one[4].startswith("exact")]
        for kind, ones in (("fastest", fitting), ("of those with exact gradients", exact)):
            best = min(ones, key=lambda one: one[3], default=None)
            told = f"{best[0]}, {rows * length / best[3]:,.0f} tokens/s" if best else "none"
            print(f"{100 * budget:.0f}% of the bytes, {kind}: {told}")
    if not asked.quick:
        print()
        for name in PEAKS:
            ((*_, peak),) = measured(options, *where, name).answer
            print(f"peak of a process with {name}: {peak / GB:.2f} GB")
        print()
        for name in LARGER:
            count = largest_batch(asked.checkpoint, rows, length, name, found[0][2])
            ((_, total, _, seconds, *_),) = measured(
                options, asked.checkpoint, count, length, steps, name
            ).answer
            print(
                f"{name}: {count} rows of {length} in {total / GB:.2f} GB, "
                f"{count * length / seconds:,.0f} tokens/s"
            )
    if asked.figure:
        figure(found, asked.figure, f"{model}, {rows} x {length} tokens, one CPU thread")
    share = measured(scheduling, *where).answer
    return ending(
        "memory_budgets",
        f"choosing and scoring take {100 * share:.1f}% of a step",
        bar=f"{100 * MOST:.0f}%",
        met=share <= MOST,
    )


if __name__ == "__main__":
    sys.exit(main())
