import numpy as np
import pytest

from analysis.statistics.collapse import at_floor, margin, two_groups


def test_margin_by_hand():
    examples = np.array([100.0, 1e6, np.nan])  # 2 * sqrt(0.5 * 0.5 / 100) = 0.1
    assert margin(0.5, examples, bounded=True) == pytest.approx([0.1, 0.01, 0.01])
    assert margin(-2.0, examples, bounded=False) == pytest.approx([0.02] * 3)


def test_at_floor_by_hand():
    scores, rows = np.array([0.4, 0.505, 0.52, np.nan]), np.full(4, np.nan)
    at = [at_floor(scores, 0.5, rows, bounded=True, sign=sign).tolist() for sign in (1.0, -1.0)]
    assert at == [[True, True, False, False], [False, True, True, False]]
    assert not at_floor(scores, np.nan, rows, bounded=True, sign=1.0).any()


def test_two_groups_by_hand():
    high, low = np.linspace(0.80, 0.85, 18), np.array([0.50, 0.51])
    assert two_groups(np.concatenate([high, low]), least=0.01) == 2
    assert two_groups(high, least=0.01) == 0
    assert two_groups(np.concatenate([high[:8], low]), least=0.01) == 0  # too few scores
    assert two_groups(np.concatenate([high, low]), least=0.5) == 0


def test_rounded_scores_are_no_groups():
    assert two_groups(np.repeat([0.157, 0.158], 10), least=0.00157) == 0


def test_two_groups_are_rare_in_normal_scores():
    scores = np.random.default_rng(0).normal(size=(2_000, 20))
    found = np.mean([two_groups(x, least=0.0) > 0 for x in scores])
    assert found < 0.005  # 0.0005 in 20,000 cells


def test_two_groups_do_not_depend_on_order_unit_or_direction():
    x = np.array([*np.linspace(0.80, 0.85, 17), 0.5, 0.51, 0.52])
    assert two_groups(x[::-1], least=0.01) == 3
    assert two_groups(100 * x + 7, least=1.0) == 3
    assert two_groups(-x, least=0.01) == 17
