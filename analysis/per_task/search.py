"""The tuning stage: what was tried, what a bigger search would give, and which fields matter.

Everything here reads dev scores alone; the final stage has tables of its own.
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

SEARCH = ["task", "model", "technique"]  # what one search is for
FIRST_RANDOM = 10  # trials of TPE that are drawn at random, as `study.Tune` says
NONE_LEFT_OUT = {"random": None, "grid": None, "tpe": FIRST_RANDOM}

Evaluator = Literal["fanova", "ped_anova", "mean_decrease_impurity"]

_NAMES = ("Task", "Model", "Technique")


def trials(runs: pd.DataFrame) -> pd.DataFrame:
    """The configurations that searches tried.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per task, model, technique and trial, in the order in which they were tried:
        configuration, cell, sampler, higher_is_better, seeds (asked), finished, dev (mean over
        seeds, a diverged run at the constant answer's score; NaN while one is missing), chosen,
        and a column per searched field, such as `recipe.lr`; NaN in the columns of other searches.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    runs = checked(runs)
    tuning = runs[runs["stage"] == "tune"]
    chosen = set(runs.loc[(runs["stage"] == "final") & (runs["search"] != ""), "cell"])
    rows: list[dict[str, Any]] = []
    for (task, model, technique, cell), part in tuning.groupby([*SEARCH, "cell"]):
        about, own = json.loads(part["search"].iloc[0]), scores(part, "dev")
        whole = own.finished == len(part) == own.all_floor.size
        rows.append(
            {"task": task, "model": model, "technique": technique, "trial": about["trial"]}
            | {"configuration": part["configuration"].iloc[0], "cell": cell}
            | {"sampler": about["sampler"]}
            | {"higher_is_better": bool(part["higher_is_better"].iloc[0])}
            | {"seeds": len(part), "finished": own.finished}
            | {"dev": float(own.all_floor.mean()) if whole else np.nan, "chosen": cell in chosen}
            | about["values"]
        )
    columns = [*SEARCH, "trial", "configuration", "cell", "sampler", "higher_is_better"]
    columns += ["seeds", "finished", "dev", "chosen"]
    if not rows:
        return pd.DataFrame(columns=columns)
    return pd.DataFrame(rows).sort_values([*SEARCH, "trial"], ignore_index=True)


def best_of_k(runs: pd.DataFrame) -> pd.DataFrame:
    """Dev score to expect of the best of k tried configurations.

    Args:
        runs: One row per run, as `load_runs` gives them.

    Returns:
        One row per task, model, technique and k: n (random trials with a score) and dev, NaN for k
        beyond half of n, where it would rest on the few best. Only trials drawn at random count:
        of TPE the first ten.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.

    Source: Dodge et al. 2019, expected validation performance; Tang et al. 2020, its unbiased
        estimator, without replacement.
    """
    rows = []
    for key, part in trials(runs).groupby(SEARCH):
        drawn = part[: NONE_LEFT_OUT[part["sampler"].iloc[0]]]["dev"].dropna().to_numpy("float64")
        sign = 1.0 if part["higher_is_better"].iloc[0] else -1.0
        rows += [
            dict(zip(SEARCH, key, strict=True))
            | {"k": k, "n": drawn.size, "dev": sign * expected_best(sign * drawn, k)}
            for k in range(1, drawn.size + 1)
        ]
    return pd.DataFrame(rows, columns=[*SEARCH, "k", "n", "dev"])


def importance(runs: pd.DataFrame, evaluator: Evaluator = "fanova") -> pd.DataFrame:
    """How much of the spread of dev scores each searched field accounts for.

    Args:
        runs: One row per run, as `load_runs` gives them.
        evaluator: Optuna's: `fanova`, `ped_anova` or `mean_decrease_impurity`.

    Returns:
        One row per task, model, technique and field, the weightiest first: importance (they add up
        to 1 over the fields of a search) and n, the trials with a score. NaN below two trials, or
        where all score the same. With a dozen trials it is a hint, not a measurement.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.

    Source: Hutter et al. 2014 for functional ANOVA; Watanabe et al. 2023 for PED-ANOVA.
    """
    found = trials(runs)
    rows: list[dict[str, Any]] = []
    for key, part in found.groupby(SEARCH):
        own = runs[(runs["stage"] == "tune") & (runs["cell"] == part["cell"].iloc[0])]
        space = json.loads(own["search"].iloc[0])["space"]
        scored = part.dropna(subset="dev")
        varied = scored["dev"].round(12).nunique() > 1
        shares = _shares(scored, space, evaluator) if varied else dict.fromkeys(space, np.nan)
        rows += [
            dict(zip(SEARCH, key, strict=True)) | {"field": f, "importance": s, "n": len(scored)}
            for f, s in shares.items()
        ]
    return pd.DataFrame(rows, columns=[*SEARCH, "field", "importance", "n"])


def protocol(runs: pd.DataFrame) -> str:
    """How the configurations came to be, in a sentence or two; empty where nothing was searched."""
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
        "dev score, by the metric's direction, was then run on "
        f"{_by_task(searched, 'final_seeds', 'fresh')}. No seed was pruned and no configuration "
        "stopped early. The tables hold the final stage alone."
    )


def progress(runs: pd.DataFrame) -> str:
    """How far both stages are; empty where nothing was searched."""
    searched = _searched(runs)
    if searched.empty:
        return ""
    tuning = runs[runs["stage"] == "tune"]
    final = runs[runs["stage"] == "final"]
    chosen = set(final.loc[final["search"] != "", SEARCH].itertuples(index=False, name=None))
    planned = sum(each["trials"] * len(seeds_of(each["seeds"])) for each in searched["about"])
    to_come = sum(
        len(seeds_of(about["final_seeds"]))
        for *place, about in searched[[*SEARCH, "about"]].itertuples(index=False, name=None)
        if tuple(place) not in chosen
    )
    done = [int((part["outcome"] != "missing").sum()) for part in (tuning, final)]
    bound = "at most " if to_come else ""
    choices = f"{len(chosen)} of {len(searched)} searches have chosen"
    return (
        f"tune: {done[0]} of {planned} runs; {choices}\n"
        f"final: {done[1]} of {bound}{len(final) + to_come} runs"
    )


def _searched(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per search: task, model, technique, and what its runs say `about` it."""
    found = runs[runs["search"].fillna("") != ""].drop_duplicates(SEARCH)
    return found[SEARCH].assign(about=found["search"].map(json.loads))


def _by_task(searched: pd.DataFrame, field: str, kind: str) -> str:
    """How many seeds: `20 fresh seeds`; where tasks differ `5 (qnli) or 20 (rte) fresh seeds`."""
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
    import optuna  # slow to load, and nothing else here needs it
    from optuna import importance

    fields = {
        name: optuna.distributions.json_to_distribution(json.dumps(each))
        for name, each in space.items()
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
        values = {name: _plain(row[name], each) for name, each in fields.items()}
        study.add_trial(
            optuna.trial.create_trial(params=values, distributions=fields, value=row["dev"])
        )
    return dict(importance.get_param_importances(study, evaluator=evaluators[evaluator]()))


def _plain(value: Any, distribution: Any) -> Any:
    """A value as its distribution has it; a column has NaN for None, and floats beside it."""
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return next(c for c in choices if (pd.isna(value) if c is None else c == value))
    return int(value) if "Int" in type(distribution).__name__ else float(value)


def _seeds(n: int) -> str:
    return "seed" if n == 1 else "seeds"


def search_tables(runs: pd.DataFrame, scales: Mapping[tuple[str, str], float]) -> list[Table]:
    """Both tables; none where nothing was searched.

    Args:
        runs: One row per run, as `load_runs` gives them.
        scales: What a task and model's scores are multiplied by, as in `tables.cells`.

    Raises:
        ValueError: If `runs` is malformed; see `frame.checked`.
    """
    best, weights = best_of_k(runs), importance(runs)
    found = []
    if not best.empty:
        found.append(_best_of_k_table(best, scales))
    if not weights.empty:
        found.append(_importance_table(weights))
    return found


def _best_of_k_table(best: pd.DataFrame, scales: Mapping[tuple[str, str], float]) -> Table:
    """By doubling k, as far as any search says something of it."""
    known = set(best.dropna()["k"])
    counts = [k for k in (1, 2, 4, 8, 16, 32, 64) if k in known]
    body = []
    for key, part in best.groupby(SEARCH):
        task, model, technique = map(str, key)
        by_k, scale = part.set_index("k")["dev"], scales.get((task, model), 1.0)
        scores = [score_text(by_k.get(k, float("nan")), scale) for k in counts]
        body.append((task, model, technique, str(part["n"].iloc[0]), *scores))
    caption = (
        "Dev score to expect of the best of k configurations of the tuning stage, estimated from "
        "the n that were drawn at random and have a score; a dash where k is beyond half of n. "
        "Where it still rises, more trials would have helped."
    )
    header = (*_NAMES, "n", *(f"k = {k}" for k in counts))
    return Table("best_of_k", "Best of k tried", caption, header, tuple(body), (), best)


def _importance_table(weights: pd.DataFrame) -> Table:
    body = []
    for key, part in weights.groupby(SEARCH):
        shares = ", ".join(
            f"{field.partition('.')[2]} {share:.2f}"
            for field, share in zip(part["field"], part["importance"], strict=True)
            if share == share  # NaN where the scores say nothing
        )
        body.append((*map(str, key), str(part["n"].iloc[0]), shares or "–"))
    caption = (
        "Share of the spread of dev scores that each searched field accounts for (functional "
        "ANOVA, the shares of a search add up to 1), over the n configurations with a score. With "
        "a dozen of them it is a hint, not a measurement."
    )
    header = (*_NAMES, "n", "Fields by weight")
    return Table("importance", "Which fields matter", caption, header, tuple(body), (), weights)
