"""Measures of what runs predict: statistics of answers, probabilities and ensembles."""

from itertools import combinations

import numpy as np
import pytest

from analysis.statistics.ensembles import ensemble_gains
from analysis.statistics.predictions import (
    ambiguity,
    class_counts,
    consistency,
    disagreement_by_truth,
    disagreement_matrix,
    discrepancy,
    fleiss_kappa,
    flip_rates,
    generalised_jsd,
    jackknife_interval,
    jsd_matrix,
    krippendorff_alpha,
    pair_flip_rates,
    pair_interval,
    pair_mean,
    pairwise_disagreement,
    squared_l2,
)
from tests.analysis.oracles import oracle

RNG = np.random.default_rng


def answers(seed=0, *, runs=7, examples=40, classes=3):
    rng = RNG(seed)
    own = rng.integers(classes, size=examples)
    noise = rng.random((runs, examples)) < 0.3
    return np.where(noise, rng.integers(classes, size=(runs, examples)), own)


def probabilities(seed=0, *, runs=6, examples=30, classes=3):
    raw = RNG(seed).gamma(1.0, size=(runs, examples, classes))
    return raw / raw.sum(axis=-1, keepdims=True)


@oracle("prediction_labels")
def test_label_measures_oracle(inputs, check):
    given, classes = np.array(inputs["P"], dtype=int), int(inputs["C"])
    counts = class_counts(given, classes)
    check(
        pairwise_disagreement=pairwise_disagreement(counts),
        fleiss_kappa=fleiss_kappa(counts),
        krippendorff_alpha=krippendorff_alpha(counts),
        flip_rate_modal=flip_rates(counts).mean(),
        ambiguity=ambiguity(counts, len(given)),
    )
    check(pairwise_disagreement=pair_mean(disagreement_matrix(given, classes))[0])


@oracle("prediction_probabilities")
def test_probability_measures_oracle(inputs, check):
    given = np.array(inputs["Q"])
    check(
        pairwise_jsd=pair_mean(jsd_matrix(given, RNG(0)))[0],
        generalised_jsd=generalised_jsd(given)[0],
        pairwise_sq_l2=squared_l2(given)[0],
    )


def test_three_runs_by_hand():
    """Of three examples all agree on the first, one run is off on the second, all differ last."""
    counts = class_counts(np.array([[0, 1, 0], [0, 1, 1], [0, 0, 2]]), 3)
    np.testing.assert_allclose(pair_flip_rates(counts), [0, 2 / 3, 1])
    np.testing.assert_allclose(flip_rates(counts), [0, 1 / 3, 2 / 3])
    assert pairwise_disagreement(counts) == pytest.approx(5 / 9)
    gold = np.array([0, 1, 0])
    np.testing.assert_allclose(consistency(counts, gold), [1 / 3, 0, 2 / 3])
    # One run right: of no pair, of two of three, of two of three; both wrong: the last pair.
    np.testing.assert_allclose(disagreement_by_truth(counts, gold), [4 / 9, 1 / 9])


def test_ambiguity_is_the_mean_over_subsets():
    given = answers(runs=6)
    subsets = [given[list(chosen)] for chosen in combinations(range(6), 3)]
    wanted = np.mean([(part != part[0]).any(axis=0).mean() for part in subsets])
    assert ambiguity(class_counts(given, 3), 3) == pytest.approx(wanted)
    assert ambiguity(class_counts(given, 3), 1) == pytest.approx(0)


def test_squared_distance_of_certain_answers_is_twice_the_disagreement():
    given = answers()
    certain = (given[..., None] == np.arange(3)).astype(float)
    assert squared_l2(certain)[0] == pytest.approx(
        2 * pairwise_disagreement(class_counts(given, 3))
    )
    assert pair_mean(jsd_matrix(certain, RNG(0)))[0] == pytest.approx(
        np.log(2) * pairwise_disagreement(class_counts(given, 3))
    )


def test_two_runs_have_one_jsd():
    given = probabilities(runs=2)
    assert generalised_jsd(given)[0] == pytest.approx(jsd_matrix(given, RNG(0))[0, 1])


@pytest.mark.parametrize("measure", [generalised_jsd, squared_l2])
def test_jackknife_values_equal_recomputation(measure):
    given = probabilities()
    wanted = [measure(np.delete(given, run, axis=0))[0] for run in range(len(given))]
    np.testing.assert_allclose(measure(given)[1], wanted, rtol=1e-9)


def test_missing_answers_use_the_available_pairs():
    """Second example: two answers that differ; third: one answer, left out."""
    given = np.array([[0, 0, 1], [0, 1, -1], [0, -1, -1]])
    counts = class_counts(given, 2)
    assert pairwise_disagreement(counts) == pytest.approx((0 + 1) / 2)
    assert np.isnan(fleiss_kappa(counts))
    # Pairable 0 0 0 | 0 1: n = 5, observed 2, expected 25 - 16 - 1.
    assert krippendorff_alpha(counts) == pytest.approx(1 - 4 * 2 / 8)
    distances = disagreement_matrix(given, 2)
    assert distances[0, 1] == pytest.approx(0.5)
    assert distances[1, 2] == 0


def test_discrepancy_is_the_largest_distance():
    given = np.array([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]])
    np.testing.assert_allclose(discrepancy(disagreement_matrix(given, 2)), [0.5, 0.75, 0.75])


def test_invariant_to_order_and_class_names():
    given, rng = answers(), RNG(5)
    counts = class_counts(given, 3)
    moved = given[rng.permutation(len(given))][:, rng.permutation(given.shape[1])]
    renamed = np.array([2, 0, 1])[moved]
    for measure in (pairwise_disagreement, fleiss_kappa, krippendorff_alpha):
        assert measure(class_counts(renamed, 3)) == pytest.approx(measure(counts), rel=1e-12)
    assert ambiguity(class_counts(renamed, 3), 4) == pytest.approx(ambiguity(counts, 4))


def test_unused_class_changes_nothing():
    given = answers()
    for measure in (pairwise_disagreement, fleiss_kappa, krippendorff_alpha):
        assert measure(class_counts(given, 9)) == pytest.approx(measure(class_counts(given, 3)))


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (3, 0)])
def test_too_few_runs_or_examples_give_nan(shape):
    counts = class_counts(np.zeros(shape, dtype=int), 2)
    assert np.isnan([pairwise_disagreement(counts), fleiss_kappa(counts)]).all()
    assert np.isnan([krippendorff_alpha(counts), ambiguity(counts, 5)]).all()
    given = np.full((*shape, 2), 0.5)
    assert np.isnan([generalised_jsd(given)[0], squared_l2(given)[0]]).all()
    assert np.isnan(pair_mean(jsd_matrix(given, RNG(0)))[0])
    assert np.isnan(discrepancy(disagreement_matrix(np.zeros(shape, dtype=int), 2))).all() or (
        shape == (0, 4)
    )


def test_probabilities_that_do_not_sum_to_one_give_nan():
    given = probabilities()
    given[2, 3, 0] += 0.01
    assert np.isnan([generalised_jsd(given)[0], squared_l2(given)[0]]).all()
    assert np.isnan(jsd_matrix(given, RNG(0))).all()


def test_many_runs_evaluate_a_subset_of_pairs():
    given = probabilities(runs=60, examples=8)
    part = jsd_matrix(given, RNG(1))
    assert (~np.isnan(part)).sum() == 2 * 1225
    estimate, error = pair_mean(part)
    own = -(given * np.log(given)).sum(axis=-1).mean(axis=1)
    middle = (given[:, None] + given) / 2
    every = -(middle * np.log(middle)).sum(axis=-1).mean(axis=-1) - (own[:, None] + own) / 2
    whole = every[np.triu_indices(60, 1)].mean()
    assert 0 < error < 0.01
    assert abs(estimate - whole) < 3.5 * error
    np.testing.assert_allclose(part[~np.isnan(part)], every[~np.isnan(part)], rtol=1e-9)


@pytest.mark.parametrize(("runs", "method"), [(19, "jackknife"), (20, "bootstrap")])
def test_interval_by_number_of_runs(runs, method):
    distances = disagreement_matrix(answers(runs=runs), 3)
    found = pair_interval(distances, RNG(0))
    assert found.method == method
    assert found.low < pair_mean(distances)[0] < found.high


def test_bootstrap_excludes_pairs_of_a_run_with_itself():
    """All pairs equally far apart: every resample then has that mean, copies or not."""
    distances = 0.3 * (1 - np.eye(25))
    found = pair_interval(distances, RNG(0))
    assert (found.low, found.high) == (pytest.approx(0.3), pytest.approx(0.3))


def test_jackknife_interval_of_a_mean_is_the_t_interval():
    x = RNG(0).normal(size=9)
    found = jackknife_interval(x.mean(), (x.sum() - x) / 8)
    half = 2.306004 * x.std(ddof=1) / 3
    assert (found.low, found.high) == (
        pytest.approx(x.mean() - half, abs=1e-6),
        pytest.approx(x.mean() + half, abs=1e-6),
    )


def test_no_interval_from_too_few_runs():
    assert pair_interval(disagreement_matrix(answers(runs=2), 3), RNG(0)).reason == "n_too_small"
    assert jackknife_interval(0.1, np.array([0.1, 0.2])).reason == "n_too_small"
    assert jackknife_interval(0.1, np.array([0.1, np.nan, 0.2])).reason == "not_identified"


@pytest.mark.parametrize("runs", [5, 12, 25])
def test_disagreement_interval_covers(runs):
    """Runs of unequal noise, the hard case: 92 to 98% in 400 simulations; 80 here."""
    rng = RNG(runs)
    centre = rng.normal(size=200)

    def drawn(n):
        noise = np.exp(rng.normal(size=(n, 1)) / 2) * 0.6
        return (centre + noise * rng.normal(size=(n, 200)) > 0).astype(int)

    truth = pairwise_disagreement(class_counts(drawn(4000), 2))
    found = [pair_interval(disagreement_matrix(drawn(runs), 2), rng) for _ in range(80)]
    assert np.mean([each.low <= truth <= each.high for each in found]) > 0.83


def test_ensembles_by_hand():
    """Four runs, one example each way: any one of three outvotes; means follow the surer side."""
    sure, unsure, wrong = [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]
    given = np.array([[sure], [unsure], [wrong], [wrong]])
    by_mean, by_vote = ensemble_gains(given, np.array([0]), 2, RNG(0))
    # Pairs: su, sw, sw, uw, uw, ww; by mean right in the first three, votes tie in four of six.
    assert by_mean.accuracy == pytest.approx(3 / 6)
    assert by_vote.accuracy == pytest.approx((1 + 4 / 2) / 6)
    assert by_vote.gain == pytest.approx(0)  # always, of two


def test_ensemble_of_copies_gains_nothing():
    given = np.repeat(probabilities(runs=1), 6, axis=0)
    gold = RNG(1).integers(3, size=30)
    for found in ensemble_gains(given, gold, 3, RNG(0)):
        assert found.gain == pytest.approx(0)
        assert found.interval.reason == "zero_variance"


def test_independent_runs_gain_as_predicted_by_the_binomial():
    """Right with 0.7, five votes: P(at least 3 of 5) = 0.83692."""
    rng = RNG(2)
    right = rng.random((60, 4000)) < 0.7
    given = np.where(right[..., None], [0.8, 0.2], [0.2, 0.8])
    by_mean, by_vote = ensemble_gains(given, np.zeros(4000, dtype=int), 5, rng)
    assert by_vote.accuracy == pytest.approx(0.83692, abs=0.004)
    assert by_mean.accuracy == pytest.approx(by_vote.accuracy)
    assert by_vote.interval.low < 0.13692 < by_vote.interval.high


def test_too_large_ensembles_are_nan():
    given = probabilities(runs=5)
    by_mean, by_vote = ensemble_gains(given, np.zeros(30, dtype=int), 3, RNG(0))
    assert np.isnan([by_mean.gain, by_vote.gain]).all()
    assert by_mean.interval.reason == "n_too_small"


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match=r"k = 0"):
        ambiguity(class_counts(answers(), 3), 0)
    with pytest.raises(ValueError, match=r"k = 0"):
        ensemble_gains(probabilities(), np.zeros(30, dtype=int), 0, RNG(0))
