"""Forgetting in the tables: shares retained, their interval, the front and the limit."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import (
    best_strategy,
    best_strategy_table,
    cells,
    cells_table,
    example_runs,
    pareto,
    pareto_table,
    recommend,
    retained,
    retained_table,
)
from analysis.per_task.recommend import advice
from analysis.plots.retained import plot_retained

KEPT = {"Standard": 0.80, "gentle": 0.99, "middling": 0.90}


@pytest.fixture(scope="module")
def runs():
    """Three configurations that differ by seed in what they retain; the gentle one scores less."""
    found = example_runs().query("task == 'cb' and model != 'bert_base_uncased'")
    names = {
        "microsoft_deberta_v3_base": "Standard",
        "roberta_base": "middling",
        "bert_base_cased": "gentle",
    }
    found = found.assign(configuration=found["model"].map(names), model="any", dev=found["test"])
    shift = found.groupby("configuration").cumcount() * 0.001
    return found.assign(retained=found["configuration"].map(KEPT) + shift)


def test_cells_have_the_mean_and_its_interval(runs):
    frame = cells(runs).set_index("configuration")
    values = runs.loc[runs["configuration"] == "gentle", "retained"].to_numpy("float64")
    low, high = stats.t.interval(0.95, 19, values.mean(), stats.sem(values))
    row = frame.loc["gentle", ["retained_mean", "retained_low", "retained_high", "retained_sd"]]
    expected = [values.mean(), low, high, values.std(ddof=1)]
    np.testing.assert_allclose(row.to_numpy("float64"), expected)
    assert "Retained, %" in cells_table(cells(runs)).header
    plain = cells(runs.drop(columns="retained"))
    assert plain["retained_mean"].isna().all()
    assert "Retained, %" not in cells_table(plain).header


def test_best_strategy_says_what_the_recommended_one_retained(runs):
    frame = best_strategy(runs)
    assert frame["recommended"].tolist() == ["Standard"]
    assert frame["retained_mean"].iloc[0] == pytest.approx(0.8095)
    assert "Retained, %" in best_strategy_table(frame).header


def test_what_is_retained_is_a_goal_of_the_front(runs):
    without = pareto(runs.drop(columns="retained")).set_index("configuration")
    assert without.loc["gentle", "on_front"] == 0
    assert "retained" not in without["goals"].iloc[0]
    notes = " ".join(pareto_table(without.reset_index()).notes)
    assert "retained" not in notes
    found = pareto(runs).set_index("configuration")
    assert found.loc["gentle", "on_front"] == 1
    assert found["goals"].iloc[0] == "mean; sd; failures; retained"
    one = runs.assign(retained=runs["retained"].where(runs["configuration"] != "gentle"))
    assert "retained" not in pareto(one)["goals"].iloc[0]
    assert "unknown for some configurations: retained" in " ".join(pareto_table(pareto(one)).notes)


def test_differences_within_half_a_standard_error_count_as_equal(runs):
    same = runs.assign(retained=np.tile(np.linspace(0.8, 0.9, 20), 3))
    assert (pareto(same)["on_front"] == pareto(runs.drop(columns="retained"))["on_front"]).all()


def test_recommend_keeps_to_a_limit_on_forgetting(runs):
    free = recommend(runs).iloc[0]
    assert free["recommended"] == "Standard"
    kept = recommend(runs, keep=0.9).iloc[0]
    assert kept["recommended"] == "middling"
    assert kept["unfitting"] == "Standard: a run retained 80.0%, not 90.0%"
    assert kept["retained"] == pytest.approx(0.9)
    assert "% retained of the skill that lost most" in advice(recommend(runs, keep=0.9))[0]
    assert recommend(runs, keep=0.95).iloc[0]["recommended"] == "gentle"
    nothing = recommend(runs, keep=1.5).iloc[0]
    assert (nothing["recommended"], nothing["fitting"]) == ("", 0)
    unknown = recommend(runs.drop(columns="retained"), keep=0.9).iloc[0]
    assert "Standard: retained unknown" in unknown["unfitting"]


def test_a_run_that_diverged_has_kept_nothing_that_is_known(runs):
    gentle = runs["configuration"] == "gentle"
    half = gentle & (runs.groupby("configuration").cumcount() < 10)
    lost = runs.assign(
        retained=runs["retained"].mask(half), outcome=runs["outcome"].mask(half, "diverged")
    )
    lost.loc[half, ["dev", "test"]] = np.nan
    found = recommend(lost, keep=0.95).iloc[0]
    assert (found["recommended"], found["fitting"]) == ("", 0)
    assert "gentle: retained unknown" in found["unfitting"]
    assert "retained" not in pareto(lost)["goals"].iloc[0]
    missing = runs.assign(
        retained=runs["retained"].mask(half), outcome=runs["outcome"].mask(half, "missing")
    )
    missing.loc[half, ["dev", "test"]] = np.nan
    assert recommend(missing, keep=0.95).iloc[0]["recommended"] == "gentle"


def test_a_skill_has_one_unit():
    frame = skills_frame().query("skill == 'facts'").assign(metric="my_score")
    frame.loc[frame["configuration"] == "LoRA", "after"] = 1.4  # so it is no share
    assert retained(frame)["scale"].tolist() == [1.0, 1.0]


def skills_frame():
    rows = []
    for name, after in (("Standard", [25.0, 40.0]), ("LoRA", [20.0, 22.0])):
        for seed, score in enumerate(after):
            rows.append(
                {"task": "sft", "model": "m", "configuration": name, "stage": "final", "seed": seed}
                | {"skill": "text", "metric": "perplexity", "before": 20.0, "after": score}
                | {"retained": 20.0 / score, "key": f"{name}{seed}"}
            )
            rows.append({**rows[-1], "skill": "facts", "metric": "exact_match"})
            rows[-1] |= {"before": 0.5, "after": 0.4, "retained": 0.8}
    return pd.DataFrame(rows)


def test_skills_one_by_one():
    frame = retained(skills_frame())
    assert frame["skill"].tolist() == ["facts", "facts", "text", "text"]
    assert frame["configuration"].tolist() == ["LoRA", "Standard", "LoRA", "Standard"]
    text = frame[frame["skill"] == "text"].set_index("configuration")
    assert text.loc["Standard", "after_mean"] == pytest.approx(32.5)
    assert text.loc["Standard", "retained_mean"] == pytest.approx((0.8 + 0.5) / 2)
    assert frame["scale"].tolist() == [100.0, 100.0, 1.0, 1.0]
    lines = retained_table(frame).body
    assert any("perplexity" in entry for entry in lines[2])
    trials = skills_frame().assign(stage="tune")
    assert retained(trials).empty
    lacking = retained(skills_frame().assign(before=0.0))
    assert "scores nothing on facts, text" in " ".join(retained_table(lacking).notes)


def test_the_figure_has_a_point_per_run_and_one_per_configuration(runs):
    figure = plot_retained(runs, ["Standard", "gentle"], scale=100.0)
    lines = figure.axes[0].lines
    assert [len(line.get_xdata()) for line in lines[1:]] == [20, 1, 20, 1]
    assert lines[1].get_xdata()[0] == pytest.approx(80.0)
