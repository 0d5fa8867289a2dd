"""What the name of a metric says: which direction is better, and whether its scores are shares."""

import re
from typing import Literal, NamedTuple

Direction = Literal["higher", "lower"]

LOWER = {  # words of metrics where lower is better
    *("loss", "losses", "logloss", "nll", "bce", "error", "errors", "err", "mistakes", "mse"),
    *("rmse", "nrmse", "mae", "nmae", "mape", "smape", "wape", "mase", "msle", "rmsle", "medae"),
    *("rse", "rrse", "rae", "perplexity", "ppl", "bpb", "bpc", "brier", "crps", "wer", "cer"),
    *("ter", "hter", "mer", "eer", "ece", "mce", "fid", "kid", "fpr", "fnr", "fdr", "distance"),
    *("divergence", "deviance", "crossentropy", "regret", "risk", "pinball", "failure", "failures"),
    *("miss", "misclassification"),
}
SHARES = {  # words of metrics in [−1, 1] where higher is better; some write them in per cent
    *("accuracy", "acc", "balacc", "precision", "recall", "sensitivity", "specificity", "f"),
    *("fscore", "fbeta", "fmeasure", "auc", "auroc", "auprc", "aupr", "roc", "ap", "map", "mrr"),
    *("ndcg", "hit", "tpr", "tnr", "ppv", "npv", "mcc", "matthews", "kappa", "qwk", "correlation"),
    *("corr", "pearson", "pearsonr", "spearman", "spearmanr", "kendall", "kendalltau", "tau"),
    *("rho", "pcc", "ccc", "bleu", "sacrebleu", "rouge", "rougel", "rougelsum", "meteor", "chrf"),
    *("bertscore", "em", "iou", "miou", "jaccard", "dice", "similarity", "pass", "winrate"),
    *("success", "ssim", "nmi", "ari"),
}
HIGHER = SHARES | {  # words of metrics where higher is better
    *("r", "rsquared", "gini", "dcg", "hits", "comet", "bleurt", "cider", "reward", "rewards"),
    *("return", "returns", "win", "wins", "likelihood", "psnr"),
}
BOUNDED = SHARES | {"exact", "eer", "ece", "fpr", "fnr", "fdr", "misclassification"}
PHRASES: dict[str, Direction] = {
    **dict.fromkeys(("cross entropy", "bits per", "false positive", "false negative"), "lower"),
    **dict.fromkeys(("true positive", "true negative", "exact match"), "higher"),
    **dict.fromkeys(("explained variance", "mutual info"), "higher"),
}
ENDINGS: dict[str, Direction] = {  # of words such as `valloss` and `testaccuracy`
    **dict.fromkeys(("loss", "error", "rmse", "perplexity", "entropy"), "lower"),
    "accuracy": "higher",
}
UNCLEAR = {"reduction", "improvement", "decrease", "increase", "drop", "gain", "skill", "d2"}
PLAIN = {"score", "scores", "top"}  # higher is better if the name has no other word
NEUTRAL = {  # words that say how or where a score was measured
    *("test", "dev", "val", "valid", "validation", "eval", "evaluation", "final", "last", "best"),
    *("mean", "avg", "average", "macro", "micro", "weighted", "total", "overall", "combined"),
}
NEGATED = re.compile(r"\s*(?:[-−]|(?i:negative|negated|neg|minus)(?![a-z]))")
COMPLEMENT = re.compile(r"\s*(?:1\s*[-−]|(?i:one[\s_-]*minus)(?![a-z]))")


class Meaning(NamedTuple):
    """What the name of a metric says.

    Attributes:
        direction: Whether higher or lower is better; None if the name does not say.
        sign: 1 for errors, whose scores are at least 0; -1 for negated errors; otherwise 0.
        bounded: Whether scores are shares or correlations, or the same in per cent.
    """

    direction: Direction | None
    sign: int
    bounded: bool


def meaning(metric: str) -> Meaning:
    """Read the name of a metric word by word, whatever its spelling.

    A name that has words of both directions, such as `accuracy loss`, or speaks of a change, such
    as `error reduction`, does not say which direction is better.

    Args:
        metric: A name such as `eval_loss`, `RMSE`, `neg_log_loss`, `hits@1` or `rougeL`.
    """
    complement, negated = COMPLEMENT.match(metric), NEGATED.match(metric)
    prefix = complement or negated
    words = _words(metric[prefix.end() :] if prefix else metric)
    own = _direction(words)
    bounded = bool(BOUNDED & set(words)) or ("error" in words and "rate" in words)
    if own is None or prefix is None:
        sign = 1 if own == "lower" else 0
        return Meaning(None if prefix else own, sign, bounded and not prefix)
    sign = -1 if negated and not complement and own == "lower" else 0
    return Meaning("lower" if own == "higher" else "higher", sign, bool(complement) and bounded)


def _words(name: str) -> list[str]:
    """The words of a name in lower case, without trailing digits; those in CamelCase as well."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    both = dict.fromkeys(re.findall(r"[a-z0-9]+", f"{spaced} {name}".lower()))
    return [word if word in UNCLEAR else re.sub(r"\d+$", "", word) for word in both]


def _direction(words: list[str]) -> Direction | None:
    found = {_of_word(word) for word in words} - {None}
    text = f" {' '.join(words)} "
    found |= {direction for phrase, direction in PHRASES.items() if f" {phrase} " in text}
    if UNCLEAR & set(words) or len(found) > 1:
        return None
    if not found and set(words) - NEUTRAL - {""} and set(words) <= PLAIN | NEUTRAL | {""}:
        return "higher"
    return next(iter(found), None)


def _of_word(word: str) -> Direction | None:
    if word in LOWER or word in HIGHER:
        return "lower" if word in LOWER else "higher"
    return next((found for ending, found in ENDINGS.items() if word.endswith(ending)), None)
