import re

import numpy as np
import pandas as pd
import pytest

from analysis import (
    answer,
    best_strategy,
    caveats,
    cells,
    pairs,
    stability,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_text,
)
from analysis.frames.runs import checked
from analysis.per_task.best_strategy import best_strategy_table
from analysis.per_task.cells import cells_table
from analysis.per_task.stability import stability_table
from analysis.rendering.formatting import NBSP, interval_text, p_text, score_text

ALL = [
    (cells, cells_table),
    (best_strategy, best_strategy_table),
    (stability, stability_table),
]


def equal(one, other):
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def at(frame, **values):
    for column, value in values.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_cells_by_hand(runs):
    found = cells(runs)
    assert len(found) == 10
    row = at(found, task="terms", configuration="Standard")
    own = runs[(runs["task"] == "terms") & (runs["configuration"] == "Standard")]
    coded = own["test"].fillna(0.496)  # the diverged run enters with the constant predictor's score
    assert row["test_mean"] == pytest.approx(coded.mean())
    assert row["test_sd"] == pytest.approx(coded.std())
    assert (row["finished"], row["diverged"], row["collapsed"], row["missing"]) == (7, 1, 0, 0)
    row = at(found, task="rte", configuration="Mixout(0.1)")
    assert (row["asked"], row["finished"], row["missing"], row["test_n"]) == (7, 5, 2, 5)


def test_a_diverged_run_fails_once(runs):
    flagged = runs.assign(collapsed=runs["collapsed"] | (runs["outcome"] == "diverged"))
    equal(cells(flagged), cells(runs))


def test_cells_are_sorted_by_dev_mean(runs):
    for _, block in cells(runs).groupby("task"):
        assert block["dev_mean"].is_monotonic_decreasing


@pytest.mark.parametrize("frame_of", [cells, best_strategy, stability])
def test_order_of_rows_does_not_matter(frame_of, runs):
    equal(frame_of(runs), frame_of(runs.sample(frac=1, random_state=0)))


def test_another_technique_changes_no_other_cell(runs):
    without = runs[runs["configuration"] != "Mixout(0.1)"]
    both = cells(runs)
    equal(cells(without), both[both["configuration"] != "Mixout(0.1)"].reset_index(drop=True))
    columns = ["configuration", "ratio", "ratio_low", "ratio_high", "p", "failure_low"]
    found = stability(runs)
    kept = found[found["configuration"] != "Mixout(0.1)"].reset_index(drop=True)
    equal(stability(without)[columns], kept[columns])


@pytest.mark.parametrize("poison", [np.nan, 0.0, 1.0])
def test_the_choice_never_reads_test_scores(poison, runs):
    choice = ["recommended", "decided_by", "best_dev", "tied", "dev_mean", "probability_best"]
    wrong = runs.assign(test=poison, test_floor=poison)
    equal(best_strategy(runs)[choice], best_strategy(wrong)[choice])


def test_a_metric_where_lower_is_better_is_minimised_and_printed_unchanged(clean):
    falls = clean.assign(metric="mse", higher_is_better=False)
    for column in ("dev", "test", "dev_floor", "test_floor"):
        falls[column] = 2 - falls[column]
    up, down = best_strategy(clean), best_strategy(falls)
    same = ["recommended", "tied", "decided_by"]
    equal(up[same], down[same])
    np.testing.assert_allclose(down["test_mean"], 2 - up["test_mean"])
    np.testing.assert_allclose(down["difference"], -up["difference"])
    np.testing.assert_allclose(down["improvement"], up["improvement"])
    np.testing.assert_allclose(down["p_holm"], up["p_holm"])
    assert (down["scale"] == 1).all()
    assert cells(falls)["configuration"].tolist() == cells(clean)["configuration"].tolist()


def test_ties_and_the_tie_breaking_rule_are_named(runs):
    row = at(best_strategy(runs), task="terms")
    named = {row["recommended"], *row["tied"].split("; ")}
    assert "Standard" in named  # a diverged run makes its mean too uncertain to exclude it
    assert row["recommended"] != "Standard"
    assert "FreezeLower(4)" not in named  # three points below
    assert row["decided_by"].startswith("lower failure rate")


def test_difference_to_the_baseline_is_holm_adjusted_over_all_configurations(clean):
    from scipy import stats

    row = at(best_strategy(clean), task="terms")
    block = clean[clean["task"] == "terms"]
    by_label = {label: cell["test"] for label, cell in block.groupby("configuration")}
    base = by_label.pop("Standard")
    p = {label: stats.ttest_ind(x, base, equal_var=False).pvalue for label, x in by_label.items()}
    assert row["p"] == pytest.approx(p[row["recommended"]])
    rank = sorted(p, key=p.get).index(row["recommended"])
    running = [min(1, value * (4 - i)) for i, value in enumerate(sorted(p.values()))]
    assert row["p_holm"] == pytest.approx(max(running[: rank + 1]))
    assert row["method"] == "Welch"


def test_failed_runs_lead_to_a_permutation_test(runs):
    assert at(best_strategy(runs), task="terms")["method"] == "permutation"


def test_a_choice_that_depends_on_failed_runs_is_marked_with_a_dagger():
    """A has the better runs; two that diverged put its mean below B's."""
    frame = _two_cells([0.9, 0.91, 0.92, 0.9, 0.91, 0.92], [0.8, 0.81, 0.82, 0.8, 0.81, 0.82])
    frame.loc[[0, 1], ["dev", "test"]] = np.nan
    frame.loc[[0, 1], "outcome"] = "diverged"
    row = best_strategy(frame).iloc[0]
    assert row["best_dev"] == "Standard"
    assert "A, not Standard, has the best dev mean" in row["sensitivity"]
    table = best_strategy_table(best_strategy(frame))
    assert "†" in table.body[0][table.header.index("Recommended")]
    assert row["sensitivity"] in table.caption


def test_a_verdict_on_spread_needs_fifteen_seeds():
    rng = np.random.default_rng(0)
    stable, unstable = 0.8 + rng.normal(0, 0.002, 15), 0.8 + rng.normal(0, 0.02, 15)
    many = at(stability(_two_cells(stable, unstable)), configuration="A")
    assert (many["verdict"], many["method"]) == ("less scatter", "F")
    assert many["p_holm"] < 0.05
    few = at(stability(_two_cells(stable[:14], unstable[:14])), configuration="A")
    assert few["verdict"] == "too few seeds"
    turned = _two_cells(unstable, stable)
    assert at(stability(turned), configuration="A")["verdict"] == "more scatter"


def test_runs_that_all_score_the_same_have_no_scatter_to_compare():
    """15 identical runs beside 15 that vary: no ratio, no p-value, words of their own."""
    rng = np.random.default_rng(0)
    frame = _two_cells(np.full(15, 0.81), 0.8 + rng.normal(0, 0.02, 15))
    row = at(stability(frame), configuration="A")
    assert row["verdict"] == "no scatter"
    assert np.isnan(row[["ratio", "p", "p_holm", "clean_p", "clean_p_holm"]].astype(float)).all()
    pair = pairs(frame).iloc[0]
    assert np.isnan(pair[["spread_p", "clean_spread_p", "spread_p_holm"]].astype(float)).all()
    (sentences,) = answer(best_strategy(frame), stability(frame)).values()
    (said,) = [sentence for sentence in sentences if "sd" in sentence and "same" in sentence]
    assert said.startswith("All runs scored the same, sd 0: A (15 runs).")
    assert not any("smallest sd" in sentence for sentence in sentences)
    (warned,) = [sentence for sentence in caveats(frame) if "no evidence of stability" in sentence]
    assert " A (15 runs)." in warned
    against_it = _two_cells(0.8 + rng.normal(0, 0.02, 15), np.full(15, 0.81))
    assert at(stability(against_it), configuration="A")["verdict"] == "baseline without scatter"


def test_two_configurations_without_scatter_have_no_test_for_want_of_scatter():
    frame = _two_cells(np.full(15, 0.82), np.full(15, 0.81))
    (said,) = answer(best_strategy(frame, "score"), stability(frame)).values()
    assert any("no run of either differs from the others, so there is no test" in s for s in said)
    assert not any("too few runs for a test" in sentence for sentence in said)


def test_spread_due_to_failures_alone_is_not_claimed():
    rng = np.random.default_rng(0)
    x = 0.8 + rng.normal(0, 0.01, (2, 30))
    frame = _two_cells(*x)
    frame.loc[frame.index[30:40], ["dev", "test", "collapsed"]] = [0.5, 0.5, True]
    row = at(stability(frame), configuration="A")
    assert row["p_holm"] < 0.05
    assert row["clean_p_holm"] > 0.05
    assert (row["verdict"], row["method"]) == ("not shown", "bootstrap")
    assert row["failure_p"] < 0.01


def _two_cells(a, standard):
    """Configuration A and the baseline with these scores, on dev and test alike."""
    parts = []
    for label, x in (("A", a), ("Standard", standard)):
        x = np.asarray(x)
        seeds = range(x.size)
        part = pd.DataFrame({"dev": x, "test": x, **dict.fromkeys(("seed", "head"), seeds)})
        part = part.assign(order=seeds, noise=seeds, key=[f"{label}{s}" for s in seeds])
        parts.append(part.assign(configuration=label, technique=label, cell=label))
    frame = pd.concat(parts, ignore_index=True).assign(study="s", task="t", model="m")
    frame = frame.assign(outcome="completed", collapsed=False, metric="accuracy")
    frame = frame.assign(higher_is_better=True, dev_floor=0.5, test_floor=0.5, seconds=1.0)
    frame = frame.assign(**dict.fromkeys(("train_rows", "dev_rows", "test_rows"), 1000))
    frame = frame.assign(device="cpu", versions="torch 2", commit="c", dirty=False, host="h")
    return frame.reindex(columns=checked(pd.DataFrame()).columns)


@pytest.mark.parametrize("seeds", [2, 3, 12])
@pytest.mark.parametrize("collapsed", [True, False])
def test_equal_scores_print_no_interval(seeds, collapsed, clean):
    """The frame holds zero-width intervals and a reason; the table prints dashes."""
    frame = pd.concat([clean, clean.assign(seed=clean["seed"] + 7, key="x" + clean["key"])])
    frame = frame[frame["seed"] < seeds].assign(dev=0.5, test=0.5, collapsed=collapsed)
    found = cells(frame)
    assert set(found["test_mean_reason"]) == set(found["test_sd_reason"]) == {"zero_variance"}
    table = cells_table(found)
    entries = [dict(zip(table.header, line, strict=True)) for line in table.body]
    printed = {(e["95% CI of mean"], e["95% CI of sd"], e["Test mean ± sd"]) for e in entries}
    assert printed == {("–", "–", f"50.0{NBSP}±{NBSP}0.0")}
    assert "none where all scores are equal" in table.caption
    assert "[50.0" not in str(answer(best_strategy(frame), stability(frame)))


@pytest.mark.parametrize(("frame_of", "table_of"), ALL)
def test_no_runs_make_empty_tables_that_say_so(frame_of, table_of, runs):
    for nothing in (pd.DataFrame(), runs.iloc[:0]):
        table = table_of(frame_of(nothing))
        for render in (to_text, to_markdown, to_html, to_latex, to_csv):
            assert "Traceback" not in render(table)
        assert "no runs yet" in to_text(table)


@pytest.mark.parametrize(("frame_of", "table_of"), ALL)
@pytest.mark.parametrize("case", ["one seed", "all diverged", "all missing", "one", "constant"])
def test_incomplete_data_give_tables_not_errors(frame_of, table_of, case, clean):
    frame = clean.copy()
    if case == "one seed":
        frame = frame[frame["seed"] == 0]
    elif case == "one":
        frame = frame[frame["configuration"] == "Mixout(0.1)"]
    elif case == "constant":
        frame[["dev", "test"]] = 0.8
    else:
        frame[["dev", "test"]] = np.nan
        frame["outcome"] = case.removeprefix("all ")
    text = to_text(table_of(frame_of(frame)))
    assert "nan" not in text.lower()
    assert "Standard" in text or case == "one" or case == "all missing"


def test_without_a_baseline_nothing_is_compared(clean):
    frame = clean[clean["configuration"] != "Standard"]
    assert set(stability(frame)["verdict"]) == {"no baseline"}
    assert set(best_strategy(frame)["reason"]) == {"no_baseline"}


@pytest.mark.parametrize(("frame_of", "table_of"), ALL)
def test_captions_state_metric_direction_unit_and_n(frame_of, table_of, runs):
    table = table_of(frame_of(runs))
    for word in ("over seeds", "accuracy", "higher is better", "in points", "n, the number of"):
        assert word in table.caption
        assert word in " ".join(to_text(table).split())
        assert word in to_markdown(table)
        assert word in to_latex(table)
        assert word in to_html(table)


@pytest.mark.parametrize(("frame_of", "table_of"), ALL)
def test_terminal_tables_fit(frame_of, table_of, runs):
    long = runs.assign(configuration=runs["configuration"].replace("Mixout(0.1)", "M" * 150))
    for frame in (runs, long):
        assert max(map(len, to_text(table_of(frame_of(frame))).splitlines())) <= 100


def _words(text):
    """The words of a text, split where a line may break."""
    return set(re.split(r"\s+|(?<=-)|(?=\()", text))


@pytest.mark.parametrize(("frame_of", "table_of"), ALL)
def test_terminal_tables_split_no_word_with_one_metric_per_task(frame_of, table_of, runs):
    """Regression: metric, direction and unit took four lines per row and squeezed the labels."""
    long = "LayerwiseDecay(rate=0.7, epochs=20)"
    mixed = runs.assign(
        metric=runs["metric"].mask(runs["task"] == "terms", "pearson_spearman"),
        configuration=runs["configuration"].replace("LayerwiseDecay(0.7)", long),
    )
    both = pd.concat([mixed, mixed.assign(model="electra-small", key="x" + mixed["key"])])
    table = table_of(frame_of(both))
    column = table.header.index("Metric")
    assert {line[column] for line in table.body} == {"accuracy", "pearson_spearman"}
    assert (
        "Metrics: accuracy (higher is better, in points) on rte; "
        "pearson_spearman (higher is better, in points) on terms." in table.caption
    )
    text = to_text(table)
    for line in table.body:
        kept = [t for t, h in zip(line, table.header, strict=True) if h not in table.details]
        assert _words(" ".join(kept)) <= _words(text)
    assert max(map(len, text.splitlines())) <= 100


def test_scores_are_points_with_one_decimal(runs):
    table = cells_table(cells(runs))
    row = at(cells(runs), task="terms", configuration="FreezeLower(4)")
    wanted = f"{100 * row['test_mean']:.1f} ± {100 * row['test_sd']:.1f}"
    assert wanted in to_text(table).replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (score_text(0.8126, 100), "81.3"),
        (score_text(-0.0126, 100, sign="+"), "−1.3"),
        (score_text(0.0126, 100, sign="+"), "+1.3"),
        (score_text(0.0002, 100), "0.02"),
        (score_text(0.0, 100), "0.0"),
        (score_text(12.3456, 1), "12.35"),
        (score_text(np.nan, 100), "–"),
        (interval_text(0.7, 0.75, scale=100), "[70.0,\u00a075.0]"),
        (interval_text(np.nan, 0.75, scale=100), "–"),
        (interval_text(0.7, 0.7, scale=100), "–"),
        (p_text(0.0004), "<0.001"),
        (p_text(0.0456), "0.046"),
    ],
)
def test_numbers_as_printed(text, wanted):
    assert text == wanted


def test_reserved_characters_are_escaped(runs):
    odd = runs.assign(configuration=runs["configuration"].replace("Mixout(0.1)", "a_b&<i>|50%"))
    table = cells_table(cells(odd))
    assert r"a\_b\&$<$i$>$\textbar{}50\%" in to_latex(table)
    assert r"a_b&\<i>\|50%" in to_markdown(table)
    assert "a_b&amp;&lt;i&gt;|50%" in to_html(table)


def test_csv_holds_the_unrounded_numbers(runs, tmp_path):
    found = cells(runs)
    path = tmp_path / "cells.csv"
    path.write_text(to_csv(cells_table(found)))
    np.testing.assert_array_equal(pd.read_csv(path)["test_mean"], found["test_mean"])


def test_malformed_frames_are_refused_by_name(runs):
    twice = pd.concat([runs, runs.iloc[[0]]])
    with pytest.raises(ValueError, match=f"key {runs['key'][0]} occurs more than once"):
        cells(twice)
    with pytest.raises(ValueError, match="no column .*'dev'"):
        cells(runs.drop(columns=["dev", "outcome"]))
    with pytest.raises(ValueError, match="'crashed' is not one of"):
        cells(runs.assign(outcome="crashed"))
    with pytest.raises(ValueError, match="'dev' must hold numbers"):
        cells(runs.assign(dev="good"))
    mixed = runs.assign(cell=runs["cell"].where(runs["seed"] != 0, "another recipe"))
    with pytest.raises(ValueError, match="names 2 different cells"):
        cells(mixed)
    with pytest.raises(ValueError, match="more than one metric"):
        cells(runs.assign(metric=runs["metric"].where(runs["seed"] != 0, "f1")))


def test_frames_without_newer_columns_get_their_defaults(runs):
    equal(cells(runs.drop(columns=["stage", "tried", "search", "task_type"])), cells(runs))
    mixed = runs.assign(task_type=np.where(runs["seed"] == 0, "NER", ""))
    assert set(checked(mixed)["task_type"]) == {"NER"}  # some rows are from before


def test_a_task_has_one_type(runs):
    with pytest.raises(ValueError, match="more than one task_type: NER, PICO"):
        checked(runs.assign(task_type=np.where(runs["seed"] == 0, "NER", "PICO")))


def test_all_mistakes_are_reported_at_once(runs):
    with pytest.raises(ValueError, match=r"(?s)crashed.*more than one metric"):
        cells(runs.assign(outcome="crashed", metric=runs["seed"].astype(str)))


def test_a_negated_error_is_not_shown_in_points(clean):
    found = cells(
        clean.assign(dev=-clean["dev"], test=-clean["test"], dev_floor=-1.0, test_floor=-1.0)
    )
    assert set(found["scale"]) == {1.0}
