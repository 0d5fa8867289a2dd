"""Which of several configurations to use, and what that choice is worth."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.common import N_BOOT
from analysis.statistics.dev_to_test import transfer
from analysis.statistics.location import welch
from analysis.statistics.multiplicity import holm
from analysis.statistics.pareto import on_front
from analysis.statistics.rank_uncertainty import (
    expected_elsewhere,
    optimism,
    probability_best,
    probability_near_best,
    rank_intervals,
    resampled,
    significant_order,
)
from analysis.statistics.tie_set import tie_set
from tests.analysis.oracles import oracle


@oracle("best_strategy_tie_set")
def test_tie_set_oracle(inputs, check):
    """The oracle tests the best against the others; all pairs at once can only add members."""
    scores = {name: np.array(x) for name, x in inputs["scores"].items()}
    found = tied(scores)
    p = np.array([welch(scores[found.best], scores[name]).p for name in check.want("others")])
    check(best=found.best, p=p, p_holm=holm(p))
    assert set(found.members) == possibly_best(scores) >= set(check.want("tie_set"))


def possibly_best(scores):
    """The members by definition: scipy's Welch tests of all pairs, Holm by hand, then paths."""
    p = {
        (a, b): stats.ttest_ind(scores[a], scores[b], equal_var=False).pvalue
        for a, b in combinations(sorted(scores), 2)
    }
    beats: dict[str, set[str]] = {name: set() for name in scores}
    for rank, pair in enumerate(sorted(p, key=p.__getitem__)):
        if p[pair] * (len(p) - rank) >= 0.05:
            break
        worse, better = sorted(pair, key=lambda name: scores[name].mean())
        beats[better].add(worse)
    return set(scores) - set.union(*beats.values())


def tied(scores, *, failures=None, seconds=None, prefer="stable"):
    nothing = dict.fromkeys(scores, 0)
    return tie_set(scores, failures=failures or nothing, seconds=seconds or nothing, prefer=prefer)


@pytest.mark.parametrize("seed", range(20))
def test_tie_set_and_rank_intervals_agree(seed):
    """Rank 1 is possible for the members alone, and certain where there is one member."""
    rng = np.random.default_rng(seed)
    scores = {
        name: rng.normal(0.8 + 0.02 * i, rng.choice([0.002, 0.02, 0.1]), rng.integers(1, 12))
        for i, name in enumerate("ABCDEFG")
    }
    found, ranks = tied(scores), rank_intervals(scores)
    assert set(found.members) == {name for name in scores if ranks[name].low == 1}
    assert (len(found.members) == 1) == (ranks[found.best] == (1, 1))


@pytest.mark.parametrize(
    ("sizes", "sds"),
    [([20] * 12, [1] * 12), ([3, 20] * 6, [1] * 12), ([3, 5, 20], [5, 1, 1]), ([3] * 5, [1] * 5)],
)
def test_tie_set_keeps_all_that_are_equally_good(sizes, sds):
    """In 95% of 300 studies; tests of the best against the others lose one in up to 19%."""
    rng, lost = np.random.default_rng(0), 0
    for _ in range(300):
        drawn = zip(sizes, sds, strict=True)
        scores = {f"{i}": rng.normal(0, sd, n) for i, (n, sd) in enumerate(drawn)}
        lost += len(tied(scores).members) < len(scores)
    assert lost / 300 < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


def test_order_by_hand():
    """Welch's t of A and B is 0.1 / (0.0158 √(2 / 5)) = 10 with 8 degrees of freedom."""
    scores = {"B": 0.8 + SPREAD, "A": 0.9 + SPREAD, "C": np.array([0.5])}
    names, better, untested = significant_order(scores)
    assert names == ("A", "B", "C")
    assert better.tolist() == [[False, True, False], [False] * 3, [False] * 3]
    assert untested.tolist() == [[False, False, True], [False, False, True], [True, True, False]]


def test_degrees_of_freedom_are_at_most_those_of_two_small_cells():
    """t = 3.2: Welch's 19 degrees of freedom give p = 0.005, the 4 of two cells of 3 give 0.033."""
    small = np.array([-1.0, 0.0, 1.0]) / 100
    large = np.tile([-1.0, 1.0], 10)
    gap = 3.2 * np.sqrt(small.var(ddof=1) / 3 + large.var(ddof=1) / 20)
    p = 2 * stats.t.sf(3.2, 4)
    far = {"far": 1e6 + small}  # leaves two pairs that are certain, and this one without factor
    assert 0.03 < p < 0.05
    assert len(tied({"small": small + gap, "large": large}).members) == 1
    assert len(tied({"small": small + gap * 0.85, "large": large}).members) == 2
    assert rank_intervals({"small": small + gap, "large": large, **far})["small"] == (2, 2)


def test_untestable_configuration_stays_in_the_tie_set():
    found = tied({"A": np.array([0.9, 0.91, 0.92]), "B": np.array([0.1]), "C": np.array([])})
    assert (found.best, found.members, found.untested) == ("A", ("A", "B"), ("B",))
    assert found.unscored == ("C",)


def test_no_scores_have_no_best():
    assert tied({"A": np.array([])}).recommended == ""


SPREAD = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])


@pytest.mark.parametrize(
    ("scores", "failures", "seconds", "recommended", "decided_by"),
    [
        ({"A": 0.9 + SPREAD, "B": 0.5 + SPREAD}, [0, 0], [1, 1], "A", "higher dev mean"),
        ({"A": 0.9 + SPREAD, "B": 0.89 + SPREAD}, [1, 0], [1, 2], "B", "lower failure rate"),
        ({"A": 0.89 + SPREAD, "B": 0.9 + SPREAD}, [0, 0], [1, 2], "B", "higher dev mean"),
        ({"A": 0.9 + SPREAD, "B": 0.9 + SPREAD}, [0, 0], [2, 1], "B", "lower cost"),
        ({"A": 0.9 + SPREAD, "B": 0.9 + SPREAD}, [0, 0], [np.nan, 1], "B", "lower cost"),
        ({"A": 0.9 + SPREAD, "B": 0.9 + SPREAD}, [0, 0], [1, 1], "A", "name"),
    ],
)
def test_secondary_criteria(scores, failures, seconds, recommended, decided_by):
    found = tied(
        scores,
        failures=dict(zip(scores, failures, strict=True)),
        seconds=dict(zip(scores, seconds, strict=True)),
    )
    assert (found.recommended, found.decided_by) == (recommended, decided_by)


FIFTEEN = np.tile(SPREAD, 3)


@pytest.mark.parametrize(
    ("share", "n", "recommended", "decided_by"),
    [
        (0.1, 15, "B", "smaller sd"),
        (0.1, 14, "A", "higher dev mean"),  # as significant, but too few seeds
        (0.8, 15, "A", "higher dev mean"),  # enough seeds, but not significant
        (0.0, 15, "A", "higher dev mean"),  # seeds change nothing in B, so it is not compared
    ],
)
def test_a_smaller_sd_counts_only_where_it_is_shown(share, n, recommended, decided_by):
    """scipy's Brown-Forsythe test as the oracle of significance."""
    scores = {"A": 0.9 + FIFTEEN[-n:], "B": 0.899 + share * FIFTEEN}
    p = stats.levene(*scores.values(), center="median").pvalue
    assert (p < 0.05) == (share < 0.5)
    found = tied(scores)
    assert found.members == ("A", "B")
    assert (found.recommended, found.decided_by) == (recommended, decided_by)


def test_tests_of_spread_are_adjusted_for_all_pairs():
    """p = 0.025 of A and B decides between these two, and not where C adds two more pairs."""
    scores = {"A": 0.9 + FIFTEEN, "B": 0.899 + 0.55 * FIFTEEN}
    assert 0.05 / 3 < stats.levene(*scores.values(), center="median").pvalue < 0.05
    assert tied(scores).recommended == "B"
    assert tied({**scores, "C": 0.898 + 0.75 * FIFTEEN}).recommended == "A"


def test_three_seeds_at_95_do_not_beat_three_at_100():
    """Welch's t is 4 with 2 degrees of freedom, p = 0.057."""
    found = tied({"high": np.array([1.0, 1.0, 0.97]), "calm": np.full(3, 0.95)})
    assert found.members == ("high", "calm")
    assert (found.recommended, found.decided_by) == ("high", "higher dev mean")


def test_rate_difference_below_one_run_is_ignored():
    scores = {"A": 0.9 + np.tile(SPREAD, 2), "B": 0.89 + SPREAD}
    assert tied(scores, failures={"A": 1, "B": 0}).decided_by == "higher dev mean"


def test_equivariant_to_renaming():
    rng = np.random.default_rng(5)
    gains = {"A": 0.0, "B": 0.01, "C": 0.05}
    scores = {name: rng.normal(0.8 + gain, 0.01, 7) for name, gain in gains.items()}
    found, renamed = tied(scores), tied({f"x{name}": x for name, x in scores.items()})
    assert tuple(f"x{name}" for name in found.members) == renamed.members


@pytest.mark.parametrize(
    ("prefer", "recommended", "decided_by"),
    [
        ("stable", "calm", "smaller sd"),
        ("fast", "quick", "lower cost"),
        ("score", "high", "higher dev mean"),
    ],
)
def test_preference_does_not_change_the_tie_set(prefer, recommended, decided_by):
    scores = {"high": 0.9 + FIFTEEN, "calm": 0.897 + FIFTEEN / 10, "quick": 0.895 + FIFTEEN}
    scores["low"] = 0.5 + FIFTEEN / 10  # calmest and quickest, and out
    seconds = {"high": 3, "calm": 3, "quick": 2, "low": 1}
    found = tied(scores, seconds=seconds, prefer=prefer)
    assert (found.recommended, found.decided_by) == (recommended, decided_by)
    assert found.members == ("high", "calm", "quick")


def drawn(scores, seed=0):
    return resampled(scores, np.random.default_rng(seed))


def test_probability_best_sums_to_one_and_separates():
    found = probability_best(drawn({"A": 0.9 + SPREAD, "B": 0.5 + SPREAD, "C": np.array([0.99])}))
    assert found == {"A": 1.0, "B": 0.0}  # a single run does not take part
    equal = probability_best(drawn({"A": SPREAD, "B": SPREAD}))
    assert sum(equal.values()) == pytest.approx(1)
    assert equal["A"] == pytest.approx(0.5, abs=0.03)
    assert probability_best(drawn({})) == {}


def test_probability_best_has_the_spread_of_the_mean():
    """B lies one standard error of the difference below A: the normal share is 0.841."""
    a = np.random.default_rng(1).normal(0.8, 0.01, 6)
    b = a - a.std(ddof=1) * np.sqrt(2 / 6)
    assert probability_best(drawn({"A": a, "B": b}))["A"] == pytest.approx(0.841, abs=0.015)


def test_near_best_counts_means_within_the_rope():
    constant = {"A": np.full(4, 0.9), "B": np.full(4, 0.896), "C": np.full(4, 0.895)}
    assert probability_near_best(drawn(constant), 0.005) == {"A": 1.0, "B": 1.0, "C": 0.0}
    assert probability_near_best(drawn({}), 0.005) == {}


@pytest.mark.parametrize(("count", "normals"), [(2, 0.5642), (5, 1.163), (10, 1.539), (20, 1.867)])
def test_optimism_of_equals_is_the_expected_maximum_of_normals(count, normals):
    """Known values of E[max of K standard normals], times the standard error of a mean."""
    x = np.random.default_rng(3).normal(0.8, 0.02, 40)
    found = optimism(drawn({f"{i}": x for i in range(count)}))
    assert found == pytest.approx(normals * x.std(ddof=1) / np.sqrt(40), rel=0.04)


def test_a_clear_winner_has_no_optimism():
    assert abs(optimism(drawn({"A": 0.9 + SPREAD, "B": 0.5 + SPREAD}))) < 4 * 0.0071 / N_BOOT**0.5
    assert np.isnan(optimism(drawn({"A": np.array([0.9])})))


def test_optimism_is_scale_equivariant_and_shift_invariant():
    scores = {"A": 0.9 + SPREAD, "B": 0.899 + SPREAD}
    moved = {name: 3 + 2 * x for name, x in scores.items()}
    assert optimism(drawn(moved)) == pytest.approx(2 * optimism(drawn(scores)))


def test_expected_elsewhere_weighs_by_win_share():
    found = drawn({"A": SPREAD, "B": SPREAD})
    share = probability_best(found)
    wanted = 0.7 * share["A"] + 0.8 * share["B"]
    assert expected_elsewhere(found, {"A": 0.7, "B": 0.8}) == pytest.approx(wanted)
    assert np.isnan(expected_elsewhere(found, {"A": 0.7, "B": np.nan}))
    clear = drawn({"A": 0.9 + SPREAD, "B": 0.5 + SPREAD})
    assert expected_elsewhere(clear, {"A": 0.7, "B": np.nan}) == 0.7


def test_ranks_by_hand():
    """Far apart; level; a single run, which nothing can be told of; no run, which has no rank."""
    scores = {"A": 0.9 + SPREAD, "B": 0.7 + SPREAD, "C": 0.7 + SPREAD, "D": np.array([0.1])}
    found = rank_intervals({**scores, "E": np.array([])})
    assert found == {"A": (1, 2), "B": (2, 4), "C": (2, 4), "D": (1, 4)}
    assert rank_intervals({"A": SPREAD}) == {"A": (1, 1)}
    assert rank_intervals({}) == {}


def test_rank_intervals_have_simultaneous_coverage():
    """Four of six truly equal: each may have rank 2 to 5; misses stay below 5%."""
    rng = np.random.default_rng(0)
    gains = {"A": 0.03, **dict.fromkeys("BCDE", 0.0), "F": -0.03}
    missed = 0
    for _ in range(300):
        found = rank_intervals({name: rng.normal(gain, 0.02, 8) for name, gain in gains.items()})
        wrong = [found["A"].low > 1, found["F"].high < 6]
        wrong += [found[name].low > 2 or found[name].high < 5 for name in "BCDE"]
        missed += any(wrong)
    assert missed / 300 < 0.05 + 2 * 0.0126  # the simulation's own standard error


def test_constant_scores_leave_all_ranks_open():
    constant = {"A": np.full(4, 0.9), "B": np.full(4, 0.8)}
    assert rank_intervals(constant) == {"A": (1, 2), "B": (1, 2)}


@oracle("pareto_front")
def test_pareto_oracle(inputs, check):
    goals = np.array(inputs["objectives"])
    goals[:, 1:] *= -1  # the first is to be high, the others low
    check(on_front=on_front(goals))


def test_differences_within_the_tolerance_are_ignored():
    goals = np.array([[0.80, -10.0], [0.79, -10.1], [0.70, -5.0]])
    assert on_front(goals).tolist() == [True, False, True]
    assert on_front(goals, [0.02, 0.2]).tolist() == [True, True, True]  # level with the first
    assert on_front(goals, [0.005, 0.2]).tolist() == [True, False, True]
    barely = np.array([[0.80, -10.0], [0.70, -9.99]])
    assert on_front(barely).tolist() == [True, True]
    assert on_front(barely, [0.0, 0.2]).tolist() == [True, False]  # no quicker to speak of


def test_fronts_of_many_draws_are_vectorised():
    goals = np.random.default_rng(0).normal(size=(7, 6, 3))
    assert (on_front(goals) == [on_front(each) for each in goals]).all()
    turned = np.random.default_rng(1).permutation(6)
    assert (on_front(goals[:, turned]) == on_front(goals)[:, turned]).all()


def test_cyclic_dominance_leaves_all_on_the_front():
    """Each is better than the next by 2 in one goal and worse by 1 in the others."""
    goals = np.array([[0.0, 1.0, 2.0], [2.0, 0.0, 1.0], [1.0, 2.0, 0.0]])
    assert on_front(goals, 1.0).all()


def carried(dev, test, *, sizes, level=None, seed=0):
    test = np.asarray(test, dtype=float)
    level = np.ones(len(test), bool) if level is None else np.array(level)
    rng = np.random.default_rng(seed)
    return transfer(np.asarray(dev, float), test, level=level, sizes=sizes, rng=rng)


def test_transfer_by_hand():
    """One seed of two: the first configuration wins with seed 0, the second with seed 1."""
    found = carried([[0.9, 0.7], [0.8, 0.8]], [0.6, 0.5], sizes=[1, 2], level=[True, False])
    share = found.agreement[0]
    assert share == pytest.approx(0.5, abs=0.05)
    assert found.level[0] == pytest.approx(share)
    assert found.regret[0] == pytest.approx(0.1 * (1 - share))
    assert found.optimism[0] == pytest.approx(0.1 * share)
    assert found.agreement[1] == pytest.approx(0.5)  # equal over both seeds: half each
    assert found.regret[1] == pytest.approx(0.05)
    assert found.optimism[1] == 0


def test_configurations_share_the_drawn_seeds():
    """Scores that differ by seed alone never change who wins."""
    seeds = np.random.default_rng(0).normal(size=9)
    found = carried([seeds + 0.01, seeds], [0.6, 0.5], sizes=[1, 4, 9])
    assert found.agreement.tolist() == [1, 1, 1]
    assert found.optimism[-1] == 0


def test_missing_runs_are_skipped():
    dev = np.array([[np.nan, 0.9, 0.9, np.nan], [0.8, np.nan, 0.8, 0.8]])
    found = carried(dev, [0.6, 0.5], sizes=[1, 2])
    assert found.agreement.tolist() == [1, 1]
    assert found.optimism.tolist() == [0, 0]


def test_equal_test_means_all_count_as_best():
    assert carried([[0.9], [0.8]], [0.5, 0.2 + 0.3], sizes=[1]).agreement.tolist() == [1]
