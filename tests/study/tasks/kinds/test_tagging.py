"""Token classification: label positions, truncated words, and the published scoring rules."""

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import TokenClassifierOutput

from study.models.loading import Loaded
from study.tasks.kinds import Split, Tagging
from study.tasks.kinds.encoded import Encoded, collate
from study.tasks.kinds.tagging import IGNORED
from study.tasks.metrics import METRICS

KIND = Tagging(("O", "B-X", "I-X"))


def encode(words: list[list[str]], tags: list[list[str]], loaded: Loaded, length: int) -> Encoded:
    ids = [str(number) for number in range(len(words))]
    split = Split(ids, words, None, tags)
    return KIND.encode(split, loaded.processor, max_length=length, truncate="longest_first")


def test_only_the_first_token_of_a_word_has_a_label(loaded: Loaded):
    """[CLS] w1 w2 - w3 w4 [SEP]: "w2-w3" is one word of three tokens."""
    made = encode([["w1", "w2-w3", "w4"]], [["O", "B-X", "I-X"]], loaded, 32)
    assert made.columns["labels"].tolist() == [IGNORED, 0, 1, IGNORED, IGNORED, 2, IGNORED]
    assert made.aside["words"].tolist() == [0, 1, 2]
    assert made.units.tolist() == [0, 3]


def logits(*tags: int) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[list(tags)]


def test_truncated_words_are_predicted_o(loaded: Loaded):
    """A truncated entity counts as missed, instead of being left out of the score."""
    made = encode([["w1", "w2", "w3"]], [["B-X", "O", "B-X"]], loaded, 4)
    assert KIND.answers(logits(1, 0), made) == [["B-X", "O", "O"]]
    score = METRICS["entity_f1"](made.gold, KIND.answers(logits(1, 0), made))
    assert score == pytest.approx(2 / 3)  # one right, one missed


def test_a_word_without_tokens_is_predicted_o(loaded: Loaded):
    made = encode([["\u200b", "w2"]], [["O", "B-X"]], loaded, 32)
    assert KIND.answers(logits(1), made) == [["O", "B-X"]]


def test_units_follow_the_rows_and_skip_padding(loaded: Loaded):
    made = encode([["w1"], ["w1", "w2"]], [["O"], ["O", "B-X"]], loaded, 32)
    batch = collate(made, np.array([1, 0]))
    given = torch.arange(2 * 4 * 3, dtype=torch.float32).reshape(2, 4, 3)
    units = KIND.units(TokenClassifierOutput(logits=given), batch)
    assert units[:, 0].tolist() == [3.0, 6.0, 15.0]  # tokens 1 and 2 of row 1, token 1 of row 0


def test_padding_does_not_count_towards_the_divergence(loaded: Loaded):
    made = encode([["w1"], ["w1", "w2"]], [["O"], ["O", "B-X"]], loaded, 32)
    batch = collate(made, np.array([0, 1]))
    first = torch.zeros(2, 4, 3)
    second = first.clone()
    second[0, 2:] = torch.tensor([9.0, 0.0, 0.0])  # row 0: [CLS] w1 [SEP] and padding
    same = KIND.divergence(
        TokenClassifierOutput(logits=first), TokenClassifierOutput(logits=second), batch
    )
    assert same.item() == 0.0


def conlleval(tags: list[str]) -> set[tuple[str, int, int]]:
    """Entities by the rules of the CoNLL-2000 script: a stray I- begins one."""
    entities, start, kind = set(), 0, None
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind is not None and (prefix != "I" or name != kind):
            entities.add((kind, start, index))
            kind = None
        if prefix != "O" and kind is None:
            start, kind = index, name
    return entities


def test_entity_f1_follows_the_conll_script():
    rng = np.random.default_rng(0)
    names = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    gold, given = (
        [[names[i] for i in rng.integers(5, size=12)] for _ in range(50)] for _ in range(2)
    )
    right = sum(len(conlleval(a) & conlleval(b)) for a, b in zip(gold, given, strict=True))
    sizes = sum(len(conlleval(tags)) for tags in [*gold, *given])
    assert METRICS["entity_f1"](gold, given) == pytest.approx(2 * right / sizes)


def test_a_stray_inside_tag_is_an_entity_but_not_in_strict_mode():
    gold, given = [["B-X", "O"]], [["I-X", "O"]]
    assert METRICS["entity_f1"](gold, given) == 1.0
    assert METRICS["entity_f1_strict"](gold, given) == 0.0


def test_word_f1_ignores_prefixes_and_o_by_hand():
    gold = [["B-PAR", "I-PAR", "O", "B-INT"]]
    given = [["I-PAR", "O", "O", "B-OUT"]]
    # PAR: precision 1, recall 1/2; INT: 0; OUT: 0
    assert METRICS["word_macro_f1"](gold, given) == pytest.approx((2 / 3 + 0 + 0) / 3)


def test_invalid_rows_are_reported():
    gold, mistakes = KIND.gold([["O"], ["O", "B-Z"]], [["a", "b"], ["a", "b"]], None)
    assert gold == [["O"], ["O", "B-Z"]]
    assert mistakes == [
        (0, "has 1 tags for 2 words; each word needs one tag."),
        (1, "'B-Z' is not a label. Did you mean 'B-X'?"),
    ]


def test_values_that_are_not_tags_are_reported():
    """Class names without a prefix, or numbers, would score 0 for a perfect prediction."""
    kind = Tagging(Tagging.class_names([["O", "1", "B"]]))
    _, mistakes = kind.gold([["O", "1", "B"]], [["a", "b", "c"]], None)
    assert mistakes == [
        (0, "'1' is not a tag; use O, B-CLASS or I-CLASS, such as B-Gene."),
        (0, "'B' is not a tag; use O, B-CLASS or I-CLASS, such as B-Gene."),
    ]
    assert kind.gold([3], [["a"]], None)[1][0] == (0, "3 is not a list of words or tags.")


def test_constant_predictions_are_one_per_tag(loaded: Loaded):
    made = encode([["w1", "w2"]], [["O", "B-X"]], loaded, 32)
    assert KIND.constants(made) == [[["O", "O"]], [["B-X", "B-X"]], [["I-X", "I-X"]]]
    assert KIND.is_constant([["O", "O"], ["O"]])
    assert not KIND.is_constant([["O", "O"], ["B-X"]])
    assert KIND.loss_to_beat(made) == pytest.approx(np.log(2) - 0.01)
