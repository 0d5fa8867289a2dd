import html
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from analysis import (
    answer,
    best_strategy,
    caveats,
    cells,
    cells_table,
    pairs,
    pareto,
    ranks,
    read_scores,
    stability,
    write_report,
)
from analysis.frames.runs import blocks, checked
from analysis.plots.cells import plot_curves, plot_mean_and_sd, plot_scores
from analysis.plots.examples import plot_disagreement
from analysis.plots.pareto import plot_plane
from analysis.plots.style import WIDTH, to_svg
from analysis.report import drawings
from analysis.report.drawings import PLOTTED
from analysis.report.findings import alike, over_tasks
from analysis.report.provenance import LISTED, Extras, provenance
from analysis.report.sections import SECTIONS, ReportData

NOTHING = pd.DataFrame()
NARROW = ["best_strategy", "cells", "stability", "pareto", "transfer"]  # of one task and model
FACTS = ["tasks", "models", "machines", "runs"]
OVER_TASKS = ["ranks", "aggregates", "rope"]


def asked_for(runs, curves=NOTHING):
    """The kinds of drawings of which the sections yield one or more, with the names of all."""
    material = ReportData(runs, curves, NOTHING)
    panels = [panel for section in SECTIONS for panel in section(material)]
    found: dict[str, set[str]] = {}
    for drawing in [drawing for panel in panels for drawing in panel.drawings]:
        found.setdefault(drawing.name.rstrip("0123456789"), set()).add(drawing.name)
    return found


def parts(page):
    """The parts of a page by their names, each as HTML, in order."""
    found = re.findall(r'<section id="(\w+)"(.*?)</section>', page, flags=re.DOTALL)
    return dict(found)


def drawn(page):
    """The names of the drawings on a page; every id of theirs begins with it."""
    names = re.findall(r'<svg.*?\bid="(\w+)-figure_1"', page, flags=re.DOTALL)
    assert page.count("<svg") == len(names) == len(set(names))
    return set(names)


def test_the_report_needs_nothing_else(page):
    page = page.read_text()
    addresses = set(re.findall(r"https?://[^\s\"'<>]*", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names only
    assert not re.search(r"<(link|iframe|img|script)[^>]*(src|href)=", page)
    assert not re.search(r"@import|url\((?!#)", page)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))


def test_the_report_answers_and_warns(page, runs, curves):
    page = page.read_text()
    text = html.unescape(page)
    for sentence in caveats(runs):
        assert sentence in text
    for sentences in answer(best_strategy(runs), stability(runs)).values():
        for sentence in sentences:
            assert sentence in text
    names = asked_for(runs, curves)
    drawings = {"scores", "spread", "curves", "losses", "front", "ranks", "profiles"}
    assert names.keys() == drawings
    places = [str(number) for number, _ in enumerate(blocks(checked(runs)))]
    for kind in drawings - {"ranks", "profiles"}:
        assert names[kind] == {kind + place for place in places}
    assert drawn(page) == set().union(*names.values())
    assert "torch 2.13.0" in page
    assert "22,713,216" in page


def test_the_page_answers_first_and_folds_the_rest(page):
    text = page.read_text()
    names = list(parts(text))
    assert names[:4] == ["caveats", "cells", "curves", "best_strategy"]
    assert names[-5:] == ["tasks", "models", "machines", "runs", "glossary"]
    order = [text.index(mark) for mark in ('class="asked"', 'class="findings"', 'id="caveats"')]
    assert order == sorted(order)
    assert "<details open" not in text
    for name, part in parts(text).items():
        shown = re.sub(r"<details.*</details>", "", part, flags=re.DOTALL)
        folded = name not in ("caveats", "cells", "curves")
        assert ("<table>" in shown) == (name == "cells")
        assert ("<svg" in shown) == (name in ("cells", "curves"))
        assert folded == ("<details><summary><h3>" in part)
    assert "rte (accuracy; 2,000 training, 600 dev, 600 test rows; a constant answer" in text
    assert "minilm (BERT; 22.7 million parameters)" in text


def test_over_many_tasks_the_page_opens_with_ranks(clean, tmp_path):
    tasks = [
        clean[clean["task"] == "rte"].assign(task=f"t{i:02}", key=clean["key"] + str(i))
        for i in range(PLOTTED + 1)
    ]
    text = write_report(pd.concat(tasks), NOTHING, tmp_path).read_text()
    assert list(parts(text))[:3] == ["caveats", "ranks", "cells"]
    assert f"<summary>{PLOTTED} figures" in parts(text)["cells"]
    assert 'class="panel beside"' in parts(text)["ranks"]
    assert 'class="panel beside"' not in parts(text)["cells"]


def test_a_sentence_of_several_captions_is_printed_once(page):
    text = html.unescape(page.read_text())
    for sentence in (
        "± is the standard deviation over seeds (n − 1).",
        "'Without failed runs' excludes all of them.",
        "Min n: number of seeds on the task with the fewest.",
        "whiskers: minimum and maximum",
        "hollow marker has none",
    ):
        assert len(re.findall(rf">[^<>]*{re.escape(sentence)}[^<>]*<", text)) == 1, sentence
    assert "How this was computed" in parts(text)["cells"]


def test_no_number_on_the_page_has_an_exponent(clean, tmp_path):
    """Scores that differ by rounding errors once had an sd of 6e-15, small errors one of 8e-05."""
    odd = clean["task"] == "rte"
    clean.loc[odd, ["dev", "test"]] = 0.7 + np.arange(odd.sum())[:, None] * 1e-17 * [1, 1]
    clean.loc[~odd, ["dev", "test"]] *= 1e-4
    rows = clean.assign(unit=np.where(odd, "share", "own"))
    text = write_report(rows, NOTHING, tmp_path).read_text()
    words = re.sub(
        r"<style.*?</style>|<script.*?</script>|<svg.*?</svg>", "", text, flags=re.DOTALL
    )
    words = re.sub(r"<[^>]*>", " ", words)
    assert not re.findall(r"\b\d\S*[eE][-−+]\d+", words)


def test_all_runs_are_listed_unless_they_are_too_many(page, clean, tmp_path):
    listed = parts(page.read_text())["runs"]
    assert listed.count("<tr>") == 1 + 70
    for outcome, count in (("missing", 2), ("diverged", 1), ("collapsed", 1)):
        assert listed.count(f"<td>{outcome}</td>") == count
    first = clean.iloc[0]
    row = next(row for row in listed.split("<tr>") if f"<td>{first['key']}</td>" in row)
    assert f"<td>{100 * first['dev']:.1f}</td><td>{100 * first['test']:.1f}</td>" in row
    *_, table = provenance(
        pd.concat([checked(clean)] * (LISTED // len(clean) + 1)), Extras(), tmp_path
    )
    assert table.body == ()
    assert "runs.csv" in table.caption


def test_equal_findings_of_several_tasks_are_printed_once():
    found = {"a, m": ["Same."], "b, m": ["Other."], "c, m": ["Same."]}
    assert alike(found) == {"a, m; c, m": ["Same."], "b, m": ["Other."]}


def test_over_many_tasks_the_answer_names_the_best_average_rank(clean):
    tasks = [
        clean[clean["task"] == "rte"].assign(task=f"t{i:02}", key=clean["key"] + str(i))
        for i in range(PLOTTED + 1)
    ]
    found = ranks(pd.concat(tasks))
    (sentence,) = over_tasks(found)
    first, *rest = found["configuration"]
    assert sentence.startswith(f"Over {PLOTTED + 1} tasks {first} has the best average rank, 1.00 ")
    worse = found["p_best"] < 0.05
    level = [name for name, low in zip(rest, worse[1:], strict=True) if not low]
    assert all(name in sentence.partition(";")[2] for name in level)
    assert ("all others are significantly worse" in sentence) == (not level)
    assert over_tasks(pd.DataFrame()) == []


def test_training_that_ended_early_is_a_caveat(clean):
    rte = clean[clean["task"] == "rte"]
    standard = rte[rte["configuration"] == "Standard"]

    def said(*scores, better="higher"):
        own = standard.assign(higher_is_better=better == "higher")
        rows = [
            {"key": key, "epoch": epoch, "name": "dev/accuracy", "value": value}
            for key in own["key"]
            for epoch, value in enumerate(scores, start=1)
        ]
        text = " ".join(caveats(own, pd.DataFrame(rows)))
        return "Dev scores still improved in the last epoch: Standard." in text

    assert said(0.5, 0.6, 0.7)
    assert said(0.5, 0.69, 0.72)  # 0.03 of 0.22
    assert not said(0.5, 0.7, 0.71)  # 0.01 of 0.21
    assert said(0.1, 0.5, 0.53)  # two points or more, though less than a tenth of all
    assert not said(0.5, 0.8, 0.7)
    assert not said(0.9, 0.5, 0.51)  # lost what it had
    assert not said(0.5, 0.5, 0.5001)
    assert not said(0.5, 0.6)  # two epochs say nothing about a trend
    assert not said(0.5, 0.6, 0.7, better="lower")
    assert said(0.9, 0.6, 0.5, better="lower")


def test_the_others_are_compared_with_a_recommended_baseline(clean):
    rte = clean[clean["task"] == "rte"]
    ahead = rte.assign(dev=rte["dev"] - 0.3 * (rte["configuration"] != "Standard"))
    best = best_strategy(ahead)
    compared = pairs(rte)
    (sentences,) = answer(best, stability(rte), compared).values()
    (said,) = [text for text in sentences if text.startswith("Differences from Standard on test")]
    means = rte.groupby("configuration")["test"].mean()
    for name in set(means.index) - {"Standard"}:
        gap = 100 * (means[name] - means["Standard"])
        assert f"{name} {gap:+.1f}".replace("-", "−") in said
    assert "FreezeLower(4) −3.9 (p = " in said
    assert said.count("p = ") == (compared["p_holm"][compared["second"] == "Standard"] < 0.05).sum()


def test_a_difference_on_test_of_those_level_on_dev_is_put_in_context(clean):
    """The headline is about dev, where the choice is made; test showed a difference below it."""
    two = clean[clean["configuration"].isin(["Standard", "LayerwiseDecay(0.7)"])]
    two = two[two["task"] == "rte"]
    other = two["configuration"] != "Standard"
    two = two.assign(test=two["test"] + 0.2 * other)
    context = "although level with it on dev, where the choice is made"
    for better, start in (
        ("LayerwiseDecay(0.7)", "On test LayerwiseDecay(0.7) differs from Standard by +1"),
        ("Standard", "Differences from Standard on test: LayerwiseDecay(0.7) +1"),
    ):
        seeds = two.groupby("configuration").cumcount()
        dev = 0.6 + 0.01 * seeds + 0.001 * (two["configuration"] == better)
        runs = two.assign(dev=dev)
        (sentences,) = answer(best_strategy(runs), stability(runs), pairs(runs)).values()
        assert sentences[0].startswith("No clear winner")
        (said,) = [text for text in sentences if text.startswith(start)]
        assert "p < 0.001" in said
        assert context in said


def test_a_task_without_a_finished_run_says_so(clean):
    waiting = clean["task"] == "terms"
    nothing = {"outcome": "missing", "dev": np.nan, "test": np.nan, "dev_floor": np.nan}
    runs = clean.assign(
        **{name: clean[name].mask(waiting, value) for name, value in nothing.items()}
    )
    found = answer(best_strategy(runs), stability(runs))
    assert found["terms, minilm"] == ["No run has finished yet."]
    assert "constant predictor is unknown" not in cells_table(cells(runs)).caption
    (one,) = answer(
        best_strategy(one_seed := clean[clean["seed"] == 0].query("task == 'rte'")),
        stability(one_seed),
    ).values()
    assert not any("with sd" in sentence for sentence in one)


def test_tables_can_be_filtered_by_task_and_configuration(page, clean, tmp_path):
    form = re.search(r'<form id="filters" hidden>.*?</form>', page.read_text(), flags=re.DOTALL)[0]
    assert re.findall(r'data-column="(\w+)"', form) == ["Task", "Configuration"]
    assert re.findall(r"<option>(.*?)</option>", form)[:2] == ["rte", "terms"]
    one = clean[clean["configuration"].eq("Standard") & clean["task"].eq("rte")]
    assert 'id="filters"' not in write_report(one, NOTHING, tmp_path).read_text()


def test_ids_on_the_page_are_unique(page):
    page = page.read_text()
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(ids)


def test_the_report_is_the_same_each_time(page, runs, curves, tmp_path):
    shuffled = runs.sample(frac=1, random_state=1)
    assert write_report(shuffled, curves, tmp_path).read_text() == page.read_text()


def test_columns_unknown_in_every_row_are_named_instead(runs, tmp_path):
    bare = runs.assign(train_rows=np.nan, objective="")
    text = html.unescape(write_report(bare, NOTHING, tmp_path).read_text())
    assert "other scores in their own unit. Unknown throughout: Training rows." in text
    assert "Pretraining, as far as known. Unknown throughout: Objective" in text
    assert not re.search(r"<th[^>]*>(Training rows|Objective)", text)
    whole = html.unescape(write_report(runs, NOTHING, tmp_path).read_text())
    assert re.search(r"<th[^>]*>Training rows", whole)


def test_tables_lie_beside_the_report(page, runs):
    names = {path.name for path in (page.parent / "tables").iterdir()}
    assert names == {
        f"{name}.{ending}"
        for name in (*NARROW, *OVER_TASKS, "suite", "by_technique", "groups", "pairs")
        for ending in ("csv", "md", "tex")
    }
    for read, name in ((pd.read_csv, "runs.csv"), (pd.read_parquet, "runs.parquet")):
        kept = read(page.parent / name)
        assert len(kept) == len(runs)
        assert {"task", "seed", "metric", "dev", "test", "seconds", "versions"} <= set(kept)
    assert not (page.parent / "predictions.parquet").exists()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_runs_saved_under_earlier_column_names_are_read(ending, page, runs, tmp_path):
    saved = page.parent / f"runs.{ending}"
    earlier = (pd.read_csv if ending == "csv" else pd.read_parquet)(saved)
    earlier = earlier.rename(columns={"dev_floor": "floor"})
    path = tmp_path / f"earlier.{ending}"
    earlier.to_csv(path, index=False) if ending == "csv" else earlier.to_parquet(path)
    pd.testing.assert_frame_equal(read_scores(path), read_scores(saved))
    pd.testing.assert_frame_equal(cells(runs.rename(columns={"dev_floor": "floor"})), cells(runs))


def test_predictions_are_analysed_and_saved_beside_the_report(clean, tmp_path):
    rte = clean[clean["task"] == "rte"]
    about = rte[["key", "task", "model", "configuration", "stage", "seed"]].assign(split="test")
    gold = pd.DataFrame({"id": list("abcd"), "label": ["yes", "no", "yes", "no"]})
    predictions = about.merge(gold, how="cross")
    side = np.random.default_rng(0).normal(np.where(predictions["label"] == "yes", 1, -1))
    predictions = predictions.assign(logit_no=-side, logit_yes=side)
    page = write_report(rte, NOTHING, tmp_path, predictions=predictions).read_text()
    assert {"agreement", "seeds_and_examples", "ensembles", "flips"} <= set(parts(page))
    assert "test examples on which each pair of seeds differs" in page
    assert "data:image/png" in page  # the heat map, which the page's own policy must let through
    assert "img-src data:" in page
    assert len(pd.read_parquet(tmp_path / "predictions.parquet")) == len(predictions)


def test_crossed_seeds_show_variance_components(clean, tmp_path):
    cell = clean[(clean["task"] == "rte") & (clean["configuration"] == "Standard")].head(6)
    crossed = cell.assign(head=[0, 0, 1, 1, 2, 2], order=[0, 1] * 3, noise=0, seed=pd.NA)
    page = write_report(crossed, NOTHING, tmp_path).read_text()
    assert "sources" in parts(page)
    assert "Shares of the variance over seeds by stream" in page


def test_many_tasks_are_collapsed_and_the_page_says_what_is_not_plotted(clean, tmp_path):
    few = clean[(clean["task"] == "rte") & (clean["configuration"] == "Standard")]
    many = pd.concat(
        few.assign(task=f"t{i:02}", cell=f"t{i}", key=few["key"] + str(i)) for i in range(50)
    )
    page = write_report(many, NOTHING, tmp_path).read_text()
    assert (
        '<p class="overview">50 combinations of task and model: 50 with one configuration, '
        "compared with nothing.</p>" in page
    )
    assert f"the first {PLOTTED} of 50 combinations of task and model" in page
    names = asked_for(many)
    assert {kind: len(each) for kind, each in names.items()} == dict.fromkeys(
        ("scores", "spread"), PLOTTED
    )
    assert drawn(page) == set().union(*names.values())
    assert page.count('class="filter" type="search" placeholder="filter 50 rows"') >= 2
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_without_dev_scores_nothing_is_recommended(clean, tmp_path):
    runs = clean.assign(dev=np.nan)
    page = write_report(runs, NOTHING, tmp_path).read_text()
    assert "No recommendation: no run has a dev score" in page
    assert "No dev scores at all: rte, terms" in page
    names = asked_for(runs)  # test scores and ranks are drawn all the same
    assert names.keys() == {"scores", "spread", "ranks", "profiles"}
    assert drawn(page) == set().union(*names.values())


def test_tables_over_tasks_and_models_appear_if_there_are_several(clean, tmp_path):
    def found(runs):
        found = parts(write_report(runs, NOTHING, tmp_path).read_text())
        return {name for name, text in found.items() if "<table>" in text}

    one = clean[clean["task"] == "rte"]
    assert found(one) == {*NARROW, *FACTS}
    other = {"model": "electra", "objective": "replaced tokens"}
    two = pd.concat([clean, clean.assign(**other, key="x" + clean["key"])])
    several = ["headline", "strategies", "suite", "by_technique", "pretraining", *OVER_TASKS]
    assert found(two) == {*NARROW, *FACTS, *several, "groups"}
    errors = two["dev"].where(two["task"] != "rte", 2 - two["dev"])  # of the one task
    falls = two.assign(dev=errors, higher_is_better=two["task"] != "rte")
    assert "suite" not in found(falls)


def test_a_configuration_whose_runs_all_failed_is_not_recommended(clean):
    failed = clean.assign(collapsed=True, collapse_rule="at_floor")
    for sentences in answer(best_strategy(failed), stability(failed)).values():
        assert sentences[0].startswith("No configuration can be recommended: all runs of ")


def test_text_from_the_study_is_escaped(runs, curves, tmp_path):
    odd = "<script>alert(1)</script>"
    for frame in (runs, curves):
        frame["configuration"] = frame["configuration"].replace("Mixout(0.1)", odd)
        frame["task"] = frame["task"].replace("rte", "<b>rte")
    text = write_report(runs.assign(study=odd), curves, tmp_path).read_text()
    assert "<script>alert" not in text
    assert "<b>rte" not in text


@pytest.mark.parametrize("case", ["no runs", "one seed", "all diverged", "all missing", "one"])
def test_a_report_of_sparse_data(case, clean, tmp_path):
    frame = clean.copy()
    if case == "no runs":
        frame = pd.DataFrame()
    elif case == "one seed":
        frame = frame[frame["seed"] == 0]
    elif case == "one":
        frame = frame[(frame["configuration"] == "Mixout(0.1)") & (frame["task"] == "rte")]
    else:
        frame[["dev", "test"]] = np.nan
        frame["outcome"] = case.removeprefix("all ")
    text = write_report(frame, NOTHING, tmp_path).read_text()
    words = re.sub(
        r"<svg.*?</svg>|<style.*?</style>|<script.*?</script>", "", text, flags=re.DOTALL
    )
    assert not re.search(r"\b(nan|NaT|None)\b(?! of)", words)
    assert 'class="caveats">\n<li>' in text


def test_caveats_of_the_troubled_study(runs):
    found = " ".join(caveats(runs))
    for part in (
        "2 of 70 runs are missing: rte/Mixout(0.1) (2).",
        "the smallest has 5",
        "1 run diverged: terms/Standard (1).",
        "1 run collapsed, not clearly better than a constant answer: rte/ReinitTop(2) (1: "
        "dev accuracy 53.0 against a bar of 56.8 (at_floor)).",
        "do not share the same seeds: rte/minilm (n = 5 to 7)",
    ):
        assert part in found
    assert "combine runs" not in found
    assert "Small" not in found


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"device": "H100"}, "combine runs from 2 types of device: H100 (1 run), cpu (69 runs)"),
        ({"versions": "torch 2.14.0"}, "combine runs from 2 sets of package versions"),
        ({"commit": "aaaa"}, "combine runs from 2 commits"),
        ({"dirty": True}, "uncommitted changes"),
        ({"test": np.nan}, "1 run completed without a test score and is left out"),
    ],
)
def test_caveats_mention_a_single_deviating_run(change, part, clean):
    assert part not in " ".join(caveats(clean))
    for column, value in change.items():
        clean.loc[0, column] = value
    assert part in " ".join(caveats(clean))


def test_caveats_name_the_tasks_whose_texts_were_cut(clean):
    def sentences(rows: float) -> list[str]:
        clean.loc[clean["task"] == "rte", ["cut_rows", "cut_tokens"]] = rows, 0.3
        return [text for text in caveats(clean) if "cut" in text]

    assert sentences(0.988) == [
        "Texts were cut at the maximum length: rte/minilm (99% of the rows, 30% of all tokens)."
    ]
    assert sentences(0.001) == sentences(np.nan) == []


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            {"dev_floor": np.nan, "test_floor": np.nan},
            "The score of a constant predictor is unknown: rte",
        ),
        ({"test": np.nan}, "No test scores at all: rte, terms"),
        (
            {"dev_rows": 120},
            "Small dev sets: rte (120 rows, standard error up to 4.6 points), terms (120 rows",
        ),
        ({"head": 0}, "hold the head seed fixed"),
        ({"order": [seed // 2 for seed in range(7)] * 10}, "share order seeds"),
    ],
)
def test_caveats_mention_what_a_whole_study_lacks(change, part, clean):
    assert part not in " ".join(caveats(clean))
    assert part in " ".join(caveats(clean.assign(**change)))


def test_few_seeds_no_baseline_one_configuration(clean):
    assert "Fewer than 5 seeds" in " ".join(caveats(clean[clean["seed"] < 4]))
    alone = " ".join(caveats(clean[clean["configuration"] == "Mixout(0.1)"]))
    assert "No baseline (Standard) to compare with" in alone
    assert "Only one configuration" in alone
    assert caveats(pd.DataFrame()) == ["There are no runs yet."]


def test_findings_name_the_ties_of_a_recommendation(runs):
    for sentences in answer(best_strategy(runs), stability(runs)).values():
        assert sentences[0].startswith("No clear winner among 4 of 5 configurations with ")
        assert "do not differ significantly on dev. If one must be taken now: " in sentences[0]
        assert not any("smallest sd" in sentence for sentence in sentences)  # with seven seeds
        assert sentences[-1].startswith("Failed: ")


def first_finding(runs):
    ((first, *_),) = answer(best_strategy(runs), stability(runs)).values()
    return first


def test_the_first_words_say_whether_there_is_a_winner(runs):
    """Two runs of Mixout are missing; the collapsed run of ReinitTop puts it last of the tied."""
    assert first_finding(runs[runs["task"] == "rte"]) == (
        "No clear winner among 4 of 5 configurations with 5 to 7 seeds each: Standard, "
        "Mixout(0.1), LayerwiseDecay(0.7) and ReinitTop(2) do not differ significantly on dev. "
        "If one must be taken now: Standard, for its lower failure rate, then higher dev mean, "
        "which is no evidence of a better score. Behind them on dev: FreezeLower(4)."
    )
    apart = runs["configuration"].isin(["LayerwiseDecay(0.7)", "FreezeLower(4)"])
    clear = runs[(runs["task"] == "rte") & apart]
    assert first_finding(clear) == (
        "Use LayerwiseDecay(0.7): it is best on dev, and no other configuration is tied with it."
    )
    one = clear["configuration"].eq("FreezeLower(4)")
    waiting = clear.assign(outcome=clear["outcome"].mask(one, "missing"))
    waiting.loc[one, ["dev", "test"]] = np.nan
    assert first_finding(waiting).endswith("No score yet, so not compared: FreezeLower(4).")


@pytest.mark.parametrize("n", [1, 2, 25])
def test_plots_of_few_and_many_configurations(n, clean):
    labels = [f"Technique({i})" for i in range(n)]
    part = clean[clean["configuration"] == "Standard"]
    many = checked(
        pd.concat(
            part.assign(configuration=label, cell=label, key=part["key"] + label)
            for label in labels
        )
    )
    block = many[many["task"] == "rte"]
    found = cells(block)
    curves = block.assign(epoch=1, name="dev/accuracy", value=block["dev"])
    for draw in (
        lambda: plot_scores(block, found),
        lambda: plot_mean_and_sd(found),
        lambda: plot_curves(curves, found),
    ):
        text = to_svg(draw(), "one")
        assert n > 2 or text == to_svg(draw(), "one")
        assert all(label in text for label in labels)


def overlaps(figure):
    """Labels of neighbouring ticks of an axis that overlap when drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            labels = [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            labels = [label for label in labels if label.get_text() and label.get_visible()]
            boxes = [label.get_window_extent(canvas.get_renderer()) for label in labels]
            found += [
                (one.get_text(), other.get_text())
                for (one, a), (other, b) in pairwise(zip(labels, boxes, strict=True))
                if a.overlaps(b)
            ]
    return found


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-4, 1e5])
def test_ticks_do_not_overlap(scale, clean, curves):
    clean[["dev", "test"]] = 0.123456 * scale + clean[["dev", "test"]] * scale / 100
    block = checked(clean.assign(unit="own"))
    block = block[block["task"] == "rte"]
    found = cells(block)
    for figure in (
        plot_scores(block, found),
        plot_mean_and_sd(found),
        plot_plane(pareto(block)),
        plot_curves(curves[curves["task"] == "rte"], found, of="train"),
    ):
        assert not overlaps(figure)


def test_heat_maps_grow_with_what_they_hold():
    def height(n):
        distances = pd.DataFrame(np.full((n, n), 0.2), range(n), range(n))
        return plot_disagreement(distances).get_size_inches()[1]

    assert height(3) < 2 < height(10) < height(40) <= WIDTH


def test_training_loss_is_drawn_beside_the_dev_score(runs, curves):
    block = checked(runs[runs["task"] == "rte"])
    figure = plot_curves(curves[curves["task"] == "rte"], cells(block), of="train")
    y = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(y, [0.7, 0.35, 0.7 / 3])
    with pytest.raises(ValueError, match="train/loss"):
        plot_curves(curves[curves["name"] == "dev/accuracy"], cells(block), of="train")


def test_the_layers_in_training_are_drawn(runs, curves):
    """Mean over two seeds, of the one configuration that has such curves."""
    block = checked(runs[runs["task"] == "rte"])
    keys = block.loc[block["configuration"] == "Standard", "key"].iloc[:2]
    rows = [
        {"key": key, "configuration": "Standard", "epoch": epoch, "name": name, "value": value}
        for seed, key in enumerate(keys)
        for name, value in (("trained/depth_00", 0.5 * seed), ("trained/depth_01", 1.0))
        for epoch in (1, 2, 3)
    ]
    (drawing,) = drawings.trained(block, cells(block), pd.DataFrame(rows))
    axes = drawing.figure.axes[0]
    assert axes.get_title() == "Standard"
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.25] * 3, [1.0] * 3])
    assert not list(drawings.trained(block, cells(block), curves))


def test_failed_runs_are_marked(runs):
    block = checked(runs[runs["task"] == "terms"])
    assert "diverged" in to_svg(plot_scores(block, cells(block)), "one")
    block = checked(runs[runs["task"] == "rte"])
    assert "collapsed" in to_svg(plot_scores(block, cells(block)), "one")


def test_analysis_needs_no_training_stack():
    code = (
        "import analysis, sys;"
        "never = {'torch', 'ray', 'transformers', 'study', 'mlflow'};"
        "print(*((never | {'matplotlib'}) & set(sys.modules)));"
        "import analysis.plots;"
        "print(*((never | {'matplotlib.pyplot'}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_axis_follows_the_scores_and_not_an_interval_of_two_seeds(clean):
    block = clean[(clean["task"] == "rte") & (clean["seed"] < 2)]
    (axes,) = plot_scores(block, cells(block)).axes
    span = 100 * (block["test"].max() - block["test"].min())
    low, high = axes.get_xlim()
    assert low <= 100 * block["test"].min()
    assert high >= 100 * block["test"].max()
    assert high - low <= 2 * span + 1e-6
