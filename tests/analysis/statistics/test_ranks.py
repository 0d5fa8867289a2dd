from itertools import combinations

import numpy as np
import pytest

from analysis.statistics.multiplicity import holm
from analysis.statistics.ranks import (
    critical_difference,
    friedman,
    iman_davenport,
    least_tasks,
    maximal_groups,
    nemenyi,
    ranks,
    signed_rank_p,
    wilcoxon_holm,
)
from tests.analysis.oracles import oracle


def table_of(inputs):
    return np.array(inputs["S"])


def bars(average, difference):
    """All sets of ranks that lie within the difference and in no larger such set, best first."""
    sets = [
        set(chosen)
        for size in range(1, len(average) + 1)
        for chosen in combinations(range(len(average)), size)
        if np.ptp(average[list(chosen)]) < difference - 1e-9
    ]
    largest = [each for each in sets if not any(each < other for other in sets)]
    return sorted(largest, key=lambda chosen: average[list(chosen)].mean())


@oracle("friedman_nemenyi_wilcoxon")
def test_ranks_and_tests_over_tasks_oracle(inputs, check):
    scores = table_of(inputs)
    t, k = scores.shape
    average = ranks(scores).mean(axis=0)
    found = friedman(scores)
    difference = critical_difference(tasks=t, techniques=k)
    check(avg_ranks=average, cd_05=difference, cd_autorank_05=difference)
    assert [set(group) for group in maximal_groups(average, difference)] == bars(
        average, difference
    )
    check(friedman_chi2=found.statistic, friedman_p=found.p)
    untied = 12 * t / (k * (k + 1)) * ((average**2).sum() - k * (k + 1) ** 2 / 4)
    f = iman_davenport(untied, tasks=t, techniques=k)
    check(chi2_uncorrected=untied, iman_davenport_uncorrected=f.statistic)
    check(iman_davenport_uncorrected_p=f.p)
    upper = np.triu_indices(k, 1)
    p, adjusted = wilcoxon_holm(scores)
    check(nemenyi_p=nemenyi(average, tasks=t))
    check(wilcoxon_p_pairs_upper=p[upper], wilcoxon_holm_pairs_upper=adjusted[upper])


@oracle("nemenyi_q")
def test_nemenyi_quantile_oracle(inputs, check):
    found = [
        critical_difference(tasks=1, techniques=k) / np.sqrt(k * (k + 1) / 6) for k in inputs["K"]
    ]
    check(q=found)


def test_ranks_by_hand():
    assert ranks(np.array([[0.9, 0.8, 0.9], [0.3, 0.1 + 0.2, 0.1]])).tolist() == [
        [1.5, 3, 1.5],
        [1.5, 1.5, 3],
    ]


def test_corrected_f_equals_anova_of_the_ranks():
    scores = np.round(np.random.default_rng(0).normal(0.8, 0.02, (9, 4)), 2)
    places = ranks(scores)
    found = iman_davenport(friedman(scores).statistic, tasks=9, techniques=4)
    centred = places - 2.5
    between = 9 * (centred.mean(axis=0) ** 2).sum()
    f = (between / 3) / (((centred**2).sum() - between) / 24)
    assert found.statistic == pytest.approx(f)


SAME_ORDER = np.tile([0.3, 0.2, 0.1], (4, 1))


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (np.full((5, 3), 0.5), "all_tied"),
        (SAME_ORDER[:1], "n_too_small"),
        (SAME_ORDER[:, :2], "n_too_small"),
        (np.empty((0, 3)), "n_too_small"),
    ],
)
def test_undefined_results_have_a_reason(scores, reason):
    found = friedman(scores)
    assert found.reason == reason
    assert np.isnan(found.p)
    assert np.isnan(iman_davenport(found.statistic, tasks=5, techniques=3).p)


def test_complete_agreement_has_a_chi_square_but_no_f():
    found = friedman(SAME_ORDER)
    assert found.statistic == pytest.approx(4 * 2)
    f = iman_davenport(found.statistic, tasks=4, techniques=3)
    assert (f.statistic, f.reason) == (np.inf, "zero_variance")
    assert np.isnan(f.p)


def test_only_the_order_of_scores_matters():
    scores = np.random.default_rng(1).uniform(0.1, 0.9, (8, 5))
    assert friedman(scores) == friedman(np.log(scores) * 7 + np.arange(8)[:, None])
    shuffled = np.random.default_rng(2).permutation(8)
    assert friedman(scores)[:2] == pytest.approx(friedman(scores[shuffled])[:2])


@pytest.mark.parametrize(
    ("average", "difference", "groups"),
    [
        ([1.0, 1.5, 2.2, 3.9], 1.0, [(0, 1), (1, 2), (3,)]),
        ([3.9, 1.0, 2.2, 1.5], 1.0, [(1, 3), (3, 2), (0,)]),
        ([1.0, 2.0], 1.0, [(0,), (1,)]),  # as far apart as the difference is too far
        ([1.0, 1.2, 1.4], 1.0, [(0, 1, 2)]),
        ([np.nan, np.nan], np.nan, []),
    ],
)
def test_bars_join_maximal_groups(average, difference, groups):
    assert maximal_groups(np.array(average), difference) == groups


@pytest.mark.parametrize("seed", range(20))
def test_bars_are_maximal_groups_by_definition(seed):
    rng = np.random.default_rng(seed)
    average = ranks(rng.normal(0.8, 0.01, (8, 6)).round(2)).mean(axis=0)
    for difference in (0.3, 0.75, 1.5, 9.0):
        found = [set(group) for group in maximal_groups(average, difference)]
        assert found == bars(average, difference)


def test_signed_rank_p_by_hand():
    """Five gains: 2 / 2^5. One loss of the smallest size among five: sums 0 and 1 of 32, twice."""
    gains = np.arange(1.0, 6)
    loss = gains * [-1, 1, 1, 1, 1]
    gaps = np.column_stack([gains, loss, np.zeros(5), -gains])
    found = signed_rank_p(gaps)
    assert found[[0, 1, 3]].tolist() == [2 / 32, 4 / 32, 2 / 32]
    assert np.isnan(found[2])
    assert np.isnan(signed_rank_p(np.empty((0, 1))))


@pytest.mark.parametrize("tasks", [6, 9, 20, 60])
@pytest.mark.parametrize("digits", [1, 6])
def test_signed_rank_p_matches_scipy(tasks, digits):
    from scipy import stats

    gaps = np.round(np.random.default_rng(tasks).normal(0.3, 1, (tasks, 3)), digits)
    resampled = stats.PermutationMethod(n_resamples=2**9)  # tries all signs at nine tasks
    tied = tasks <= 9 and digits == 1
    wanted = [stats.wilcoxon(x, method=resampled if tied else "auto").pvalue for x in gaps.T]
    np.testing.assert_allclose(signed_rank_p(gaps), wanted, rtol=1e-10)


def test_few_tasks_cannot_reach_five_per_cent():
    assert [least_tasks(m) for m in (1, 3, 6, 300)] == [6, 7, 8, 14]
    for m in (1, 6, 300):
        tasks = least_tasks(m)
        p = np.array([2.0 ** (1 - n) for n in (tasks - 1, tasks)])
        adjusted = [holm(np.array([x, *np.ones(m - 1)]))[0] for x in p]
        assert adjusted[0] >= 0.05 > adjusted[1]


def test_order_of_techniques_does_not_matter():
    scores = np.random.default_rng(3).normal(0.8, 0.01, (10, 4))
    order = [2, 0, 3, 1]
    for found, moved in zip(wilcoxon_holm(scores), wilcoxon_holm(scores[:, order]), strict=True):
        np.testing.assert_array_equal(moved, found[np.ix_(order, order)])
