import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import table
from analysis.frames.runs import ScoreFileError
from analysis.report.paper_table import CELLS, FORMATS, paper_table

NBSP = "\u00a0"


def entry(paper, row, column):
    i = next(i for i, each in enumerate(paper.body) if each[0] == row)
    return i, paper.header.index(column), paper.body[i][paper.header.index(column)]


def test_an_entry_by_hand(clean):
    own = clean[(clean["task"] == "rte") & (clean["configuration"] == "ReinitTop(2)")]["test"] * 100
    _, _, text = entry(
        paper_table(clean, "configuration", "task", cell="mean±sd"), "ReinitTop(2)", "rte"
    )
    assert text.rstrip("⁺⁻") == f"{own.mean():.1f}{NBSP}±{NBSP}{own.std():.1f}"


def test_marks_are_holm_adjusted_against_the_baseline(clean):
    paper = paper_table(clean, "configuration", "task", cell="mean")
    block = clean[clean["task"] == "rte"]
    scores = {label: part["test"] for label, part in block.groupby("configuration")}
    base = scores.pop("Standard")
    p = {label: stats.ttest_ind(x, base, equal_var=False).pvalue for label, x in scores.items()}
    ranked = sorted(p, key=p.get)
    running = np.maximum.accumulate([p[label] * (4 - i) for i, label in enumerate(ranked)])
    for label, adjusted in zip(ranked, running, strict=True):
        text = entry(paper, label, "rte")[2]
        mark = "" if adjusted >= 0.05 else "⁺" if scores[label].mean() > base.mean() else "⁻"
        assert text.removeprefix(text.rstrip("⁺⁻")) == mark
    assert "⁻" in entry(paper, "FreezeLower(4)", "rte")[2]


def test_bold_includes_all_that_do_not_differ_from_the_best(clean):
    paper = paper_table(clean, "configuration", "task", cell="mean")
    i, j, _ = entry(paper, "FreezeLower(4)", "rte")
    assert (i, j) not in paper.bold
    level = {paper.body[i][0] for i, j in paper.bold if paper.header[j] == "rte"}
    assert len(level) > 1
    block = clean[clean["task"] == "rte"].groupby("configuration")["test"].mean()
    assert block.idxmax() in level


def test_marks_and_bold_follow_the_direction_of_the_metric(clean):
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


def test_the_caption_explains_the_table(runs):
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
    paper = paper_table(both, "model", "task", cell="mean")
    assert [row[0] for row in paper.body] == ["electra", "minilm"]
    assert paper.bold == {(0, 1), (0, 2)}
    assert not any("⁺" in text for row in paper.body for text in row)
    assert "Each model's strategy is the one recommended on dev" in paper.caption


def test_an_undefined_table_is_rejected_with_all_mistakes(clean):
    with pytest.raises(ScoreFileError) as error:
        table(clean, "tehnique", "model", cell="men")
    assert "'tehnique' is not one of task, model, technique, configuration." in str(error.value)
    assert "cell = 'men' is not one of mean," in str(error.value)
    assert "neither rows nor columns distinguish the 2 tasks (rte, terms)" in str(error.value)
    with pytest.raises(ScoreFileError, match="to = 'word'"):
        table(clean, to="word")
    with pytest.raises(ScoreFileError, match="the same variable twice"):
        table(clean, "task", "task,technique")
