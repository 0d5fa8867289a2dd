import html
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

from analysis import best_of_k, best_strategy, caveats, cells, importance, pareto, stability, trials
from analysis.per_task.cells import cells_table
from analysis.per_task.search import progress, protocol
from analysis.plots.pareto import plot_plane
from tests.analysis.conftest import one_run

SPACE = {
    "technique.rate": json.loads(distribution_to_json(CategoricalDistribution((0.5, 0.7, 0.9)))),
    "recipe.lr": json.loads(distribution_to_json(FloatDistribution(1e-5, 1e-3, log=True))),
}


def searched(score, trials=12, sampler="random"):
    """A search of LayerwiseDecay on two seeds, its choice on three, and the baseline."""
    rng = np.random.default_rng(0)
    rows = []
    for trial in range(trials):
        values = {"technique.rate": (0.5, 0.7, 0.9)[trial % 3]}
        values["recipe.lr"] = float(10 ** rng.uniform(-5, -3))
        about = {"sampler": sampler, "trials": trials, "seed": 0, "seeds": "0-1"}
        about |= {"final_seeds": "100-102", "trial": trial, "values": values, "space": SPACE}
        label = f"LayerwiseDecay({trial})"
        for seed in (0, 1):
            dev = score(values) + (0.01 if seed else -0.01)
            rows.append(row(label, seed, dev) | {"stage": "tune", "search": json.dumps(about)})
    best = max(rows, key=lambda each: each["dev"])
    for seed in (100, 101, 102):
        final = row(best["configuration"], seed, 0.7)
        rows.append(final | {"tried": trials, "search": best["search"]})
        rows.append(row("Standard", seed, 0.6 + seed / 1e4))
    return pd.DataFrame(rows)


def row(label, seed, dev):
    run = one_run("terms", "Standard", seed, dev=dev, test=dev)
    return run | {
        "configuration": label,
        "technique": label.split("(")[0],
        "cell": label,
        "key": f"{label} {seed}",
    }


def by_rate(values):
    return 0.5 + values["technique.rate"] / 10


def test_trials_hold_mean_values_and_the_choice():
    found = trials(searched(by_rate))
    assert list(found["trial"]) == list(range(12))
    assert found["dev"].to_numpy() == pytest.approx([0.55, 0.57, 0.59] * 4)
    assert list(found["technique.rate"]) == [0.5, 0.7, 0.9] * 4
    assert list(found.index[found["chosen"]]) == [2]


def test_a_diverged_tuning_run_counts_at_the_floor_and_a_missing_one_leaves_no_mean():
    runs = searched(by_rate)
    runs.loc[0, ["outcome", "dev", "test"]] = ["diverged", np.nan, np.nan]
    runs.loc[2, ["outcome", "dev", "test"]] = ["missing", np.nan, np.nan]
    found = trials(runs)
    assert found["dev"][0] == pytest.approx((0.5 + 0.56) / 2)  # the floor is 0.5
    assert np.isnan(found["dev"][1])


def test_best_of_k_by_hand():
    """Best of 2 of 12 without replacement: by the share of pairs with each maximum."""
    found = best_of_k(searched(by_rate)).set_index("k")["dev"]
    assert found[1] == pytest.approx(0.57)
    pairs = 12 * 11 / 2
    low, middle = 4 * 3 / 2 / pairs, (8 * 7 / 2 - 4 * 3 / 2) / pairs
    assert found[2] == pytest.approx(0.55 * low + 0.57 * middle + 0.59 * (1 - low - middle))
    assert np.isnan(found[7])


def test_best_of_k_counts_only_what_tpe_drew_at_random():
    assert set(best_of_k(searched(by_rate, sampler="tpe"))["n"]) == {10}


@pytest.mark.parametrize("evaluator", ["fanova", "mean_decrease_impurity", "ped_anova"])
def test_the_deciding_field_is_the_most_important(evaluator):
    found = importance(searched(by_rate, trials=60), evaluator)
    assert found["field"][0] == "technique.rate"
    assert found["importance"].sum() == pytest.approx(1)
    assert found["importance"][0] > 0.8


def test_equal_scores_have_no_importance():
    assert importance(searched(lambda values: 0.5))["importance"].isna().all()


def test_a_value_of_none_has_an_importance():
    """As in the space of EMA, whose None becomes NaN in a column of numbers."""
    runs = searched(by_rate, trials=24)
    found = importance(with_none(runs))
    assert found["importance"].tolist() == importance(runs)["importance"].tolist()
    assert found["importance"].sum() == pytest.approx(1)


def with_none(runs):
    """The same search with None instead of the rate 0.5."""

    def changed(text):
        if not text:
            return text
        about = json.loads(text)
        choices = about["space"]["technique.rate"]["attributes"]["choices"]
        choices[:] = [None if rate == 0.5 else rate for rate in choices]
        rate = about["values"]["technique.rate"]
        about["values"]["technique.rate"] = None if rate == 0.5 else rate
        return json.dumps(about)

    return runs.assign(search=runs["search"].map(changed))


def test_tuning_runs_are_in_no_table():
    runs = searched(by_rate)
    last = runs[runs["stage"] == "final"]
    for table in (cells, best_strategy, stability):
        pd.testing.assert_frame_equal(table(runs), table(last))
    assert caveats(runs) == caveats(last)
    assert cells(runs)["test_n"].tolist() == [3, 3]


def test_the_number_tried_is_shown_with_the_choice(clean):
    table = cells_table(cells(searched(by_rate)))
    tried = table.header.index("Tried")
    assert {line[table.header.index("Configuration")]: line[tried] for line in table.body} == {
        "LayerwiseDecay(2)": "12",
        "Standard": "1",
    }
    assert "Tried" not in cells_table(cells(clean)).header


def test_a_report_states_the_protocol(tmp_path, clean):
    from analysis import write_report

    runs = searched(by_rate)
    text = html.unescape(write_report(runs, pd.DataFrame(), tmp_path).read_text())
    assert protocol(runs) in text
    assert "12 configurations (drawn at random; seed 0) on 2 tuning seeds" in text
    assert len(pd.read_csv(tmp_path / "runs.csv")) == len(runs)
    assert protocol(clean) == progress(clean) == ""


def test_a_report_shows_best_of_k_and_importance(tmp_path):
    from analysis import write_report

    runs = searched(by_rate)
    text = html.unescape(write_report(runs, pd.DataFrame(), tmp_path).read_text())
    assert "Expected best of k configurations" in text
    assert "Hyperparameter importance" in text
    lines = (tmp_path / "tables" / "best_of_k.md").read_text().splitlines()
    assert "| terms | minilm | LayerwiseDecay | 12 | 57.0 | 58.0 | 58.7 |" in lines  # k = 1, 2, 4
    weights = pd.read_csv(tmp_path / "tables" / "importance.csv")
    pd.testing.assert_frame_equal(weights, importance(runs))


def test_progress_counts_pending_runs():
    runs = searched(by_rate)
    begun = runs[(runs["stage"] == "tune") | (runs["configuration"] == "Standard")]
    assert progress(begun) == (
        "tune: 24 of 24 runs; 0 of 1 searches have chosen\nfinal: 3 of at most 6 runs"
    )


def test_tasks_with_their_own_seeds_are_counted_separately():
    """Regression: the seeds of the first task were reported for all, despite `per_task`."""
    three, two = searched(by_rate), searched(by_rate)
    two = two[two["seed"] != 102].assign(
        task="rte",
        search=two["search"].str.replace('"100-102"', '"100-101"'),
        key="rte " + two["key"],
        cell="rte " + two["cell"],
    )
    both = pd.concat([three, two], ignore_index=True)
    assert "was then run on 2 (rte) or 3 (terms) fresh seeds. No seed" in protocol(both)
    assert "on 2 tuning seeds each" in protocol(both)
    begun = both[(both["stage"] == "tune") | (both["configuration"] == "Standard")]
    assert progress(begun) == (
        "tune: 48 of 48 runs; 0 of 2 searches have chosen\nfinal: 5 of at most 10 runs"
    )


def test_no_trials_make_empty_frames(clean):
    assert trials(clean).empty
    assert best_of_k(clean).empty
    assert importance(clean).empty


def test_optuna_loads_only_where_it_is_needed():
    code = "import analysis, sys; print(*({'optuna', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def with_tuned_baseline(runs):
    """Adds a search of Standard whose choice scores 0.65; the stated one scores 0.6."""
    rows = [row("Standard[lr=0.001]", seed, 0.65 + seed / 1e4) for seed in (100, 101, 102)]
    tuned = pd.DataFrame([each | {"tried": 12} for each in rows]).assign(technique="Standard")
    return pd.concat([runs, tuned], ignore_index=True)


def test_a_searched_baseline_comes_before_the_stated_one():
    """Regression: a tuned technique was compared with the untuned baseline, 0.7 - 0.6."""
    runs = with_tuned_baseline(searched(by_rate))
    (best,) = best_strategy(runs).to_dict("records")
    assert best["difference"] == pytest.approx(0.7 - 0.65 - 101 / 1e4)
    verdicts = stability(runs).set_index("configuration")["verdict"]
    assert verdicts["Standard[lr=0.001]"] == "baseline"
    alone = runs[runs["configuration"] != "Standard"]
    assert set(best_strategy(alone)["difference"]) == {best["difference"]}
    assert not any("No baseline" in said for said in caveats(alone))


def test_the_pareto_plot_marks_the_searched_baseline():
    front = pareto(with_tuned_baseline(searched(by_rate)))
    marks, names = plot_plane(front).axes[1].lines, list(front["configuration"])
    diamonds = [name for name, mark in zip(names, marks, strict=True) if mark.get_marker() == "D"]
    assert diamonds == ["Standard[lr=0.001]"]


def test_unequal_searches_are_a_caveat():
    expected = "differ from that of Standard: terms/minilm (1 to 12). A gain there can result"
    assert any(expected in said for said in caveats(searched(by_rate)))
    tuned = with_tuned_baseline(searched(by_rate))
    level = tuned[tuned["configuration"] != "Standard"]
    assert not any("Search budgets" in said for said in caveats(level))
