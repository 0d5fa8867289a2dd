"""What fails in every run is found before the first one, all at once, in the project's words."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from study import Recipe, Standard, Study, Task
from study.cli.parser import run_command
from study.core.spec import SpecError
from study.models.model import Model
from study.models.weights import stored_shapes
from study.planning.preflight import problems
from study.testing import tiny_model, tiny_task
from study.training.prepare import prepare_once
from tests.families import family_model, image_task

WEIGHTS = "model.safetensors"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 440449768\n"


def rename(folder: Path, change: Callable[[str], str]) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({change(n): w for n, w in weights.items()}, folder / WEIGHTS, {"format": "pt"})


def configure(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def shard(folder: Path) -> None:
    body = transformers.BertModel.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    body.save_pretrained(folder, max_shard_size="8KB")


def one_shard_missing(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00004.safetensors").unlink()


def shards_without_index(folder: Path) -> None:
    shard(folder)
    (folder / f"{WEIGHTS}.index.json").unlink()


def cut(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def stored_as_integers(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    name = next(name for name in weights if name.endswith("query.weight"))
    weights[name] = weights[name].to(torch.int8)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / WEIGHTS).rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')


def more_words(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["w40"])
    tokenizer.save_pretrained(folder)


def one_token_type(folder: Path) -> None:
    configure(folder, type_vocab_size=1)
    weights = load_file(folder / WEIGHTS)
    name = next(name for name in weights if "token_type" in name)
    weights[name] = weights[name][:1].clone()
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def other_sizes(folder: Path) -> None:
    configure(folder, intermediate_size=64)


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pointer": (
        lambda f: (f / WEIGHTS).write_text(POINTER),
        "model.safetensors is a Git LFS pointer instead of the file; run `git lfs pull`",
    ),
    "tokenizer pointer": (
        lambda f: (f / "tokenizer.json").write_text(POINTER),
        "tokenizer.json is a Git LFS pointer instead of the file; run `git lfs pull`",
    ),
    "empty": (
        lambda f: (f / WEIGHTS).write_bytes(b""),
        "model.safetensors is empty; download the checkpoint again.",
    ),
    "cut": (cut, "model.safetensors is cut short or damaged"),
    "a shard missing": (
        one_shard_missing,
        "the weights lack model-00002-of-00004.safetensors, which model.safetensors.index.json "
        "names; download the checkpoint again.",
    ),
    "no index": (shards_without_index, "but neither model.safetensors nor model.safetensors.index"),
    "module.": (
        lambda f: rename(f, lambda name: f"module.{name}"),
        "the names of its weights begin with 'module.': save the model inside that wrapper again",
    ),
    "model.": (
        lambda f: rename(f, lambda name: f"model.{name}"),
        "the names of its weights begin with 'model.': save the model inside that wrapper again",
    ),
    "other sizes": (other_sizes, "those that it has are of another size than its config.json says"),
    "bitsandbytes": (
        lambda f: configure(f, quantization_config={"quant_method": "bitsandbytes"}),
        "the weights are quantised (by bitsandbytes) and cannot be fine-tuned; name the checkpoint",
    ),
    "integers": (stored_as_integers, "query.weight has the type I8) and cannot be fine-tuned"),
    "adapter": (adapter, "the folder holds an adapter, not a model; merge it into its base model"),
    "no config": (lambda f: (f / "config.json").unlink(), "the folder has no config.json"),
    "bad config": (
        lambda f: (f / "config.json").write_text("{not json"),
        "config.json is not valid JSON",
    ),
    "no architecture": (
        lambda f: configure(f, model_type=""),
        "config.json does not name the architecture",
    ),
    "cut tokenizer": (
        lambda f: (f / "tokenizer.json").write_text('{"model":'),
        "its tokenizer cannot be read (JSONDecodeError",
    ),
    "other tokenizer": (
        lambda f: (f / "tokenizer.json").write_text("{}"),
        "its tokenizer cannot be read (KeyError: 'added_tokens'); download the checkpoint again.",
    ),
    "a list": (
        lambda f: (f / "config.json").write_text("[]"),
        "config.json is not a JSON object",
    ),
    "text for a number": (
        lambda f: configure(f, hidden_size="16"),
        "config.json cannot be used: Validation error for field 'hidden_size'",
    ),
    "more layers": (
        lambda f: configure(f, num_hidden_layers=3),
        "or config.json belongs to another checkpoint",
    ),
    "padding id": (
        lambda f: configure(f, pad_token_id=45),
        "the padding id of config.json, 45, is outside of the 45 embeddings",
    ),
    "token types": (
        one_token_type,
        "its config.json has 1 token type (type_vocab_size), but its tokenizer gives the second "
        "text of a pair token type 1",
    ),
    "more words": (
        more_words,
        "its tokenizer has 46 tokens for 45 embeddings, and one without an embedding occurs in "
        "train.jsonl, row 2",
    ),
}


def lack_a_mean(folder: Path) -> None:
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_mean": None}))


def make_larger_images(folder: Path) -> None:
    file = folder / "preprocessor_config.json"
    size = {"size": {"height": 16, "width": 16}}
    file.write_text(json.dumps(json.loads(file.read_text()) | size))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lack_a_mean, "preprocessor_config.json lacks image_mean; add the values of pretraining"),
        (
            make_larger_images,
            "its image processor makes images of 16 x 16 pixels, and the model reads 8 x 8",
        ),
        (
            lambda f: (f / "preprocessor_config.json").write_text("{"),
            "its image processor cannot be read",
        ),
    ],
    ids=["mean", "size", "cut"],
)
def test_an_image_model_that_fails_in_every_run(damage, expected, tmp_path):
    model = family_model("vit", tmp_path / "model")
    damage(tmp_path / "model")
    (mistake,) = told(study_of(image_task(tmp_path / "task", rows=8), model))
    assert mistake.startswith("models[0].checkpoint: ")
    assert expected in mistake


def files(folder: Path, rows: list[dict[str, Any]], **fields: Any) -> Task:
    """A task with the same rows in each split."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "dev", "test"):
        lines = [json.dumps(row) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    paths = {split: f"{split}.jsonl" for split in ("train", "dev", "test")}
    return Task(name="rows", folder=str(folder), **paths, **fields)


def pairs(folder: Path) -> Task:
    words = (("w0", "w39", "y"), ("w1", "w40", "n"))
    rows = [dict(zip(("text", "text_pair", "label"), row, strict=True)) for row in words * 4]
    return files(folder, rows, text_pair="text_pair")


def study_of(task: Task, *models: Model, **recipe: Any) -> Study:
    recipe = {"max_length": 32, "epochs": 1, **recipe}
    return Study(
        name="checked",
        tasks=[task],
        models=models,
        techniques=[Standard()],
        recipe=Recipe(**recipe),
        seeds=[0],
    )


def told(study: Study) -> list[str]:
    folder = f"{study.tasks[0].folder}/"
    return [str(mistake).replace(folder, "") for mistake in problems(study)]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_fails_in_every_run(name, tmp_path):
    damage, expected = CHECKPOINTS[name]
    model = tiny_model(tmp_path / "model")
    damage(tmp_path / "model")
    (mistake,) = told(study_of(pairs(tmp_path / "task"), model))
    assert mistake.startswith("models[0].checkpoint: ")
    assert expected in mistake


@pytest.mark.parametrize(
    "change",
    [
        shard,
        lambda f: rename(f, lambda name: f"bert.{name}"),
        lambda f: rename(f, lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma")),
        lambda f: (f / "onnx.safetensors").write_text(POINTER),
        lambda f: (f / "notes.txt").write_text(""),
        lambda f: save_file(load_file(f / WEIGHTS), f / WEIGHTS),  # without metadata
    ],
    ids=["sharded", "bert.", "gamma", "pointer beside", "empty notes", "no metadata"],
)
def test_a_checkpoint_that_can_be_used(change, tmp_path):
    model = tiny_model(tmp_path / "model")
    change(tmp_path / "model")
    task = pairs(tmp_path / "task")
    assert [m for m in told(study_of(task, model)) if "46 tokens" not in m] == []


def test_a_decoder_without_padding_and_end_token(tmp_path):
    model = family_model("llama", tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    values = json.loads(file.read_text())
    for name in ("pad_token", "eos_token", "bos_token"):
        values.pop(name, None)
    file.write_text(json.dumps(values))
    (mistake,) = told(study_of(pairs(tmp_path / "task"), model))
    assert "its tokenizer has neither a padding nor an end token" in mistake


def test_a_padding_token_without_an_embedding(tmp_path):
    model = family_model("llama", tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.checkpoint)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(model.checkpoint)
    task = files(tmp_path / "task", FINE)
    (mistake,) = told(study_of(task, model))
    assert "its padding token '[PAD]' was added to the tokenizer as number 42" in mistake


HALF = "has half of a surrogate pair"
CUT = {"text": "nice \ud83d day", "label": "no"}
FINE = [{"text": "w1", "label": "yes"}, {"text": "w2", "label": "no"}] * 4


@pytest.mark.parametrize(
    ("rows", "fields", "column"),
    [
        ([*FINE[:2], CUT], {}, "text"),
        ([*FINE[:2], {"text": "w1", "label": "\ud83d"}], {}, "label"),
        ([*FINE[:2], {"text": "w1", "label": "no", "id": "\udc00"}], {}, "id"),
        (
            [{"text": ["w1", "w2"], "label": ["O", "B-X"]}] * 2
            + [{"text": ["w1", "\ud83d"], "label": ["B-X", "O"]}],
            {"kind": "tagging", "metric": "entity_f1"},
            "text",
        ),
        (
            [{"text": "w1", "c": "w1 w2", "label": []}] * 2
            + [{"text": "w1", "c": "w1 \ud83d", "label": []}],
            {"kind": "span", "metric": "squad_f1", "text_pair": "c"},
            "c",
        ),
    ],
    ids=["text", "label", "id", "words", "context"],
)
def test_text_that_no_tokenizer_takes(rows, fields, column, tmp_path):
    task = files(tmp_path / "task", rows, **fields)
    with pytest.raises(SpecError) as raised:
        task.load()
    mistakes = [str(mistake).replace(f"{task.folder}/", "") for mistake in raised.value.mistakes]
    assert any(m.startswith(f"train.jsonl, row 3, {column} {HALF}") for m in mistakes), mistakes


def test_a_row_without_tokens(tmp_path):
    """An encoder has special tokens there; a decoder has nothing to read."""
    task = files(tmp_path / "task", [*FINE, {"text": " \u2003", "label": "no"}])
    bert, llama = tiny_model(tmp_path / "bert"), family_model("llama", tmp_path / "llama")
    assert told(study_of(task, bert)) == []
    assert told(study_of(task, llama)) == [
        f"{split}.jsonl, row 9 has no tokens: the tokenizer drops all of its characters; "
        "remove the row."
        for split in ("train", "dev", "test")
    ]


@pytest.mark.parametrize(
    ("kind", "length", "fits"),
    [("pairs", 3, False), ("pairs", 4, True), ("second", 6, False), ("second", 7, True)]
    + [("span", 9, False), ("span", 10, True)],
)
def test_a_maximum_length_without_room_for_text(kind, length, fits, tmp_path):
    """The tokenizer raised an exception, or ended the process."""
    long = " ".join(f"w{i}" for i in range(20))
    rows = [{"text": long, "c": long, "label": label} for label in ("yes", "no") * 4]
    fields: dict[str, Any] = {"text_pair": "c"}
    if kind == "second":
        fields["truncate"] = "only_second"
    if kind == "span":
        fields |= {"kind": "span", "metric": "squad_f1"}
        answers = [[], [{"text": "w0", "start": 0}]]
        rows = [{"text": long, "c": long, "label": label} for label in answers * 4]
    study = study_of(files(tmp_path / "task", rows, **fields), tiny_model(tmp_path / "model"))
    found = told(study.replace(recipe=Recipe(max_length=length)))
    assert [m for m in found if "leaves no room for the text" not in m] == []
    assert bool(found) == (not fits)


def test_a_metric_that_raises_on_constant_answers(tmp_path, monkeypatch):
    """Every run scores a constant predictor, at its end."""
    (tmp_path / "own_metrics_of_checks.py").write_text(
        "def ratio(gold, predicted):\n    return 1 / float(predicted.min() - predicted.max())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = files(tmp_path / "task", FINE, metric="own_metrics_of_checks:ratio")
    assert told(study_of(task, tiny_model(tmp_path / "model"))) == [
        "task 'rows', metric: 'own_metrics_of_checks:ratio' fails on constant answers or on the "
        "right ones: ZeroDivisionError: float division by zero"
    ]


def test_everything_at_once_by_a_dry_run(tmp_path, monkeypatch, capsys):
    tiny_task(tmp_path / "task", rows=8)
    names = ["pointer", "cut", "module.", "bitsandbytes", "token types"]
    for name in names:
        folder = tmp_path / name.replace(" ", "-")
        tiny_model(folder)
        CHECKPOINTS[name][0](folder)
    models = [f"Model(name='m{i}', checkpoint={str(tmp_path / n.replace(' ', '-'))!r})"
              for i, n in enumerate(names)]  # fmt: skip
    rows = [*FINE[:2], CUT]
    files(tmp_path / "half", rows)
    (tmp_path / "checked.py").write_text(
        "from study import Recipe, Standard, Study, Task\nfrom study.models import Model\n"
        "def files(name, **fields):\n"
        f"    folder = {str(tmp_path)!r} + '/' + name + '/'\n"
        "    return Task(name=name, train=folder + 'train.jsonl', dev=folder + 'dev.jsonl',\n"
        "                test=folder + 'test.jsonl', **fields)\n"
        "STUDY = Study(name='checked', tasks=[files('task', text_pair='text_pair'),\n"
        f"    files('half')], models=[{', '.join(models)}], techniques=[Standard()],\n"
        "    recipe=Recipe(max_length=32), seeds=[0])\n"
    )
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    assert run_command(["run", str(tmp_path / "checked.py"), "--dry-run"]) == 2
    error = capsys.readouterr().err
    for index, name in enumerate(names):
        pattern = rf"models\[{index}\]\.checkpoint: .*" + re.escape(CHECKPOINTS[name][1])
        assert re.search(pattern, error), (name, error)
    assert f"train.jsonl, row 3, text {HALF}" in error
    assert not (tmp_path / "home").exists()


def test_a_plan_tells_all_mistakes_too(tmp_path, monkeypatch, capsys):
    """It ended with the first one, or with a traceback."""
    for name in ("bad config", "empty"):
        folder = tmp_path / name.replace(" ", "-")
        tiny_model(folder)
        CHECKPOINTS[name][0](folder)
    tiny_task(tmp_path / "task", rows=8)
    (tmp_path / "planned.py").write_text(
        "from study import Recipe, Standard, Study, Task\nfrom study.models import Model\n"
        f"folder = {str(tmp_path)!r}\n"
        "STUDY = Study(name='planned', tasks=[Task(name='t', text_pair='text_pair',\n"
        "    train='train.jsonl', dev='dev.jsonl', test='test.jsonl')], data=folder + '/task',\n"
        "    models=[Model(name=name, checkpoint=folder + '/' + name)\n"
        "            for name in ('bad-config', 'empty')], techniques=[Standard()], seeds=[0])\n"
    )
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    assert run_command(["plan", str(tmp_path / "planned.py")]) == 2
    error = capsys.readouterr().err
    assert "models[0].checkpoint: config.json is not valid JSON" in error
    assert "models[1].checkpoint: model.safetensors is empty" in error


def test_what_was_encoded_for_the_check_is_read_by_the_run(tmp_path):
    model, encoded = tiny_model(tmp_path / "model"), tmp_path / "encoded"
    study = study_of(files(tmp_path / "task", FINE), model)
    assert problems(study, encoded) == []
    (file,) = encoded.iterdir()
    written = file.stat()
    assert problems(study, encoded) == []
    prepare_once(study.tasks[0].load(), model, 32, encoded)
    assert list(encoded.iterdir()) == [file]
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_data_that_do_not_fit_are_not_kept(tmp_path):
    more_words(Path(tiny_model(tmp_path / "model").checkpoint))
    model = Model(name="grown", checkpoint=str(tmp_path / "model"))
    study = study_of(pairs(tmp_path / "task"), model)
    for _ in range(2):
        assert "46 tokens for 45 embeddings" in str(*problems(study, tmp_path / "encoded"))
    assert not (tmp_path / "encoded").exists()


def test_headers_are_read_without_the_weights(tmp_path):
    model = tiny_model(tmp_path / "model")
    for tensor in stored_shapes(model.folder()).values():
        assert tensor.untyped_storage().nbytes() <= 4
