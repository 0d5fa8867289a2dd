"""Hyperparameter search: trials, expected best of k, and hyperparameter importance.

All of it uses dev scores of the tuning stage; the other modules report the final stage.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.frames.columns import seeds_of
from analysis.frames.runs import checked, scores
from analysis.rendering.formatting import score_text
from analysis.rendering.table import Table
from analysis.statistics.estimates import expected_best

SEARCH = ["task", "model", "technique"]  # identify one search
FIRST_RANDOM = 10  # trials of TPE that are drawn at random, as `study.Tune` says
RANDOM_TRIALS = {"random": None, "grid": None, "tpe": FIRST_RANDOM}  # by sampler; None: all

Evaluator = Literal["fanova", "ped_anova", "mean_decrease_impurity"]

_NAMES = ("Task", "Model", "Technique")


def trials(runs: pd.DataFrame) -> pd.DataFrame:
    """The trials of every search.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per task, model, technique and trial, in the order in which they were tried:
        configuration, cell, sampler, higher_is_better, seeds (requested), finished, dev (mean over
        seeds, diverged runs at the constant predictor's score; NaN while a run is missing), chosen,
        and a column per searched field, such as `recipe.lr`, which is NaN for searches without it.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Example:
        Four published models stand in for the trials of a search.

        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> about = {"sampler": "random", "values": {}}
        >>> search = [json.dumps(about | {"trial": int(t)}) for t in runs["model"].factorize()[0]]
        >>> labels = runs["model"]
        >>> runs = runs.assign(stage="tune", search=search, configuration=labels, model="any")
        >>> trials(runs.assign(dev=runs["test"]))[["trial", "configuration", "dev"]].round(3)
           trial              configuration    dev
        0      0            bert_base_cased  0.635
        1      1          bert_base_uncased  0.644
        2      2  microsoft_deberta_v3_base  0.750
        3      3               roberta_base  0.678
    """
    runs = checked(runs)
    tuning = runs[runs["stage"] == "tune"]
    chosen = set(runs.loc[(runs["stage"] == "final") & (runs["search"] != ""), "cell"])
    rows: list[dict[str, Any]] = []
    for (task, model, technique, cell), part in tuning.groupby([*SEARCH, "cell"]):
        about, dev = json.loads(part["search"].iloc[0]), scores(part, "dev")
        complete = dev.finished == len(part) == dev.all_floor.size
        rows.append(
            {"task": task, "model": model, "technique": technique, "trial": about["trial"]}
            | {"configuration": part["configuration"].iloc[0], "cell": cell}
            | {"sampler": about["sampler"]}
            | {"higher_is_better": bool(part["higher_is_better"].iloc[0])}
            | {"seeds": len(part), "finished": dev.finished}
            | {"dev": float(dev.all_floor.mean()) if complete else np.nan, "chosen": cell in chosen}
            | about["values"]
        )
    columns = [*SEARCH, "trial", "configuration", "cell", "sampler", "higher_is_better"]
    columns += ["seeds", "finished", "dev", "chosen"]
    if not rows:
        return pd.DataFrame(columns=columns)
    return pd.DataFrame(rows).sort_values([*SEARCH, "trial"], ignore_index=True)


def best_of_k(runs: pd.DataFrame) -> pd.DataFrame:
    """Expected dev score of the best of k configurations (expected validation performance).

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per task, model, technique and k: n (random trials with a score) and dev, NaN for
        k > n / 2, where the estimate would depend on a few trials. Only trials drawn at random
        count: for TPE the first ten.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Source: Dodge et al. 2019, expected validation performance; Tang et al. 2020, its unbiased
        estimator, without replacement.

    Example:
        Four published models stand in for the trials of a search.

        >>> from analysis import example_runs
        >>> runs = example_runs().query("task == 'cb'")
        >>> about = {"sampler": "random", "values": {}}
        >>> search = [json.dumps(about | {"trial": int(t)}) for t in runs["model"].factorize()[0]]
        >>> labels = runs["model"]
        >>> runs = runs.assign(stage="tune", search=search, configuration=labels, model="any")
        >>> best_of_k(runs.assign(dev=runs["test"])).round(3)
          task model technique  k  n    dev
        0   cb   any  Standard  1  4  0.677
        1   cb   any  Standard  2  4  0.708
        2   cb   any  Standard  3  4    NaN
        3   cb   any  Standard  4  4    NaN
    """
    rows = []
    for key, part in trials(runs).groupby(SEARCH):
        drawn = part[: RANDOM_TRIALS[part["sampler"].iloc[0]]]["dev"].dropna().to_numpy("float64")
        sign = 1.0 if part["higher_is_better"].iloc[0] else -1.0
        rows += [
            dict(zip(SEARCH, key, strict=True))
            | {"k": k, "n": drawn.size, "dev": sign * expected_best(sign * drawn, k)}
            for k in range(1, drawn.size + 1)
        ]
    return pd.DataFrame(rows, columns=[*SEARCH, "k", "n", "dev"])


def importance(runs: pd.DataFrame, evaluator: Evaluator = "fanova") -> pd.DataFrame:
    """Importance of each searched field for the dev score.

    Args:
        runs: One row per run, as `load_runs` gives them.
        evaluator: Optuna's: `fanova`, `ped_anova` or `mean_decrease_impurity`.

    Returns:
        One row per task, model, technique and field, most important first: importance (sums to 1
        over the fields of a search) and n, the trials with a score. NaN with fewer than two trials,
        or where all score the same. A dozen trials give only a rough estimate.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.

    Source: Hutter et al. 2014 for functional ANOVA; Watanabe et al. 2023 for PED-ANOVA.

    Example:
        >>> from analysis import example_runs
        >>> importance(example_runs()).empty  # no searches, no rows
        True
    """
    frame = trials(runs)
    rows: list[dict[str, Any]] = []
    for key, part in frame.groupby(SEARCH):
        trial = runs[(runs["stage"] == "tune") & (runs["cell"] == part["cell"].iloc[0])]
        space = json.loads(trial["search"].iloc[0])["space"]
        scored = part.dropna(subset="dev")
        varied = scored["dev"].round(12).nunique() > 1
        shares = _shares(scored, space, evaluator) if varied else dict.fromkeys(space, np.nan)
        rows += [
            dict(zip(SEARCH, key, strict=True)) | {"field": f, "importance": s, "n": len(scored)}
            for f, s in shares.items()
        ]
    return pd.DataFrame(rows, columns=[*SEARCH, "field", "importance", "n"])


def protocol(runs: pd.DataFrame) -> str:
    """Sentences on how configurations were searched and chosen; empty without a search."""
    searched = _searched(runs)
    if searched.empty:
        return ""
    about = searched["about"].iloc[0]
    tuning = _by_task(searched, "seeds", "tuning")
    how = {"random": "drawn at random", "grid": "from a shuffled grid"}.get(about["sampler"])
    how = how or f"by TPE, of which the first {FIRST_RANDOM} are drawn at random"
    return (
        f"Two stages. Every searched technique tried {about['trials']} configurations ({how}; seed "
        f"{about['seed']}) on {tuning} each; the one with the highest mean "
        "dev score (lowest, where lower is better) was then run on "
        f"{_by_task(searched, 'final_seeds', 'fresh')}. No seed was pruned and no configuration "
        "stopped early. The tables show the final stage only."
    )


def progress(runs: pd.DataFrame) -> str:
    """Progress of the tuning and the final stage; empty without a search."""
    searched = _searched(runs)
    if searched.empty:
        return ""
    tuning = runs[runs["stage"] == "tune"]
    final = runs[runs["stage"] == "final"]
    chosen = set(final.loc[final["search"] != "", SEARCH].itertuples(index=False, name=None))
    planned = sum(about["trials"] * len(seeds_of(about["seeds"])) for about in searched["about"])
    pending = sum(  # final runs of searches that have not chosen yet
        len(seeds_of(about["final_seeds"]))
        for *search, about in searched[[*SEARCH, "about"]].itertuples(index=False, name=None)
        if tuple(search) not in chosen
    )
    done = [int((part["outcome"] != "missing").sum()) for part in (tuning, final)]
    bound = "at most " if pending else ""
    choices = f"{len(chosen)} of {len(searched)} searches have chosen"
    return (
        f"tune: {done[0]} of {planned} runs; {choices}\n"
        f"final: {done[1]} of {bound}{len(final) + pending} runs"
    )


def _searched(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per search: task, model, technique, and `about`, the parsed description of it."""
    frame = runs[runs["search"].fillna("") != ""].drop_duplicates(SEARCH)
    return frame[SEARCH].assign(about=frame["search"].map(json.loads))


def _by_task(searched: pd.DataFrame, field: str, kind: str) -> str:
    """Number of seeds: `20 fresh seeds`; where tasks differ, `5 (qnli) or 20 (rte) fresh seeds`."""
    counts = {
        str(task): len(seeds_of(about[field]))
        for task, about in zip(searched["task"], searched["about"], strict=True)
    }
    if len(set(counts.values())) == 1:
        n = next(iter(counts.values()))
        return f"{n} {kind} {_seeds(n)}"
    tasks = {n: ", ".join(t for t in counts if counts[t] == n) for n in sorted(counts.values())}
    return f"{' or '.join(f'{n} ({names})' for n, names in tasks.items())} {kind} seeds"


def _shares(scored: pd.DataFrame, space: dict[str, Any], evaluator: Evaluator) -> dict[str, float]:
    import optuna  # slow to import, and only needed here
    from optuna import importance

    fields = {
        name: optuna.distributions.json_to_distribution(json.dumps(field))
        for name, field in space.items()
    }
    evaluators: dict[str, Any] = {
        "fanova": lambda: importance.FanovaImportanceEvaluator(seed=0),
        "ped_anova": importance.PedAnovaImportanceEvaluator,
        "mean_decrease_impurity": lambda: importance.MeanDecreaseImpurityImportanceEvaluator(
            seed=0
        ),
    }
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    higher = bool(scored["higher_is_better"].iloc[0])
    study = optuna.create_study(direction="maximize" if higher else "minimize")
    optuna.logging.set_verbosity(verbosity)
    for row in scored.to_dict("records"):
        values = {name: _plain(row[name], field) for name, field in fields.items()}
        study.add_trial(
            optuna.trial.create_trial(params=values, distributions=fields, value=row["dev"])
        )
    return dict(importance.get_param_importances(study, evaluator=evaluators[evaluator]()))


def _plain(value: Any, distribution: Any) -> Any:
    """The value in its distribution's type; a column holds NaN for None, and floats for ints."""
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return next(c for c in choices if (pd.isna(value) if c is None else c == value))
    return int(value) if "Int" in type(distribution).__name__ else float(value)


def _seeds(n: int) -> str:
    return "seed" if n == 1 else "seeds"


def search_tables(runs: pd.DataFrame, scales: Mapping[tuple[str, str], float]) -> list[Table]:
    """The tables of `best_of_k` and `importance`; none without a search.

    Args:
        runs: One row per run, as `load_runs` gives them.
        scales: By task and model, the factor by which scores are multiplied, as in `cells`.

    Raises:
        ValueError: If `runs` is malformed; see `frames.runs.checked`.
    """
    best, weights = best_of_k(runs), importance(runs)
    tables = []
    if not best.empty:
        tables.append(_best_of_k_table(best, scales))
    if not weights.empty:
        tables.append(_importance_table(weights))
    return tables


def _best_of_k_table(best: pd.DataFrame, scales: Mapping[tuple[str, str], float]) -> Table:
    """For k = 1, 2, 4, …, as long as any search has an estimate."""
    known = set(best.dropna()["k"])
    counts = [k for k in (1, 2, 4, 8, 16, 32, 64) if k in known]
    body = []
    for key, part in best.groupby(SEARCH):
        task, model, technique = map(str, key)
        by_k, scale = part.set_index("k")["dev"], scales.get((task, model), 1.0)
        scores = [score_text(by_k.get(k, float("nan")), scale) for k in counts]
        body.append((task, model, technique, str(part["n"].iloc[0]), *scores))
    notes = (
        "Expected dev score of the best of k configurations (expected validation performance), "
        "estimated from the n random trials with a score; a dash for k > n/2.",
        "Where it still improves with k, more trials would have helped.",
    )
    header = (*_NAMES, "n", *(f"k = {k}" for k in counts))
    return Table(
        "best_of_k", "Expected best of k configurations", notes, header, tuple(body), (), best
    )


def _importance_table(weights: pd.DataFrame) -> Table:
    body = []
    for key, part in weights.groupby(SEARCH):
        shares = ", ".join(
            f"{field.partition('.')[2]} {share:.2f}"
            for field, share in zip(part["field"], part["importance"], strict=True)
            if share == share  # not NaN
        )
        body.append((*map(str, key), str(part["n"].iloc[0]), shares or "–"))
    notes = (
        "Share of the variance of dev scores explained by each searched field (functional ANOVA; "
        "shares of a search sum to 1), from the n configurations with a score.",
        "A dozen configurations give only a rough estimate.",
    )
    header = (*_NAMES, "n", "Fields by importance")
    return Table("importance", "Hyperparameter importance", notes, header, tuple(body), (), weights)
