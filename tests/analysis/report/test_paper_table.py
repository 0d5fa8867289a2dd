import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import table
from analysis.frames.runs import ScoreFileError
from analysis.report.paper_table import CELLS, FORMATS, paper_table

NBSP = "\u00a0"


def entry(made, row, column):
    i = next(i for i, each in enumerate(made.body) if each[0] == row)
    return i, made.header.index(column), made.body[i][made.header.index(column)]


def test_an_entry_by_hand(clean):
    own = clean[(clean["task"] == "rte") & (clean["configuration"] == "ReinitTop(2)")]["test"] * 100
    _, _, text = entry(
        paper_table(clean, "configuration", "task", cell="mean±sd"), "ReinitTop(2)", "rte"
    )
    assert text.rstrip("⁺⁻") == f"{own.mean():.1f}{NBSP}±{NBSP}{own.std():.1f}"


def test_marks_are_holm_adjusted_against_the_baseline(clean):
    made = paper_table(clean, "configuration", "task", cell="mean")
    block = clean[clean["task"] == "rte"]
    scores = {label: part["test"] for label, part in block.groupby("configuration")}
    base = scores.pop("Standard")
    p = {label: stats.ttest_ind(x, base, equal_var=False).pvalue for label, x in scores.items()}
    ranked = sorted(p, key=p.get)
    running = np.maximum.accumulate([p[label] * (4 - i) for i, label in enumerate(ranked)])
    for label, adjusted in zip(ranked, running, strict=True):
        text = entry(made, label, "rte")[2]
        mark = "" if adjusted >= 0.05 else "⁺" if scores[label].mean() > base.mean() else "⁻"
        assert text.removeprefix(text.rstrip("⁺⁻")) == mark
    assert "⁻" in entry(made, "FreezeLower(4)", "rte")[2]


def test_the_best_is_bold_only_with_all_that_are_level(clean):
    made = paper_table(clean, "configuration", "task", cell="mean")
    i, j, _ = entry(made, "FreezeLower(4)", "rte")
    assert (i, j) not in made.bold
    level = {made.body[i][0] for i, j in made.bold if made.header[j] == "rte"}
    assert len(level) > 1
    block = clean[clean["task"] == "rte"].groupby("configuration")["test"].mean()
    assert block.idxmax() in level


def test_where_lower_is_better_marks_and_bold_turn(clean):
    falls = clean.assign(metric="error", higher_is_better=False, test=1 - clean["test"])
    falls = falls.assign(dev=1 - falls["dev"], dev_floor=0.5, test_floor=0.5)
    one = paper_table(clean, "configuration", "task", cell="mean")
    two = paper_table(falls, "configuration", "task", cell="mean")
    assert one.bold == two.bold
    for up, down in zip(one.body, two.body, strict=True):
        assert [text[-1:] in "⁺⁻" and text[-1] for text in up[1:]] == [
            text[-1:] in "⁺⁻" and text[-1] for text in down[1:]
        ]
    assert "lower is better" in two.caption


def test_the_caption_says_what_a_reader_must_know(runs):
    caption = paper_table(runs, "technique", "task", cell="mean±sd").caption
    for part in (
        "± is their standard deviation (n − 1)",
        "n = 5 to 7 seeds",
        "accuracy (higher is better, in points)",
        "Model: minilm",
        "2 runs are missing",
        "2 runs failed",
        "Holm-adjusted",
        "Bold:",
    ):
        assert part in caption


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("to", FORMATS)
def test_every_cell_in_every_format(cell, to, runs):
    text = table(runs, rows="model,technique", columns="task", cell=cell, to=to)
    assert "ReinitTop" in text
    assert "nan" not in text.lower() or to == "csv"


def test_latex_is_booktabs_with_bold_and_marks(clean):
    text = table(clean, "configuration", "task", cell="mean±sd", to="latex")
    for part in (r"\toprule", r"\begin{tabular}{lrr}", r"\textbf{", r"$^{-}$", r"~$\pm$~"):
        assert part in text


def test_rows_and_columns_can_be_swapped(clean):
    one = paper_table(clean, "configuration", "task", cell="mean")
    two = paper_table(clean, "task", "configuration", cell="mean")
    assert entry(one, "Mixout(0.1)", "rte")[2] == entry(two, "rte", "Mixout(0.1)")[2]
    assert len(one.bold) == len(two.bold)


def test_models_are_compared_at_what_dev_recommends(clean):
    other = clean.assign(model="electra", key="x" + clean["key"], test=clean["test"] + 0.1)
    both = pd.concat([clean, other.assign(cell="e" + other["cell"])])
    made = paper_table(both, "model", "task", cell="mean")
    assert [row[0] for row in made.body] == ["electra", "minilm"]
    assert made.bold == {(0, 1), (0, 2)}
    assert not any("⁺" in text for row in made.body for text in row)
    assert "Each model's strategy is the one recommended on dev" in made.caption


def test_what_has_no_place_is_refused_with_everything_that_is_wrong(clean):
    with pytest.raises(ScoreFileError) as error:
        table(clean, "tehnique", "model", cell="men")
    assert "'tehnique' is not one of task, model, technique, configuration." in str(error.value)
    assert "cell = 'men' is not one of mean," in str(error.value)
    assert "neither rows nor columns distinguish the 2 tasks (rte, terms)" in str(error.value)
    with pytest.raises(ScoreFileError, match="to = 'word'"):
        table(clean, to="word")
    with pytest.raises(ScoreFileError, match="the same variable twice"):
        table(clean, "task", "task,technique")
