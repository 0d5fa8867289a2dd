"""Classification, regression, multilabel: encoding, constant predictions, decoding of outputs."""

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import SequenceClassifierOutput

from study.models.loading import Loaded
from study.tasks.kinds import Classification, Multilabel, Regression, Split
from study.tasks.kinds.encoded import Encoded
from tests.conftest import PAIRS


def encode(split: Split, loaded: Loaded, length: int, truncate: str = "longest_first") -> Encoded:
    return PAIRS.encode(split, loaded.processor, max_length=length, truncate=truncate)


def test_segment_ids_stay_with_their_pair(loaded: Loaded):
    """[CLS] w1 w2 [SEP] w3 [SEP] has segments 0 0 0 0 1 1; missing ids are a published bug."""
    split = Split(["x"], ["w1 w2"], ["w3"], np.array([0]))
    made = encode(split, loaded, 32)
    assert made.columns["token_type_ids"].tolist() == [0, 0, 0, 0, 1, 1]
    assert made.columns["input_ids"].tolist() == [2, 6, 7, 3, 8, 3]


def test_truncation_keeps_both_segments(loaded: Loaded):
    split = Split(["x"], ["w1 w2 w3 w4 w5"], ["w6"], np.array([0]))
    made = encode(split, loaded, 6)
    assert made.columns["input_ids"].tolist() == [2, 6, 7, 3, 11, 3]


def test_only_second_truncates_only_the_second_text(loaded: Loaded):
    split = Split(["x"], ["w1 w2 w3"], ["w6 w7"], np.array([0]))
    made = encode(split, loaded, 7, "only_second")
    assert made.columns["input_ids"].tolist() == [2, 6, 7, 8, 3, 11, 3]


def test_a_question_that_would_fill_the_row_is_truncated(loaded: Loaded):
    split = Split(["x"], [" ".join(["w1"] * 20)], ["w6 w7"], np.array([0]))
    made = encode(split, loaded, 10, "only_second")
    assert made.columns["input_ids"].tolist() == [2, *[6] * 5, 3, 11, 12, 3]


def outputs(*logits: list[float]) -> SequenceClassifierOutput:
    return SequenceClassifierOutput(logits=torch.tensor(logits))


def test_divergences_by_hand():
    even, sure = outputs([0.0, 0.0]), outputs([np.log(3.0), 0.0])  # (1/2, 1/2), (3/4, 1/4)
    hand = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert PAIRS.divergence(even, sure, {}).item() == pytest.approx(hand)
    two = Multilabel(("a", "b"))  # each logit is a Bernoulli variable: log 3 is 3/4, 0 is 1/2
    assert two.divergence(even, sure, {}).item() == pytest.approx(hand / 2)
    assert Regression(()).divergence(outputs([1.0]), outputs([3.0]), {}).item() == 4.0
    for kind, same in ((PAIRS, sure), (two, sure), (Regression(()), outputs([1.0]))):
        assert kind.divergence(same, same, {}).item() == 0.0


def test_multilabel_gold_accepts_lists_and_separated_text():
    kind = Multilabel(Multilabel.class_names(["b|a", ["c"], []]))
    assert kind.labels == ("a", "b", "c")
    gold, mistakes = kind.gold(["b | a", ["c"], [], "d"], [""] * 4, None)
    assert gold.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert mistakes == [(3, "'d' is not a label. Known: a, b, c.")]
    assert Multilabel.class_names(["a", 7]) == ("a",)
    assert kind.gold([7], [""], None)[1] == [
        (0, "7 is not a list of labels, nor one text with | between them.")
    ]


def data(gold: np.ndarray) -> Encoded:
    rows = np.arange(len(gold) + 1)
    return Encoded([str(i) for i in rows[1:]], gold, rows, rows)


def test_constant_sets_are_nested_from_the_most_frequent_class():
    gold = np.array([[0, 1], [1, 1], [0, 1]])
    constants = Multilabel(("a", "b")).constants(data(gold))
    assert [answer[0].tolist() for answer in constants] == [[0, 0], [0, 1], [1, 1]]


def test_losses_to_beat_by_hand():
    assert PAIRS.loss_to_beat(data(np.array([0, 1]))) == pytest.approx(np.log(2) - 0.01)
    assert Regression(()).loss_to_beat(data(np.array([0.1, 0.3]))) == pytest.approx(0.99 * 0.01)
    gold = np.array([[0, 1], [1, 1]])  # entropies log 2 and 0
    loss = Multilabel(("a", "b")).loss_to_beat(data(gold))
    assert loss == pytest.approx(np.log(2) / 2 - 0.01)


def test_an_unknown_label_is_reported_with_a_suggestion():
    assert Classification(("no", "yes")).gold(["yse"], [""], None)[1] == [
        (0, "'yse' is not a label. Did you mean 'yes'?")
    ]
