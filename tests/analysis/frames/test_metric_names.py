"""Directions as scikit-learn, transformers, lm-evaluation-harness and AMLB define them."""

import pytest

from analysis.frames.metric_names import HIGHER, LOWER, meaning

LOWER_IS_BETTER = [
    *("eval_loss", "val_loss", "mean_squared_error", "mean_absolute_error", "MeanSquaredError"),
    *("root_mean_squared_error", "word_perplexity", "ppl", "test_rmse", "log-loss", "Log Loss"),
    *("cross_entropy", "CrossEntropyLoss", "MSE", "hamming_loss", "error rate", "bits_per_byte"),
    *("wer", "hter", "eval/mse", "brier_score", "brier_score_loss", "max_error", "loss/test"),
    *("top-1 error", "valloss", "MAE (eV)", "negative log likelihood", "1 - accuracy", "1-auc"),
    *("false_positive_rate", "neg_accuracy", "zero_one_loss", "mean_poisson_deviance"),
]
HIGHER_IS_BETTER = [
    *("accuracy", "predictive_accuracy", "acc_norm,none", "f1", "F1-macro", "hits@1", "rougeL"),
    *("ROUGE-L", "mAP@0.5", "r2", "R^2", "area_under_roc_curve", "eval_matthews_correlation"),
    *("exact_match,strict-match", "pass@10", "MRR@10", "chrF", "CIDEr", "top1", "test_score"),
    *(
        "neg_log_loss",
        "neg_mean_squared_error",
        "negative_rmse",
        "-rmse",
        "negMSE",
        "one minus wer",
    ),
    *("log_likelihood", "reward", "explained_variance", "answer_f1", "score"),
]
UNKNOWN = [
    *("minutes", "toxicity_score", "accuracy_loss", "error reduction", "brier_skill_score"),
    *("d2_log_loss_score", "mean", "elbo", "negative predictive value", "loss/accuracy", ""),
]


@pytest.mark.parametrize("name", LOWER_IS_BETTER)
def test_lower_is_better(name):
    assert meaning(name).direction == "lower"


@pytest.mark.parametrize("name", HIGHER_IS_BETTER)
def test_higher_is_better(name):
    assert meaning(name).direction == "higher"


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_name_that_does_not_say_has_no_direction(name):
    assert meaning(name).direction is None


def test_no_word_has_two_directions():
    assert not LOWER & HIGHER


@pytest.mark.parametrize(
    ("name", "sign"), [("rmse", 1), ("neg_rmse", -1), ("nll", 1), ("log_likelihood", 0), ("f1", 0)]
)
def test_errors_have_a_sign(name, sign):
    assert meaning(name).sign == sign


def test_shares_are_known_by_name():
    shares = ["accuracy", "F1", "error_rate", "1-auc", "bleu", "mcc", "exact_match", "pass@1"]
    others = ["rmse", "reward", "score", "r2", "perplexity", "wer", "psnr", "log_likelihood"]
    assert [meaning(name).bounded for name in [*shares, *others]] == [True] * 8 + [False] * 8
