"""`study memory`: what it predicts is measured, what it advises can be pasted, limits are kept."""

import json
import math
from pathlib import Path

import pytest

from study import Recipe, Standard, Study, Task, TaskOverrides
from study.cli.parser import run_command
from study.models import MINILM
from study.models.families import depths_of
from study.models.loading import meta_model
from study.planning import savings
from study.planning.preflight import problems
from study.planning.savings import APPROXIMATE, EXACT, Measurement, Saving, mark_front
from study.planning.study_file import load_study, valid_study
from study.tasks.kinds import KINDS
from study.testing import tiny_model, tiny_task
from study.training.memory import MemorySplit

STUDY = """\
from study import BAdam, LISA, Recipe, Standard, Study, Task
from study import (Adafactor, Adam8bit, BitFit, CompressedActivations, FreezeLower, GaLore,
                   InterLayerScheduling, LoRA)
from study.models.model import Model

STUDY = Study(
    name="small",
    tasks=[Task(name="pairs", train="train.jsonl", dev="dev.jsonl", test="test.jsonl",
                text_pair="text_pair")],
    models=[Model(name="tiny", checkpoint={model!r})],
    {lines}
    seeds=range(2),
    data={task!r},
)
"""
PLAIN = "recipe=Recipe(batch_size=8),\n    techniques=[Standard()],"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    tiny_model(tmp_path / "model")
    tiny_task(tmp_path / "task")

    def write_study(lines: str = PLAIN, name: str = "small.py") -> str:
        path: Path = tmp_path / name
        paths = {"model": str(tmp_path / "model"), "task": str(tmp_path / "task")}
        path.write_text(STUDY.format(lines=lines, **paths))
        return str(path)

    return write_study


def asked(capsys, *words: str) -> tuple[int, str, str]:
    code = run_command(["memory", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_predictions_are_measured_and_advice_can_be_pasted(write, capsys, tmp_path):
    code, out, _ = asked(capsys, write(), "--json", "--steps", "1")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert {"full fine-tuning", "gradient checkpointing", "LoRA", "SlimFit at 0.9"} <= set(rows)
    assert "LISA" not in rows  # two layers are all that this model has
    for name, row in rows.items():
        assert row["seconds"] > 0, name
        assert row["predicted_bytes"] == pytest.approx(row["measured_bytes"], rel=0.1), name
        pasted = valid_study(load_study(Path(write(row["paste"], f"pasted{len(name)}.py"))))
        assert problems(pasted) == [], name
    assert any(row["on_front"] for row in rows.values())
    whole = rows["full fine-tuning"]["measured"]
    both = rows["checkpointing + step in backward"]["measured"]
    assert both["gradients"] < whole["gradients"]
    assert both["activations"] < whole["activations"]
    assert not (tmp_path / "home").exists()  # nothing is kept


def test_a_limit_that_nothing_meets(write, capsys):
    code, out, err = asked(capsys, write(), "--limit", "0.01MB", "--steps", "0")
    assert code == 1
    assert "Fits" in out
    assert "Time" not in out  # nothing was timed
    assert "tiny: nothing fits" in err
    assert "needs the least" in err


def test_the_lines_to_paste_are_of_what_fits(write, capsys):
    code, out, _ = asked(capsys, write(), "--limit", "1GB", "--steps", "0")
    assert code == 0
    assert "techniques=[" in out
    assert "gradient_checkpointing=True," in out


def test_of_slimfit_the_lowest_rate_that_fits_is_advised(write, capsys):
    _, out, _ = asked(capsys, write(), "--json", "--steps", "0")
    sizes = {row["freeze_rate"]: row["total_bytes"] for row in json.loads(out)}
    del sizes[None]
    assert sorted(sizes) == [0.75, 0.8, 0.85, 0.9, 0.95]  # as published
    least, limit = max(sizes.items(), key=lambda one: one[1] - sizes[0.95])[0], sizes[0.95]
    assert sizes[least] > limit
    _, out, _ = asked(capsys, write(), "--limit", f"{limit / 1e6:.6f}MB", "--steps", "0")
    fitting = min(rate for rate, size in sizes.items() if size <= limit)
    assert f"SlimFit at {fitting} (all runs are new)" in out
    assert out.count("SlimFit at ") == 5 + 2 + 1  # the table, with 8-bit Adam too, and the lines


def failing(names: set[str], monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Options with these names run out of memory, the way torch says so on a CPU."""
    real = savings.begin

    def begin(setting, *rest):  # type: ignore[no-untyped-def]
        full = setting.technique == Standard() and not any(setting.savers)
        if "all" in names or (full and "full" in names):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return real(setting, *rest)

    monkeypatch.setattr(savings, "begin", begin)


def test_where_full_fine_tuning_does_not_fit_the_others_are_still_timed(write, capsys, monkeypatch):
    failing({"full"}, monkeypatch)
    code, out, _ = asked(capsys, write(), "--steps", "1")
    assert code == 0
    assert "out of memory" in out
    assert "Measured" in out
    assert "of gradient checkpointing." in " ".join(out.split())  # what times are relative to


def test_where_nothing_fits_on_this_machine_that_is_said(write, capsys, monkeypatch):
    failing({"all"}, monkeypatch)
    code, _, err = asked(capsys, write(), "--steps", "1")
    assert code == 1
    assert "every option ran out of memory on this machine" in err


def test_the_task_with_the_largest_batch_counts(tmp_path):
    lines = write_lengths(tmp_path, long=40, short=30)
    few, many = Recipe(batch_size=4), Recipe(batch_size=64)
    overrides = {"long": TaskOverrides(recipe=few), "short": TaskOverrides(recipe=many)}
    study = Study(
        name="s",
        tasks=lines,
        models=[MINILM],
        techniques=[Standard()],
        seeds=[0],
        per_task=overrides,
    )
    assert savings.largest_task(study, MINILM).name == "short"
    split = overrides | {"short": TaskOverrides(recipe=many.replace(micro_batch_size=2))}
    assert savings.largest_task(study.replace(per_task=split), MINILM).name == "long"


def write_lengths(folder: Path, **words: int) -> list[Task]:
    """Tasks whose rows have so many words."""
    tasks = []
    for name, count in words.items():
        for part in ("train", "dev", "test"):
            rows = [
                json.dumps({"id": f"{part}{i}", "text": "w " * count, "label": i % 2})
                for i in range(4)
            ]
            (folder / f"{name}_{part}.jsonl").write_text("\n".join(rows))
        files = {part: str(folder / f"{name}_{part}.jsonl") for part in ("train", "dev", "test")}
        tasks.append(Task(name=name, **files))
    return tasks


def test_options_start_from_whole_batches_and_usable_rates():
    depths = depths_of(meta_model(MINILM, KINDS["classification"]))
    found = {one.name: one for one in savings._savings(Recipe(micro_batch_size=4), depths)}
    assert found["full fine-tuning"].recipe.micro_batch_size is None
    assert found["micro-batches of 4"].recipe.micro_batch_size == 4
    assert "step in backward" in found
    assert found["Adafactor"].recipe.lr == 1e-3  # relative to the weights


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "8"], "'8' is not a size such as 8GB or 500MB"),
        (["--steps", "-1"], "is not a number of steps"),
    ],
)
def test_wrong_arguments_are_told(write, capsys, words, message):
    with pytest.raises(SystemExit):
        run_command(["memory", write(), *words])
    assert message in capsys.readouterr().err


def method(name: str, size: int, seconds: float, gradients: str = EXACT, failure: str = ""):
    saving = Saving(name, Standard(), Recipe(), gradients=gradients)
    split = MemorySplit(size, 0, 0, 0)
    return Measurement(saving, split, None if failure else split, seconds, failure=failure)


def front(found: list[Measurement]) -> list[str]:
    mark_front(found)
    return [one.saving.name for one in found if one.on_front]


def test_the_front_by_hand():
    plain, small = method("plain", 10, 1.0), method("small", 5, 2.0)
    worse, equal = method("worse", 6, 2.5), method("equal", 5, 2.0)
    rough = method("rough", 4, 1.5, APPROXIMATE)
    both = method("larger and slower than exact", 11, 1.1, APPROXIMATE)
    failed = method("failed", 1, math.nan, failure="out of memory")
    found = [plain, small, worse, equal, rough, both, failed]
    # An approximate method pushes out no exact one.
    assert front(found) == ["plain", "small", "equal", "rough"]
    untimed = [method("plain", 10, math.nan), method("small", 5, math.nan)]
    assert front(untimed) == ["small"]
