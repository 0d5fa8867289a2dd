"""Extractive question answering: windows, targets, the best span, and SQuAD 2.0's scoring."""

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from study.models.loading import Loaded
from study.tasks.kinds import Span, Split
from study.tasks.kinds.encoded import Encoded, collate
from study.tasks.metrics import METRICS

KIND = Span(())
CONTEXT = "w10 w11 w12 w13 w14 w15 w16 w17 w18 w19"


def encode(answers: list[tuple[str, int]], loaded: Loaded, length: int = 64) -> Encoded:
    split = Split(["x"], ["w1 w2"], [CONTEXT], [tuple(answers)])
    return KIND.encode(split, loaded.processor, max_length=length, truncate="only_second")


def test_the_target_is_the_first_answers_tokens(loaded: Loaded):
    """[CLS] w1 w2 [SEP] w10 w11 w12 ...: w11 w12 are tokens 5 and 6."""
    made = encode([("w11 w12", 4), ("w13", 12)], loaded)
    assert made.arrays["start_positions"].tolist() == [5]
    assert made.arrays["end_positions"].tolist() == [6]
    assert made.gold == [("w11 w12", "w13")]


def test_answers_in_the_hubs_format():
    values = [{"text": ["w1", "w2"], "answer_start": [0, 3]}, {}]
    gold, mistakes = KIND.gold(values, ["", ""], ["w1 w2", "w1"])
    assert gold[0] == (("w1", 0), ("w2", 3))
    assert [row for row, _ in mistakes] == [1]


def test_the_target_of_an_unanswerable_question_is_the_first_token(loaded: Loaded):
    made = encode([], loaded)
    assert made.arrays["start_positions"].tolist() == made.arrays["end_positions"].tolist() == [0]
    assert made.gold == [()]


def test_a_long_context_is_split_into_overlapping_windows(loaded: Loaded):
    """12 tokens: 2 of the question, 3 special, 7 of the context, overlapping by 4."""
    made = encode([("w18", 32)], loaded, length=12)
    assert made.rows == 2
    assert made.aside["owners"].tolist() == [0, 0]
    ids = np.split(made.columns["input_ids"], made.starts[1:-1])
    first, second = (row[4:-1].tolist() for row in ids)
    assert first[-4:] == second[:4]
    assert made.arrays["start_positions"].tolist() == [0, 9]  # only the second window has w18


def outputs(made: Encoded, **logits: dict[tuple[int, int], float]) -> np.ndarray:
    """Start and end logits that are zero except at the given (row, token)."""
    flat = np.zeros((made.units[-1], 2), np.float32)
    for side, name in enumerate(("start", "end")):
        for (row, token), value in logits[name].items():
            flat[made.units[row] + token, side] = value
    return flat


def test_the_best_span_of_all_windows_is_predicted(loaded: Loaded):
    made = encode([("w18", 32)], loaded, length=12)
    given = outputs(made, start={(0, 4): 2.0, (1, 9): 3.0}, end={(0, 5): 2.0, (1, 9): 3.0})
    assert KIND.answers(given, made) == ["w18"]


def test_no_answer_needs_the_first_token_to_win_in_every_window(loaded: Loaded):
    made = encode([], loaded, length=12)
    both = {(0, 0): 5.0, (1, 0): 5.0}
    assert KIND.answers(outputs(made, start=both, end=both), made) == [""]
    first = {(0, 0): 5.0, (1, 9): 3.0}
    assert KIND.answers(outputs(made, start=first, end=first), made) == ["w18"]


def test_an_answer_never_ends_before_it_starts(loaded: Loaded):
    made = encode([("w11", 4)], loaded)
    given = outputs(made, start={(0, 8): 9.0, (0, 5): 4.0}, end={(0, 4): 9.0, (0, 6): 4.0})
    assert KIND.answers(given, made) == ["w14 w15 w16 w17 w18 w19"[:3]]


def test_an_answer_is_never_part_of_the_question(loaded: Loaded):
    made = encode([("w11", 4)], loaded)
    given = outputs(made, start={(0, 1): 9.0, (0, 5): 1.0}, end={(0, 2): 9.0, (0, 5): 1.0})
    assert KIND.answers(given, made) == ["w11"]


def test_a_long_question_is_truncated(loaded: Loaded):
    split = Split(["x"], [" ".join(["w1"] * 50)], [CONTEXT], [()])
    made = KIND.encode(split, loaded.processor, max_length=30, truncate="only_second")
    assert (made.columns["input_ids"][:13] == 6).sum() == 10  # a third of 30
    assert made.rows == 1


def test_padding_does_not_count_towards_the_divergence(loaded: Loaded):
    split = Split(["x", "y"], ["w1", "w1"], ["w2", "w2 w3"], [(), ()])
    made = KIND.encode(split, loaded.processor, max_length=32, truncate="only_second")
    batch = collate(made, np.array([0, 1]))
    first, second = torch.zeros(2, 6), torch.zeros(2, 6)
    second[0, 5] = 9.0  # row 0 has 5 tokens
    p, q = (QuestionAnsweringModelOutput(start_logits=x, end_logits=x) for x in (first, second))
    assert KIND.divergence(p, q, batch).item() == 0.0
    assert KIND.units(p, batch).shape == (11, 2)


@pytest.mark.parametrize(
    ("answers", "given", "exact", "overlap"),
    [
        (("The Denver Broncos.",), "denver broncos", 1, 1),  # case, article, punctuation
        (("a b c d",), "b c", 0, 0.8),  # the article goes: b c of b c d
        (("x", "y z"), "y", 0, 2 / 3),  # the best of all gold answers
        ((), "", 1, 1),
        ((), "x", 0, 0),
        (("x",), "", 0, 0),
        (("the",), "", 1, 1),  # a gold answer that normalises to "" is no answer
    ],
)
def test_squad_scores_follow_the_official_evaluation(answers, given, exact, overlap):
    assert METRICS["squad_em"]([answers], [given]) == exact
    assert METRICS["squad_f1"]([answers], [given]) == pytest.approx(overlap)
