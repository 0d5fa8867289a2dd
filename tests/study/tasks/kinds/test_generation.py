"""Generation: what is encoded and scored, against transformers, greedy generation and by hand."""

import json
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from torch.nn import functional

from study import Recipe, Standard, Study, Task
from study.core.seeding import Seed
from study.core.spec import SpecError
from study.models.families import depths_of
from study.models.loading import Loaded, meta_model
from study.tasks import collapse
from study.tasks.kinds import Generation, Split
from study.tasks.kinds.conversations import template_mistake
from study.tasks.kinds.encoded import collate
from study.tasks.kinds.generation import Answer, Choices, prompt_ids
from study.tasks.metrics import METRICS
from study.techniques.state import TrainState
from study.training.fit import Setting
from study.training.generate import generate
from study.training.prepare import prepare, prepare_once
from study.training.result import predictions_of
from study.training.row_checks import text_mistakes
from study.training.step import parts_of_batch
from study.training.train import train
from tests.conftest import CPU
from tests.families import family_model
from tests.generating import answering_task, decoder

KIND = Generation(())
SEED = Seed(0, 0, 0)
IGNORED = -100


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def here(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generation")
    return decoder(folder / "model", tied=request.param)


@pytest.fixture(scope="module", params=["tied", "untied", "qwen2"])
def any_decoder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoders")
    family = "qwen2" if request.param == "qwen2" else "llama"
    return decoder(folder / "model", tied=request.param != "untied", family=family)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return answering_task(tmp_path_factory.mktemp("rows"), rows=50).load()


def split_of(*pairs: tuple[str, str]) -> Split:
    gold = [(answer,) for _, answer in pairs]
    return Split([str(n) for n in range(len(pairs))], [prompt for prompt, _ in pairs], None, gold)


# --- rows --------------------------------------------------------------------------------------


def test_a_row_is_prompt_answer_and_end(here):
    tokenizer = Loaded(here, KIND).processor
    w1, w2, w3, end = tokenizer.convert_tokens_to_ids(["w1", "w2", "w3", "<|end|>"])
    made = KIND.encode(split_of(("w1 w2", "w3"), ("w3 ", "w1 w2")), tokenizer, **cut_at(8))
    assert made.columns["input_ids"].tolist() == [w1, w2, w3, end, w3, w1, w2, end]
    none = IGNORED
    assert made.columns["labels"].tolist() == [none, none, w3, end, none, w1, w2, end]
    assert made.starts.tolist() == [0, 4, 8]
    assert made.units.tolist() == [0, 2, 5]


def cut_at(length: int) -> dict[str, object]:
    return {"max_length": length, "truncate": "longest_first"}


def test_a_prompt_loses_its_beginning_and_an_answer_nothing(here):
    tokenizer = Loaded(here, KIND).processor
    made = KIND.encode(split_of(("w1 w2 w3 w4", "w5")), tokenizer, **cut_at(4))
    assert tokenizer.decode(made.columns["input_ids"]) == "w3 w4 w5 <|end|>"
    assert KIND.full_lengths(split_of(("w1 w2 w3 w4", "w5")), tokenizer).tolist() == [6]


def test_answers_are_tokenised_after_a_space_or_a_line_break(tmp_path):
    """By byte-level tokens, of which " yes" is one and "yes" another."""
    given: list[list[str]] = []

    class Tokenizer:
        eos_token_id = pad_token_id = 0

        def __call__(self, texts, **options):
            if texts == "":
                return {"input_ids": [9]}  # what begins every text
            given.append(texts)
            return {"input_ids": [[1, 2] for _ in texts]}

    made = KIND.encode(
        split_of(("A?", "yes"), ("A:  ", "yes"), ("A\n", "yes")), Tokenizer(), **cut_at(9)
    )
    assert given == [["A?", "A:", "A\n"], [" yes", " yes", "yes"]]
    assert made.columns["input_ids"].tolist() == [9, 1, 2, 1, 2, 0] * 3


TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} <|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


@pytest.fixture
def talking(here):
    tokenizer = Loaded(here, KIND).processor
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_turns_are_those_of_the_chat_template(talking):
    """The model is asked as it would be in use, and the answer ends with the end of its turn."""
    prompt = (("system", "w9"), ("user", "w1"), ("assistant", "w2"), ("user", "w3"))
    split = Split(["a", "b"], ["w4", prompt], None, [("w5",), ("w6 w7",)])
    made = Generation((), chat=True).encode(split, talking, **cut_at(64))
    rows = [slice(*made.starts[row : row + 2]) for row in (0, 1)]
    texts = [talking.decode(made.columns["input_ids"][row]).replace("\n", "") for row in rows]
    assert texts[0] == "<unk> w4 <|end|> <unk> w5 <|end|>"  # the words of roles are unknown to it
    assert texts[1].endswith("<unk> w3 <|end|> <unk> w6 w7 <|end|>")
    answers = made.columns["labels"][made.columns["labels"] != IGNORED]
    assert talking.decode(answers) == "w5 <|end|> w6 w7 <|end|>"
    assert made.units.tolist() == [0, 2, 5]


def test_a_conversation_is_read_from_objects():
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    asked = [*turns, {"role": "user", "content": "c"}]
    assert Generation.parse_text(asked) == (("user", "a"), ("assistant", "b"), ("user", "c"))
    assert Generation.parse_text(str(asked)) == Generation.parse_text(asked)
    assert Generation.parse_text("[a]") == "[a]"
    for wrong, text in (
        (turns, "ends with a message of assistant; give that one as the label"),
        (asked[1:], "by turns"),
        ([{"role": "system", "content": "a"}], "by turns"),
        ([{"role": "user"}], "has a message without 'content'"),
        (3, "3 is not text"),
    ):
        with pytest.raises(ValueError, match=text):
            Generation.parse_text(wrong)
    _, mistakes = KIND.gold(["x"], [Generation.parse_text(asked)], None)
    assert mistakes == [(0, "has a list of messages as prompt; set chat=True.")]


def test_a_chat_template_must_exist_and_keep_the_prompt(talking):
    assert template_mistake("w1", talking) is None
    talking.chat_template = "{{ messages | length }} w1"
    assert "writes a prompt differently" in (template_mistake("w1", talking) or "")
    talking.chat_template = None
    assert "has no chat template" in (template_mistake("w1", talking) or "")


def test_chat_is_part_of_the_key_and_for_generation_alone(tmp_path):
    task = answering_task(tmp_path, rows=8)
    talk = task.replace(chat=True)
    assert "chat" not in task.identity()
    assert talk.identity()["chat"]
    assert (task.load().kind, talk.load().kind) == (KIND, Generation((), chat=True))
    assert "chat" in str(task.replace(kind="classification", metric="accuracy", chat=True).error)


@pytest.mark.parametrize(
    ("value", "prompt", "text"),
    [
        ("", "w1", "is empty; give the answer"),
        (["a", None], "w1", "is not a text, nor a list of texts"),
        (["a", " "], "w1", "is empty; give the answer"),
        ([], "w1", "is empty; give the answer"),
        (None, "w1", "None is not a text"),
        ("w2", "  ", "has an empty prompt"),
    ],
)
def test_mistakes_of_a_row(value, prompt, text):
    _, mistakes = KIND.gold([value], [prompt], None)
    assert [row for row, _ in mistakes] == [0]
    assert text in mistakes[0][1]


def test_numbers_are_answers(here):
    assert KIND.gold([42, 1.5, "x"], ["a", "b", "c"], None) == ([("42",), ("1.5",), ("x",)], [])


def test_an_answer_that_would_be_cut_is_said_before_the_first_run(here, tmp_path):
    data = answering_task(tmp_path, rows=8).load()  # answers of two words and the end
    with pytest.raises(SpecError) as caught:
        prepare_once(data, here, 3, None)
    assert [str(mistake) for mistake in caught.value.mistakes] == [
        "recipe.max_length: 3 leaves no room for the text beside the longest answer, up to 3; "
        "raise it."
    ]
    prepare_once(data, here, 4, None)


def test_a_tokenizer_without_an_end_is_refused(here, tmp_path):
    tokenizer = Loaded(here, KIND).processor
    tokenizer.pad_token, tokenizer.eos_token = "w1", None
    data = answering_task(tmp_path, rows=8).load()
    (mistake,) = text_mistakes(data, tokenizer, 32)
    assert "its tokenizer has no end token, so that no answer would end" in str(mistake)


def test_a_second_text_is_refused(tmp_path):
    wrong = answering_task(tmp_path, rows=8).replace(text_pair="more")
    assert "text_pair is not read by a generation task" in str(wrong.error)


def test_an_encoder_is_refused(tmp_path):
    with pytest.raises(SpecError, match="'bert' is no decoder, so it cannot generate text"):
        meta_model(family_model("bert", tmp_path / "bert"), Generation)


# --- the head ------------------------------------------------------------------------------------


def test_the_head_is_pretrained_and_in_the_top_layer_or_the_embeddings(here):
    loaded = Loaded(here, KIND)
    assert loaded.new == []
    model = loaded.fresh(SEED, None)
    plain = transformers.AutoModelForCausalLM.from_pretrained(here.folder(), dtype=torch.float32)
    for name, parameter in plain.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter), name
    depths = depths_of(model)
    by_name = {name: depths.of(name) for name, _ in model.named_parameters()}
    assert by_name["model.embed_tokens.weight"] == 0
    assert by_name["model.norm.weight"] == 2
    assert by_name.get("lm_head.weight") == (None if here.name == "tied" else 2)
    assert depths.head not in by_name.values()


# --- scores, against transformers and by hand ----------------------------------------------------


def logits_of(model, data, row: int) -> torch.Tensor:
    """The logits of one row, without padding, shape (tokens, vocabulary)."""
    inside = slice(data.starts[row], data.starts[row + 1])
    with torch.no_grad():
        return model(torch.tensor(data.columns["input_ids"][None, inside])).logits[0]


def test_loss_and_likelihoods_are_those_of_transformers(here, rows):
    loaded = Loaded(here, KIND)
    data = prepare(rows, loaded.processor, 32).splits["dev"]
    model = loaded.fresh(SEED, None).eval()
    batch = collate(data, np.arange(6))
    with torch.no_grad():
        whole = model(**batch)  # as transformers computes it: all logits, shifted inside
        outputs = model(**KIND.inputs(batch, targets=True))
        stored = KIND.stored(model(**KIND.inputs(batch, targets=False)), batch)
    assert outputs.logits.shape[0] == data.units[6]
    assert torch.equal(KIND.stored(outputs, batch), stored)
    assert float(outputs.loss) == pytest.approx(float(whole.loss), rel=1e-6)
    loss = whole.loss
    by_hand, best = [], []
    for row in range(6):
        logits = logits_of(model, data, row)
        labels = data.columns["labels"][data.starts[row] : data.starts[row + 1]]
        for place in np.flatnonzero(labels != IGNORED):
            before = logits[place - 1]
            by_hand.append(-functional.cross_entropy(before[None], torch.tensor(labels[[place]])))
            best.append(int(before.argmax()))
    np.testing.assert_allclose(stored[:, 0], torch.stack(by_hand), rtol=1e-5)
    assert stored[:, 1].tolist() == best
    assert float(loss) == pytest.approx(-float(torch.stack(by_hand).mean()), rel=1e-5)


def greedy_alone(model, tokenizer, prompt, most):
    """What transformers generates for one prompt, without padding."""
    ids = torch.tensor(prompt)[None]
    new = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=most,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )[0, ids.shape[1] :]
    return tokenizer.decode(new, skip_special_tokens=True).strip()


def test_scores_equal_those_of_one_row_at_a_time_and_greedy_generation(any_decoder, rows):
    """On 50 rows, of which a trained model gets some right and some wrong."""
    loaded = Loaded(any_decoder, KIND)
    data = prepare(rows, loaded.processor, 32).splits
    recipe = Recipe(lr=1e-2, epochs=12, batch_size=8)
    setting = Setting(recipe, Standard(), SEED, METRICS["exact_match"], KIND)
    outcome, model = train(setting, data, loaded, CPU)
    test, tokenizer = data["test"], loaded.processor
    answers = KIND.answers(outcome.logits["test"], test)
    right = [answer.text is not None for answer in answers]
    assert 5 < sum(right) < 45

    model.eval()
    generated, nats = [], 0.0
    for row in range(50):
        inside = slice(test.starts[row], test.starts[row + 1])
        ids, labels = test.columns["input_ids"][inside], test.columns["labels"][inside]
        prompt = ids[labels == IGNORED]
        text = greedy_alone(model, tokenizer, prompt, int(np.diff(test.units).max()))
        generated.append(text == test.gold[row][0])
        before = logits_of(model, test, row)[:-1].log_softmax(-1)
        shifted = torch.tensor(labels[1:])
        chosen = before[shifted != IGNORED].gather(1, shifted[shifted != IGNORED, None])
        assert answers[row].log_likelihood == pytest.approx(float(chosen.sum()), rel=1e-4)
        assert answers[row].tokens == len(chosen)
        nats -= float(chosen.sum())
    assert right == generated
    assert outcome.test == pytest.approx(np.mean(generated))
    perplexity = METRICS["perplexity"](test.gold, answers)
    assert perplexity == pytest.approx(np.exp(nats / np.diff(test.units).sum()), rel=1e-4)


def test_padding_on_the_left_gives_the_same_likelihoods(any_decoder, rows):
    loaded = Loaded(any_decoder, KIND)
    data = prepare(rows, loaded.processor, 32).splits["dev"]
    model = loaded.fresh(SEED, None).eval()
    batch = collate(data, np.arange(6))
    lengths = batch["attention_mask"].sum(1).tolist()
    longest = batch["attention_mask"].shape[1]
    left = {
        name: torch.stack([row.roll(longest - n) for row, n in zip(t, lengths, strict=True)])
        for name, t in batch.items()
    }
    positions = (left["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        plain = KIND.stored(model(**KIND.inputs(batch, targets=False)), batch)
        inputs = KIND.inputs(left, targets=False)
        moved = KIND.stored(model(**inputs, position_ids=positions), left)
    np.testing.assert_allclose(plain, moved, rtol=1e-4, atol=1e-5)


# --- constant answers ----------------------------------------------------------------------------


def test_floors_by_hand(here):
    """The most frequent answer; every token by its frequency among a w1, two w2 and three ends."""
    tokenizer = Loaded(here, KIND).processor
    split = split_of(("w5", "w2"), ("w6", "w1"), ("w7", "w2"))
    made = KIND.encode(split, tokenizer, **cut_at(8))
    assert collapse.floor(METRICS["exact_match"], KIND, made) == pytest.approx(2 / 3)
    shares = np.array([1 / 6] + [2 / 6] * 2 + [3 / 6] * 3)
    entropy = -np.log(shares).sum() / 6
    assert collapse.floor(METRICS["perplexity"], KIND, made) == pytest.approx(np.exp(entropy))
    assert KIND.loss_to_beat(made) == pytest.approx(entropy - 0.01)
    assert collapse.floor_of(METRICS["exact_match"], KIND, split) == pytest.approx(2 / 3)
    assert np.isnan(collapse.floor_of(METRICS["perplexity"], KIND, split))  # without tokens


def test_what_is_not_generated_is_no_constant_answer():
    assert KIND.is_constant([Answer("a", 0.0, 1)] * 3)
    assert not KIND.is_constant([Answer(None, 0.0, 1)] * 3)
    assert not KIND.is_constant([Answer("a", 0.0, 1), Answer(None, 0.0, 1)])


def test_predictions_have_a_row_per_example(here, rows):
    loaded = Loaded(here, KIND)
    data = prepare(rows, loaded.processor, 32).splits["dev"]
    gold = data.columns["labels"][data.columns["labels"] != IGNORED]
    outputs = np.stack([np.full(len(gold), -0.5), gold], axis=1).astype(np.float32)
    outputs[data.units[1] - 1, 1] = 5  # the first row ends with another token
    table = KIND.table(outputs, data)
    assert table["answer"] == ["", *[g[0] for g in data.gold[1:]]]
    assert table["label"] == [g[0] for g in data.gold]
    np.testing.assert_allclose(table["log_likelihood"], -0.5 * np.diff(data.units))
    assert Counter(map(len, table.values())) == {50: 5}


def test_a_metric_of_classes_is_refused(tmp_path):
    task = Task(name="t", kind="generation", train="a", dev="b", test="c")
    study = Study(name="s", tasks=[task], models=[], techniques=[Standard()], seeds=[0])
    with pytest.raises(SpecError, match="use one of choice_accuracy, exact_match"):
        _ = study.tasks


# --- several right answers, and generated texts -------------------------------------------------


WORDINGS = Split(
    ["one", "two"],
    ["w1 w2", "w3"],
    None,
    [("w4", "w5 w6", "w7"), ("w8 w9",)],
)


def test_any_of_several_right_answers_counts(here):
    """A row per wording where it is evaluated, the first alone where it is trained on."""
    tokenizer = Loaded(here, KIND).processor
    made = KIND.encode(WORDINGS, tokenizer, **cut_at(8))
    assert made.rows == 4
    assert made.aside["owners"].tolist() == [0, 0, 0, 1]
    assert np.diff(made.units).tolist() == [2, 3, 2, 3]
    tokens = made.columns["labels"][made.columns["labels"] != IGNORED]
    outputs = np.stack([-np.arange(1.0, 11.0), np.full(10, -1.0)], axis=1).astype(np.float32)
    outputs[2:5, 1] = tokens[2:5]  # the second wording of the first is given, nothing of the other
    first, second = KIND.answers(outputs, made)
    assert first == Answer("w5 w6", -3.0, 2)  # the likelihood is that of the first wording
    assert second == Answer(None, -27.0, 3)
    assert METRICS["exact_match"](made.gold, [first, second]) == 0.5
    table = KIND.table(outputs, made)
    assert table["label"] == ["w4", "w8 w9"]
    assert table["answer"] == ["w5 w6", ""]

    trained = KIND.encode(KIND.trained_on(WORDINGS), tokenizer, **cut_at(8))
    assert trained.rows == 2
    assert trained.gold == [("w4",), ("w8 w9",)]
    unfit = Split(["a", "b", "c"], ["w1"] * 3, None, [("w4", "w5"), ("w6", "w5"), ("w7",)])
    assert collapse.floor_of(METRICS["exact_match"], KIND, unfit) == pytest.approx(2 / 3)


def test_wordings_of_one_row_are_those_of_rows_of_their_own(here):
    loaded = Loaded(here, KIND)
    model = loaded.fresh(SEED, None).eval()
    together = KIND.encode(WORDINGS, loaded.processor, **cut_at(8))
    alone = KIND.encode(
        split_of(("w1 w2", "w4"), ("w1 w2", "w5 w6"), ("w1 w2", "w7"), ("w3", "w8 w9")),
        loaded.processor,
        **cut_at(8),
    )
    for name in ("input_ids", "labels"):
        np.testing.assert_array_equal(together.columns[name], alone.columns[name])
    assert logits_of(model, together, 1).shape == logits_of(model, alone, 1).shape


def test_generated_texts_are_those_of_one_prompt_at_a_time(any_decoder, rows):
    """Batches padded on the left against transformers without padding, on 50 rows."""
    loaded = Loaded(any_decoder, KIND)
    data = prepare(rows, loaded.processor, 32).splits
    recipe = Recipe(lr=1e-2, epochs=8, batch_size=8)
    setting = Setting(recipe, Standard(), SEED, METRICS["token_f1"], KIND)
    outcome, model = train(setting, data, loaded, CPU)
    test, tokenizer = data["test"], loaded.processor
    model.eval()
    most = 2 * int(np.diff(test.units).max())
    alone = [greedy_alone(model, tokenizer, prompt, most) for prompt in prompt_ids(test)]
    assert outcome.texts["test"] == alone
    assert len(set(alone)) > 2
    assert outcome.test == pytest.approx(
        np.mean([squad_f1(own, text) for text, (own,) in zip(alone, test.gold, strict=True)])
    )
    # Teacher-forced exact match says the same without generating.
    forced = METRICS["exact_match"](test.gold, KIND.answers(outcome.logits["test"], test))
    assert forced == pytest.approx(
        np.mean([text == own for text, (own,) in zip(alone, test.gold, strict=True)])
    )
    # Generated once, at the end, unless every epoch is compared with the others.
    assert np.isnan(outcome.curves["dev/token_f1"]).tolist() == [True] * 7 + [False]
    best = setting.recipe.replace(checkpoint="best_dev", epochs=2)
    curves = train(replace(setting, recipe=best), data, loaded, CPU)[0].curves
    assert np.isfinite(curves["dev/token_f1"]).all()


def squad_f1(right: str, given: str) -> float:
    """By hand, for words without capitals, articles and punctuation."""
    common = (Counter(right.split()) & Counter(given.split())).total()
    return 2 * common / (len(right.split()) + len(given.split()))


def test_a_checkpoints_own_settings_of_generation_are_not_used(here, rows):
    """A penalty for repetition, as instruction-tuned models bring it, is not greedy."""
    loaded = Loaded(here, KIND)
    data = prepare(rows, loaded.processor, 32).splits["test"]
    beats = []
    fresh = loaded.fresh(SEED, None).eval()
    recipe = Recipe(micro_batch_size=1)
    state = TrainState(
        *(fresh, recipe, SEED, depths_of(fresh), CPU, KIND, lambda: iter(())),
        heartbeat=lambda: beats.append(1),
    )
    plain = generate(state, data, loaded.processor)
    fresh.generation_config.repetition_penalty = 5.0
    assert generate(state, data, loaded.processor) == plain
    assert fresh.generation_config.repetition_penalty == 5.0
    assert len(beats) > 2 * 50 / 4  # at every token of every batch of four


def test_texts_are_kept_and_rescored(here, rows, tmp_path):
    loaded = Loaded(here, KIND)
    ready = prepare(rows, loaded.processor, 32)
    setting = Setting(Recipe(lr=1e-2, epochs=2), Standard(), SEED, METRICS["rouge_l"], KIND)
    outcome, _ = train(setting, ready.splits, loaded, CPU)
    (tmp_path / "p.parquet").write_bytes(predictions_of(outcome, ready))
    kept = pd.read_parquet(tmp_path / "p.parquet")
    test = kept[kept["split"] == "test"]
    assert test["answer"].tolist() == outcome.texts["test"]
    pairs = zip(test["label"], test["answer"], strict=True)
    assert outcome.test == pytest.approx(np.mean([rouge_l(*pair) for pair in pairs]))


def rouge_l(right: str, given: str) -> float:
    """F-measure of the longest common subsequence of words, by the table of its lengths."""
    a, b = right.split(), given.split()
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, j in product(range(len(a)), range(len(b))):
        same = a[i] == b[j]
        table[i + 1, j + 1] = table[i, j] + 1 if same else max(table[i, j + 1], table[i + 1, j])
    return 2 * table[-1, -1] / (len(a) + len(b)) if b else 0.0


@pytest.mark.parametrize(
    ("right", "given", "f1", "rouge"),
    [
        ("The cat sat.", "cat sat", 1.0, 4 / 5),
        ("a b c d", "b d", 2 * 2 / 5, 2 * 2 / 6),  # F1 leaves out the article
        ("cat", "", 0.0, 0.0),
        ("cat", "dog", 0.0, 0.0),
    ],
)
def test_texts_are_compared_as_squad_and_rouge_do(right, given, f1, rouge):
    predicted = [Answer(given, 0.0, 1)]
    assert METRICS["token_f1"]([(right,)], predicted) == pytest.approx(f1)
    assert METRICS["rouge_l"]([(right,)], predicted) == pytest.approx(rouge)
    assert METRICS["token_f1"]([("other", right)], predicted) == pytest.approx(f1)
    assert METRICS["token_f1"]([(right,)], predicted) == METRICS["squad_f1"]([(right,)], [given])


def test_without_the_end_an_answer_may_go_on(here, tmp_path):
    """Its tokens alone are learnt and scored; all else is as with it."""
    tokenizer = Loaded(here, KIND).processor
    open_end = replace(KIND, end=False)
    ended, plain = (kind.encode(WORDINGS, tokenizer, **cut_at(8)) for kind in (KIND, open_end))
    assert (np.diff(ended.units) - np.diff(plain.units)).tolist() == [1] * 4
    assert tokenizer.eos_token_id not in plain.columns["input_ids"]
    assert (np.diff(ended.starts) - np.diff(plain.starts)).tolist() == [1] * 4
    task = answering_task(tmp_path, rows=8)
    assert "end" not in task.identity()
    assert task.replace(end=False).identity()["end"] is False
    assert task.replace(end=False).load().kind == open_end
    assert "end" in str(task.replace(kind="classification", metric="accuracy", end=False).error)


# --- choices -------------------------------------------------------------------------------------

CHOICE = replace(KIND, choices=True, end=False)


def test_the_most_likely_choice_is_chosen(here):
    """Summed over its tokens; by hand, with the first choice longer than the second."""
    tokenizer = Loaded(here, KIND).processor
    gold, mistakes = CHOICE.gold(["w5", "w6"], ["w1", "w2"], [["w4 w4", "w5"], '["w6", "w7"]'])
    assert mistakes == []
    assert gold == [Choices(("w4 w4", "w5"), 1), Choices(("w6", "w7"), 0)]
    split = Split(["a", "b"], ["w1", "w2"], None, gold)
    made = CHOICE.encode(split, tokenizer, **cut_at(8))
    assert np.diff(made.units).tolist() == [2, 1, 1, 1]
    outputs = np.array([[-1.0, 0], [-1.5, 0], [-2.0, 0], [-3.0, 0], [-2.5, 0]], np.float32)
    first, second = CHOICE.answers(outputs, made)
    assert first == Answer("w5", -2.0, 1)  # -2 against -2.5
    assert second == Answer("w7", -3.0, 1)  # chosen, and the likelihood of the right one
    assert METRICS["choice_accuracy"](made.gold, [first, second]) == 0.5
    assert METRICS["perplexity"](made.gold, [first, second]) == pytest.approx(np.exp(2.5))
    assert CHOICE.table(outputs, made)["label"] == ["w5", "w6"]
    assert METRICS["choice_accuracy"](made.gold, CHOICE.perfect(made.gold)) == 1.0

    trained = CHOICE.encode(CHOICE.trained_on(split), tokenizer, **cut_at(8))
    assert trained.gold == [("w5",), ("w6",)]
    assert trained.rows == 2


def test_all_choices_follow_the_same_prompt(here):
    """Where it is cut, as much of it as beside the longest choice."""
    tokenizer = Loaded(here, KIND).processor
    gold = [Choices(("w1", "w2 w3 w4"), 0)]
    split = Split(["a"], ["w5 w6 w7 w8 w9"], None, gold)
    made = CHOICE.encode(split, tokenizer, **cut_at(6))
    prompts = [
        made.columns["input_ids"][a:b][made.columns["labels"][a:b] == IGNORED].tolist()
        for a, b in zip(made.starts[:-1], made.starts[1:], strict=True)
    ]
    assert prompts[0] == prompts[1]
    assert len(prompts[0]) == 3


def test_constant_choices_are_those_of_a_place(here):
    """Of three rows the second choice is right in two, and no text is right twice."""
    gold = [Choices(("a", "b"), 1), Choices(("c", "d", "e"), 1), Choices(("f", "g"), 0)]
    split = Split(["1", "2", "3"], ["w1"] * 3, None, gold)
    assert collapse.floor_of(METRICS["choice_accuracy"], CHOICE, split) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("label", "choices", "text"),
    [
        ("w9", ["w1", "w2"], "'w9' is none of the choices w1, w2"),
        ("w1", ["w1"], "give two different texts or more"),
        ("w1", ["w1", "w1"], "give two different texts or more"),
        ("w1", "w1 or w2", "give two different texts or more"),
        ("w1", ["w1", None], "give two different texts or more"),
    ],
)
def test_mistakes_of_choices(label, choices, text):
    _, mistakes = CHOICE.gold([label], ["w1"], [choices])
    assert text in mistakes[0][1]


def test_a_model_learns_to_choose(here, tmp_path):
    """From rows with a column of choices to the score, against likelihoods by transformers."""
    task = answering_task(tmp_path)
    for split in ("train", "dev", "test"):
        file = tmp_path / f"{split}.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        labels = sorted({row["label"] for row in rows})
        file.write_text("\n".join(json.dumps({**row, "options": labels}) for row in rows))
    choosing = task.replace(metric="choice_accuracy", choices="options", end=False)
    assert choosing.identity() != task.identity()
    loaded = Loaded(here, KIND)
    ready = prepare(choosing.load(), loaded.processor, 32)
    recipe = Recipe(lr=1e-2, epochs=12, batch_size=8)
    setting = Setting(recipe, Standard(), SEED, METRICS["choice_accuracy"], ready.kind)
    outcome, model = train(setting, ready.splits, loaded, CPU)
    test = ready.splits["test"]
    assert outcome.test > collapse.floor(METRICS["choice_accuracy"], ready.kind, test)
    right = 0
    for example, gold in enumerate(test.gold):
        sums = []
        for row in np.flatnonzero(test.aside["owners"] == example):
            labels = test.columns["labels"][test.starts[row] : test.starts[row + 1]]
            before = logits_of(model.eval(), test, row)[:-1].log_softmax(-1)
            inside = torch.tensor(labels[1:] != IGNORED)
            ids = torch.tensor(labels[1:])[inside, None]
            sums.append(float(before[inside].gather(1, ids).sum()))
        right += int(np.argmax(sums)) == gold.right
    assert outcome.test == pytest.approx(right / len(test.gold))


def test_choices_and_their_metric_belong_together(tmp_path):
    task = answering_task(tmp_path, rows=8)
    for fields, text in (
        ({"metric": "choice_accuracy"}, "choices is missing; 'choice_accuracy' needs"),
        ({"choices": "options"}, None),
        ({"choices": "options", "metric": "exact_match"}, "compares no choices"),
        ({"choices": "options", "kind": "classification", "metric": "accuracy"}, "has classes"),
    ):
        changed = task.replace(**fields)
        assert (text in str(changed.error)) if text else changed.choices == "options"


def test_whole_conversations_end_with_the_answer(tmp_path):
    """The common layout: all messages in one column."""
    talks = [
        [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}],
        [
            {"role": "system", "content": "w3"},
            {"role": "user", "content": "w4"},
            {"role": "assistant", "content": "w5"},
            {"role": "user", "content": "w6"},
            {"role": "assistant", "content": "w7"},
        ],
    ]
    for split in ("train", "dev", "test"):
        lines = [json.dumps({"messages": each}) for each in talks]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "dev", "test")}
    fields = {"name": "talks", "kind": "generation", "metric": "perplexity", **files}
    task = Task(**fields, text="messages", label="messages", chat=True)
    train = task.load().splits["train"]
    assert train.gold == [("w2",), ("w7",)]
    assert train.text[0] == (("user", "w1"),)
    assert train.text[1][-1] == ("user", "w6")
    assert "as the text is" in str(Task(**fields, text="messages", label="messages").error)

    talks[0].pop()
    (tmp_path / "dev.jsonl").write_text("\n".join(json.dumps({"messages": m}) for m in talks))
    with pytest.raises(SpecError, match=r"row 1, messages is empty; give the answer"):
        task.replace(name="unanswered").load()


# --- the loss ------------------------------------------------------------------------------------


def test_a_long_answer_counts_no_more_than_a_short_one(here, rows, tmp_path):
    """The mean over rows of each row's own mean loss, by transformers a row at a time."""
    kind = replace(KIND, loss_per="row")
    loaded = Loaded(here, kind)
    data = prepare(rows, loaded.processor, 32).splits["train"]
    batch = collate(data, np.arange(6))
    assert len(set(np.diff(data.units[:7]))) > 1
    recipe = Recipe(micro_batch_size=4)
    fresh = loaded.fresh(SEED, None).eval()
    state = TrainState(fresh, recipe, SEED, depths_of(fresh), CPU, kind, lambda: iter(()))
    each = []
    for row in range(6):
        one = collate(data, np.array([row]))
        each.append(fresh(**one).loss)
    by_hand = torch.stack(each).mean()
    assert float(state.forward(batch).loss) == pytest.approx(float(by_hand), rel=1e-5)
    assert float(state.forward(batch).loss) != pytest.approx(float(fresh(**batch).loss), rel=1e-4)
    parts = list(parts_of_batch(batch, 4, kind))
    together = sum(part.share * state.forward(part.batch).loss for part in parts)
    assert float(together) == pytest.approx(float(by_hand), rel=1e-5)

    lengths, tokens = np.diff(data.units), data.columns["labels"]
    weights = np.repeat(1 / lengths, lengths) / len(lengths)
    tokens = tokens[tokens != IGNORED]
    shares = [weights[tokens == token].sum() for token in np.unique(tokens)]
    entropy = -sum(share * np.log(share) for share in shares)
    assert kind.loss_to_beat(data) == pytest.approx(entropy - 0.01)
    assert KIND.loss_to_beat(data) != pytest.approx(entropy - 0.01, rel=1e-4)

    task = answering_task(tmp_path, rows=8)
    assert task.replace(loss_per="row").load().kind == kind
    assert task.replace(loss_per="row").identity()["loss_per"] == "row"
    assert "loss_per" not in task.identity()
    other = task.replace(kind="classification", metric="accuracy", loss_per="row")
    assert "is for generation, not for classification" in str(other.error)


@pytest.mark.parametrize("content", [None, [{"type": "text", "text": "w1"}]])
def test_a_message_must_have_text(content):
    with pytest.raises(ValueError, match="has a message whose content is"):
        KIND.parse_text([{"role": "user", "content": content}])


def test_a_template_that_refuses_a_role_is_said(talking):
    talking.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + TEMPLATE
    )
    assert template_mistake("w1", talking) is None
    refused = template_mistake((("system", "w2"), ("user", "w1")), talking)
    assert "refuses messages of system, user: no system" in str(refused)
