"""Adaptive seeds: the rules of one look, and what they do over many simulated blocks."""

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.sequential import (
    better,
    certainly_better,
    conditional_power,
    look,
    plain,
    spending,
    successive_rejects,
    two_part,
)
from tests.analysis.oracles import oracle

LOOKS = (4, 6, 9, 13, 20)
FLOOR = 0.527


def padded(rows, fill):
    found = np.full((len(rows), max(map(len, rows))), fill)
    for place, row in zip(found, rows, strict=True):
        place[: len(row)] = row
    return found


@oracle("alpha_spending")
def test_spending_oracle(inputs, check):
    check(per_pair_level=spending(inputs["looks"], inputs["K"], alpha=inputs["alpha"]))


def test_levels_sum_to_alpha():
    assert 11 * spending(LOOKS, 12).sum() == pytest.approx(0.05)


@oracle("conditional_power")
def test_conditional_power_oracle(inputs, check):
    z, t, count = inputs["z"], inputs["t"], inputs["K"]
    check(cp=conditional_power(z, t, count, alpha=inputs["alpha"]))
    at_zero = conditional_power(0.0, t, count, alpha=inputs["alpha"])  # Phi(-z_alpha / sqrt(1 - t))
    check(z_alpha=-np.sqrt(1 - t) * stats.norm.ppf(at_zero))


@oracle("two_part_statistic")
def test_two_part_oracle(inputs, check):
    scores = padded(inputs["scores"], np.nan)
    failed = padded(inputs["failed"], 0).astype(bool)
    found = two_part(scores, failed, inputs["floor"])
    check(M=found.mean, V=found.variance, p=better(found)[0, 1])
    t = (found.mean[1] - found.mean[0]) / np.sqrt(found.variance[:2].sum())
    df = found.variance[:2].sum() ** 2 / (found.variance**2 / found.df)[:2].sum()
    check(t_1_over_0=t, df=df)
    there, k = np.isfinite(scores), failed.sum(axis=1)
    sound = np.nanmean(np.where(failed, np.nan, scores), axis=1)
    risk = 1 - (found.mean - inputs["floor"]) / (sound - inputs["floor"])
    runs, prior = there.sum(axis=1), inputs["s"]
    check(q=((risk * (runs + prior) - k) / prior)[0])  # the block's rate, drawn towards


@oracle("successive_rejects_schedule")
def test_successive_rejects_oracle(inputs, check):
    check(n_k=successive_rejects(inputs["K"], inputs["n"]))
    many = 10**13  # so many that rounding up does not show
    check(logbar=many / (inputs["K"] * successive_rejects(inputs["K"], many)[0]))


def test_successive_rejects_stays_within_its_budget():
    for count, budget in ((4, 40), (12, 240), (7, 100)):
        phases = successive_rejects(count, budget)
        runs = sum(phases) + phases[-1]  # the worst leaves after each phase; two reach the last
        assert budget - 2 * count < runs <= budget


def test_plain_moments_give_welchs_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.7, 0.01, 8), rng.normal(0.71, 0.03, 5)
    found = better(plain(padded([a, b], np.nan)))
    wanted = stats.ttest_ind(b, a, equal_var=False, alternative="greater").pvalue
    assert found[0, 1] == pytest.approx(wanted)
    assert found[1, 0] == pytest.approx(1 - wanted)


def held(rows, *, number=0, before=None, failed=None, looks=LOOKS):
    scores = padded(rows, np.nan)
    bad = np.zeros(scores.shape, bool) if failed is None else padded(failed, 0).astype(bool)
    return look(scores, bad, FLOOR, looks=looks, number=number, before=before)


WIDE = np.array([-0.02, -0.01, 0.01, 0.02])


def test_worst_is_excluded_equals_freeze_and_undecided_stay_active():
    found = held([0.80 + WIDE, 0.80 - WIDE, 0.798 + WIDE, 0.3 + WIDE])
    assert found.status == ("frozen", "frozen", "frozen", "out")
    found = held([0.80 + WIDE, 0.799 + WIDE, 0.76 + WIDE, 0.3 + WIDE])
    assert found.leader == found.recommended == 0
    assert found.finalists == (0, 1)
    assert found.status[0] == "active"  # since another still runs
    assert found.status[3] == "out"
    assert found.against[1:] == (0, 0, 0)
    assert found.p[3] < found.boundary
    assert (np.isnan(found.conditional_power) == [True, False, False, True]).all()
    assert found.reason[3] == "another is better"


def test_frozen_technique_is_reactivated_when_the_leader_pulls_away():
    rows = [0.80 + WIDE, 0.80 - WIDE, 0.79 + WIDE, 0.76 + WIDE]
    first = held(rows)
    assert first.status == ("active", "frozen", "frozen", "active")
    rows[0], rows[3] = np.r_[rows[0], 0.88, 0.88], np.r_[rows[3], 0.76, 0.76]
    second = held(rows, number=1, before=first)
    assert second.status == ("active", "active", "active", "active")


def test_excluded_technique_stays_out_and_excludes_no_other():
    rows = [0.80 + WIDE, 0.799 + WIDE, 0.3 + WIDE]
    first = held(rows)
    assert first.status[2] == "out"
    praised = [*rows[:2], 0.99 + WIDE]
    second = held(praised, number=1, before=first)
    assert second.status[2] == "out"
    assert second.reason[2] == "excluded earlier"
    assert second.against[2] == -1
    assert "out" not in second.status[:2]


def test_remaining_looks_only_exclude_without_active_techniques():
    rows = [0.80 + WIDE, 0.80 - WIDE, 0.80 + WIDE[::-1]]
    first = held(rows)
    assert set(first.status) == {"frozen"}
    for number in (1, 2, 3, 4):
        first = held(rows, number=number, before=first)
        assert set(first.status) == {"frozen"}
        assert set(first.reason) == {"no further seeds"}


def test_without_failures_the_leader_must_be_better_at_its_upper_limit():
    """Worked by hand at two techniques, four runs each and a level of 0.01 for each limit."""
    scores = np.array([0.60 + WIDE, 0.80 + WIDE])
    none = np.zeros(scores.shape, bool)
    rate = 1 - 0.01 ** (1 / 4)  # Clopper-Pearson of 0 in 4: (1 - rate) ** 4 = 0.01
    held_back = np.array([scores[0], scores[1] - rate * (0.80 - FLOOR)])
    wanted = stats.ttest_ind(*held_back[::-1], equal_var=False, alternative="greater").pvalue
    found = certainly_better(scores, none, FLOOR, level=0.01)
    assert found[0, 1] == pytest.approx(wanted)
    assert found[0, 1] > 0.01 > better(plain(scores))[0, 1]


def test_failures_of_the_row_count_as_luck_and_rivals_count_together():
    scores = np.array([0.70 + WIDE, 0.80 + WIDE, 0.79 + WIDE])
    failed = np.zeros(scores.shape, bool)
    failed[0, 0] = True
    found = certainly_better(np.where(failed, FLOOR, scores), failed, FLOOR, level=0.01)
    low = 1 - 0.99 ** (1 / 4)  # of 1 in 4
    high = 1 - 0.01 ** (1 / 8)  # of 0 in 8
    sound = FLOOR + (1 - low) * (scores[0, 1:] - FLOOR).mean()
    best = FLOOR + (1 - high) * (0.80 - FLOOR)
    parts = scores[0, 1:].var(ddof=1) / 3, scores[1].var(ddof=1) / 4
    df = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    assert found[0, 1] == pytest.approx(
        stats.t.sf((best - sound) / np.sqrt(sum(parts)), df), rel=0.1
    )


def test_a_technique_behind_waits_while_the_leader_gets_seeds():
    rows = [0.70 + WIDE, 0.74 + WIDE]
    found = held(rows)
    assert found.status == ("frozen", "active")
    assert found.reason[0].startswith("behind, unless the leader fails more often")
    rows[1] = np.r_[rows[1], rows[1]]
    assert held(rows, number=2, before=found).status == ("frozen", "active")


def test_a_technique_that_always_fails_is_excluded_once_it_had_its_chances():
    good, bad = 0.8 + np.tile(WIDE, 5), np.full(20, FLOOR)
    marks = [np.zeros(20), np.ones(20)]
    early = held([good[:4], bad[:4]], failed=[each[:4] for each in marks])
    assert early.wary
    assert "out" not in early.status
    assert held([good, bad], number=4, failed=marks, before=early).status[1] == "out"


def two_techniques(rate, lead, looks, rng):
    """Whether the better of two is excluded; the rival leads while it does not fail."""
    size = looks[-1]
    scores = 0.70 + np.array([[0.0], [lead]]) + 0.018 * rng.standard_normal((2, size))
    failed = np.stack([np.zeros(size, bool), rng.random(size) < rate])
    scores = np.where(failed, FLOOR, scores)
    means = [0.70, FLOOR + (1 - rate) * (0.70 + lead - FLOOR)]
    n, found, running = np.zeros(2, int), None, np.ones(2, bool)
    for number, seeds in enumerate(looks):
        n[running] = seeds
        seen = np.where(np.arange(size) < n[:, None], scores, np.nan)
        found = look(seen, failed, FLOOR, looks=looks, number=number, before=found)
        running = np.array(found.status) == "active"
    return found.status[int(np.argmax(means))] == "out"


@pytest.mark.parametrize("looks", [(4, 20), LOOKS, (13, 20)])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.15, 0.2, 0.3])
def test_of_two_techniques_the_better_one_is_kept(looks, rate):
    """The rival's lead without failures is 0.03; at 15% it is the worse one by 0.0004."""
    rng = np.random.default_rng(3)
    lost = np.mean([two_techniques(rate, 0.03, looks, rng) for _ in range(100)])
    assert lost <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 100)


def test_technique_with_only_failures_has_the_floor():
    found = two_part(
        np.full((2, 4), FLOOR) + [[0.2], [0]], np.array([[0] * 4, [1] * 4], bool), FLOOR
    )
    assert found.mean[1] == FLOOR
    assert found.mean[0] < FLOOR + 0.2  # what it may still fail
    assert np.isfinite(found.variance).all()


def test_constant_scores_exclude_none():
    found = held([np.full(4, 0.8), np.full(4, 0.7)])
    assert "out" not in found.status
    assert np.isnan(found.p).all()


def test_order_of_techniques_does_not_matter():
    rng = np.random.default_rng(4)
    rows = [rng.normal(0.8 - 0.02 * i, 0.02, 6) for i in range(5)]
    turned = [3, 0, 4, 1, 2]
    found, other = held(rows, number=1), held([rows[i] for i in turned], number=1)
    assert [found.status[i] for i in turned] == list(other.status)
    assert turned[other.leader] == found.leader
    np.testing.assert_allclose(found.p[turned], other.p)


def test_invalid_looks_raise():
    with pytest.raises(ValueError, match="no look"):
        held([0.8 + WIDE])
    with pytest.raises(ValueError, match="no look"):
        held([0.8 + WIDE, 0.8 + WIDE], number=5)


MEANS = {
    "null": np.full(12, 0.70),
    "spread": 0.90 - 0.015 * np.array([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8]),
    "failures": 0.715
    - np.array([0, 0.004, 0.008, 0.015, 0.02, 0.02, 0.03, 0.03, 0.04, 0.04, 0.05, 0.06]),
    "trap": np.array([0.70, 0.73, 0.73, 0.73, 0.745, 0.745, 0.69, 0.68, 0.68, 0.67, 0.66, 0.65]),
}
SDS = {"null": 0.02, "spread": 0.015, "failures": 0.018, "trap": 0.018}
RATES = {
    "failures": np.array([0, 0, 0.02, 0.05, 0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.4, 0.5]),
    "trap": np.array([0, 0.2, 0.2, 0.2, 0.3, 0.3, 0, 0, 0, 0, 0, 0]),
}


def one_block(scenario, rng):
    """Scores and failures of twelve techniques at twenty seeds."""
    floor = FLOOR if scenario != "spread" else 0.5
    shared, own = rng.standard_normal(20), rng.standard_normal((12, 20))
    noise = np.sqrt(0.2) * shared + np.sqrt(0.8) * own
    scores = MEANS[scenario][:, None] + SDS[scenario] * noise
    fails = rng.random((12, 20)) < RATES.get(scenario, np.zeros(12))[:, None]
    scores = np.where(fails, floor + rng.normal(0, 0.003, (12, 20)), scores)
    return scores, scores < floor + 0.02, floor


def adaptive(scores, failed, floor):
    """Runs spent, and whether the technique in the first row was excluded."""
    n, found, running = np.zeros(12, int), None, np.ones(12, bool)
    for number, size in enumerate(LOOKS):
        n[running] = size
        seen = np.where(np.arange(20) < n[:, None], scores, np.nan)
        found = look(seen, failed, floor, looks=LOOKS, number=number, before=found)
        running = np.array(found.status) == "active"
    return n.sum(), found.status[0] == "out"


@pytest.mark.parametrize(
    ("scenario", "runs", "lost", "blocks"),
    [("null", 85, 0.0, 400), ("spread", 100, 0.0, 400)]
    + [("failures", 126, 0.0, 400), ("trap", 123, 0.0, 400)],
)
def test_simulated_cost_and_error_rates(scenario, runs, lost, blocks):
    """The technique in the first row is the best, or one of the best."""
    rng = np.random.default_rng(11)
    found = np.array([adaptive(*one_block(scenario, rng)) for _ in range(blocks)])
    assert found[:, 0].mean() == pytest.approx(runs, rel=0.05)
    assert found[:, 1].mean() == pytest.approx(lost, abs=0.02)
