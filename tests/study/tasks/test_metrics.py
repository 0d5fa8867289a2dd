"""Metrics by hand, floors, the rules of collapse, and custom metrics."""

import numpy as np
import pytest

from study.tasks.collapse import collapse_rules, floor, margin
from study.tasks.kinds import Regression
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
    ],
)
def test_floors_by_hand(name, kind, expected):
    rows = np.arange(len(GOLD) + 1)
    data = Encoded(["a", "b", "c", "d"], GOLD, rows, rows)
    assert floor(METRICS[name], kind, data) == pytest.approx(expected)


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
