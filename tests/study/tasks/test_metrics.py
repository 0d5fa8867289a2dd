"""Metrics by hand, floors, the rules of collapse, and custom metrics."""

import numpy as np
import pytest

from study.tasks.collapse import collapse_rules, floor, margin, recorded
from study.tasks.kinds import KINDS, Regression
from study.tasks.kinds.encoded import Encoded
from study.tasks.metrics import METRICS, Metric, metric_named
from tests.conftest import PAIRS

GOLD = np.array([0, 0, 0, 1])


@pytest.mark.parametrize(
    ("name", "predicted", "expected"),
    [
        ("accuracy", [0, 0, 1, 1], 0.75),
        ("f1", [0, 0, 1, 1], 2 / 3),
        ("macro_f1", [0, 0, 1, 1], (0.8 + 2 / 3) / 2),
        ("matthews_corrcoef", [0, 0, 1, 1], 1 / np.sqrt(3)),  # (1*2 - 1*0) / sqrt(2*1*3*2)
    ],
)
def test_scores_by_hand(name, predicted, expected):
    assert METRICS[name](GOLD, np.array(predicted)) == pytest.approx(expected)


def test_correlations_by_hand():
    gold, predicted = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])
    assert METRICS["pearson"](gold, predicted) == pytest.approx(0.5)
    assert METRICS["spearman"](gold, predicted) == pytest.approx(0.5)
    assert METRICS["mse"](gold, predicted) == pytest.approx(2 / 3)
    assert METRICS["rmse"](gold, predicted) == pytest.approx((2 / 3) ** 0.5)
    assert METRICS["mae"](gold, predicted) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_constant_prediction_has_no_correlation(name):
    assert np.isnan(METRICS[name](np.array([1.0, 2.0]), np.array([0.5, 0.5])))


def test_a_constant_prediction_has_no_matthews_coefficient():
    assert np.isnan(METRICS["matthews_corrcoef"](GOLD, np.zeros(4, int)))


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("accuracy", PAIRS, 0.75),  # the majority's share
        ("f1", PAIRS, 0.4),  # all positive: precision 1/4, recall 1
        ("matthews_corrcoef", PAIRS, 0.0),
        ("pearson", Regression(()), 0.0),
        ("mse", Regression(()), 0.1875),  # the variance
        ("rmse", Regression(()), 0.1875**0.5),
        ("mae", Regression(()), 0.25),  # of the median, 0; of the mean 0.375
    ],
)
def test_floors_by_hand(name, kind, expected):
    rows = np.arange(len(GOLD) + 1)
    data = Encoded(["a", "b", "c", "d"], GOLD, rows, rows)
    assert floor(METRICS[name], kind, data) == pytest.approx(expected)


def relative(gold, predicted):
    """Mean relative error: infinite or undefined where a gold value is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.mean(np.abs(gold - predicted) / np.abs(gold)))


def log_error(gold, predicted):
    """Root mean squared error of logarithms: undefined for answers of -1 and below."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sqrt(np.mean((np.log1p(gold) - np.log1p(predicted)) ** 2)))


def negated(error):
    return lambda gold, predicted: -error(gold, predicted)


def concordance(gold, predicted):
    """Lin's concordance, undefined for constants here."""
    if np.ptp(predicted) == 0:
        return float("nan")
    spread = gold.var() + predicted.var() + (gold.mean() - predicted.mean()) ** 2
    return float(2 * np.cov(gold, predicted, ddof=0)[0, 1] / spread)


NAN, INF = float("nan"), float("inf")
ERROR = {"higher_is_better": False, "bounded": False, "kinds": ("regression",)}
VALUES = np.array([0.0, 1.0, 3.0])


@pytest.mark.parametrize(
    ("metric", "answers", "floor_expected", "expected"),
    [
        (Metric("relative", relative, **ERROR), [0.5, 1.0, 3.0], NAN, NAN),  # inf
        (Metric("relative", relative, **ERROR), [0.0, 1.0, 3.0], NAN, NAN),  # 0/0
        (Metric("relative", relative, **ERROR), [1.0, 1.0, 1.0], NAN, NAN),
        (Metric("relative", negated(relative), bounded=False), [0.5, 1.0, 3.0], NAN, NAN),
        # A constant of -2 is undefined, although the mean is not, whose error is 0.5866.
        (Metric("log", log_error, **ERROR), [-2.0, -2.0, -2.0], 0.5865701, NAN),
        (Metric("log", negated(log_error), bounded=False), [-2.0, -2.0, -2.0], -0.5865701, NAN),
        (Metric("log", log_error, **ERROR), [0.0, 1.0, 3.0], 0.5865701, 0.0),
        (METRICS["pearson"], [2.0, 2.0, 2.0], 0.0, 0.0),
        (METRICS["spearman"], [2.0, 2.0, 2.0], 0.0, 0.0),
        (Metric("own", concordance, bounded=False), [2.0, 2.0, 2.0], 0.0, 0.0),
        (Metric("own", concordance, bounded=False), [0.0, 1.0, 3.0], 0.0, 1.0),
        (METRICS["mse"], [0.0, 1.0, 2.0], 14 / 9, 1 / 3),
    ],
)
def test_an_infinite_or_undefined_error_is_never_recorded_as_a_score(
    metric, answers, floor_expected, expected
):
    """It was recorded as 0, the best possible error."""
    rows = np.arange(len(VALUES) + 1)
    data = Encoded(["a", "b", "c"], VALUES, rows, rows)
    found = floor(metric, Regression(()), data)
    assert found == pytest.approx(floor_expected, nan_ok=True)
    score = recorded(metric, Regression(()), data, np.array(answers))
    assert score == pytest.approx(expected, nan_ok=True)


GOLD_OF = {
    "classification": np.array([0, 1, 1]),
    "image": np.array([0, 1, 1]),
    "regression": np.array([0.0, 1.0, 3.0]),
    "multilabel": np.array([[1, 0], [0, 1], [1, 1]]),
    "tagging": [["O", "B-X"], ["B-X", "I-X"], ["O"]],
    "span": [("w1",), (), ("w2", "w3")],
    "generation": [("w1",), ("w2",), ("w3",)],
}


@pytest.mark.parametrize("name", KINDS)
def test_undefined_scores_of_every_kind(name):
    """Neither an error nor a score that is never defined gets the value 0; a correlation does."""
    labels = {"tagging": ("O", "B-X", "I-X"), "regression": (), "span": (), "generation": ()}.get(
        name, ("n", "y")
    )
    kind = KINDS[name](labels)
    rows = np.arange(4)
    data = Encoded(["a", "b", "c"], GOLD_OF[name], rows, rows)
    perfect = kind.perfect(data.gold)

    def only_perfect(gold, answers):
        same = all(np.array_equal(a, b) for a, b in zip(answers, perfect, strict=True))
        return 1.0 if same else NAN

    constant = kind.constants(data)[0]
    for metric, expected in (
        (Metric("error", lambda gold, answers: INF, **ERROR), NAN),
        (Metric("error", lambda gold, answers: NAN, **ERROR), NAN),
        (Metric("error", negated(only_perfect), bounded=False), NAN),
        (Metric("correlation", only_perfect), 0.0),
    ):
        assert floor(metric, kind, data) == pytest.approx(expected, nan_ok=True)
        score = recorded(metric, kind, data, constant)
        assert score == pytest.approx(expected, nan_ok=True)
    for metric in METRICS.values():
        if name in metric.kinds:
            best = 1.0 if metric.higher_is_better or metric.name == "perplexity" else 0.0
            assert recorded(metric, kind, data, perfect) == pytest.approx(best), metric.name


def test_the_margin_is_a_point_or_two_standard_errors():
    assert margin(METRICS["accuracy"], 0.5, 100) == pytest.approx(0.1)
    assert margin(METRICS["accuracy"], 0.5, 1_000_000) == 0.01
    assert margin(METRICS["pearson"], 0.0, 100) == 0.01
    assert margin(METRICS["mse"], 2.0, 100) == pytest.approx(0.02)


def rules(**changed: object) -> list[str]:
    fine = {
        "dev": 0.9,
        "floor": 0.5,
        "examples": 1000,
        "constant": False,
        "train_loss": 0.1,
        "loss_to_beat": 0.68,
    }
    return collapse_rules(METRICS["accuracy"], **{**fine, **changed})


def test_rules_of_collapse():
    assert rules() == []
    assert rules(dev=0.53) == ["at_floor"]  # two standard errors at 1,000 rows are 0.0316
    assert rules(dev=0.54) == []
    assert rules(dev=float("nan")) == ["at_floor"]
    assert rules(constant=True) == ["constant"]
    unknown = {"floor": float("nan"), "train_loss": 1.0}
    assert rules(**unknown) == []  # nothing to compare with
    assert rules(**unknown, constant=True) == ["constant"]


def test_a_high_training_loss_counts_only_where_the_dev_score_may_be_chance():
    """A one-epoch run's loss includes its first steps, and 96% on dev is no failure."""
    assert rules(train_loss=0.685, dev=0.56) == ["no_fit"]  # four standard errors are 0.0632
    assert rules(train_loss=0.685, dev=0.57) == []
    assert rules(train_loss=0.685, dev=0.56, examples=10_000) == []

    def regression_rules(metric, **scores):
        fields = {"constant": False, "train_loss": 1.0, "loss_to_beat": 0.9, **scores}
        return collapse_rules(METRICS[metric], **fields)

    assert regression_rules("pearson", dev=0.44, floor=0.0, examples=20) == ["no_fit"]
    assert regression_rules("pearson", dev=0.91, floor=0.0, examples=20) == []
    assert regression_rules("mse", dev=1.7, floor=2.0, examples=400) == ["no_fit"]
    assert regression_rules("mse", dev=1.5, floor=2.0, examples=400) == []


def test_a_metric_where_lower_is_better_collapses_from_above():
    collapsed_by = collapse_rules(
        METRICS["mse"],
        dev=0.999,
        floor=1.0,
        examples=2,
        constant=False,
        train_loss=0.1,
        loss_to_beat=0.99,
    )
    assert collapsed_by == ["at_floor"]


def test_a_custom_metric(tmp_path, monkeypatch):
    (tmp_path / "own_metrics.py").write_text(
        "def share_of_ones(gold, predicted):\n    return float((predicted == 1).mean())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = metric_named("own_metrics:share_of_ones")
    assert isinstance(own, Metric)
    assert own(GOLD, np.array([1, 1, 0, 0])) == 0.5
    with pytest.raises(LookupError, match="cannot be imported"):
        metric_named("own_metrics:absent")
