import pandas as pd
import pytest

from analysis import cells, read_scores
from analysis.frames.runs import ScoreFileError

HEAD = "task,model,technique,seed,dev,test,metric\n"


def runs_of(tmp_path, rows, columns=None):
    path = tmp_path / "scores.csv"
    path.write_text(HEAD + rows)
    return read_scores(path, columns)


def test_a_task_has_one_unit_over_all_models(tmp_path):
    rows = "walker,small,A,0,0.61,0.62,reward\nwalker,large,A,0,1.72,1.75,reward\n"
    assert cells(runs_of(tmp_path, rows))["scale"].tolist() == [1, 1]


def test_the_unit_holds_in_a_selection(tmp_path):
    rows = "walker,small,A,0,0.61,0.62,reward\nwalker,large,A,0,1.72,1.75,reward\n"
    runs = runs_of(tmp_path, rows)
    assert cells(runs[runs["model"] == "small"])["scale"].tolist() == [1]


def test_per_cent_is_read_as_shares(tmp_path):
    rows = "rte,m,A,0,61.5,62,accuracy\nrte,m,A,1,63,64,accuracy\n"
    runs = runs_of(tmp_path, rows, {"floor": "=50"})
    shares = runs_of(
        tmp_path,
        rows.replace("61.5,62", "0.615,0.62").replace("63,64", "0.63,0.64"),
        {"floor": "=0.5"},
    )
    assert set(runs["unit"]) == {"percent"}
    assert set(shares["unit"]) == {"share"}
    pd.testing.assert_frame_equal(cells(runs), cells(shares))


@pytest.mark.parametrize("metric", ["accuracy", "", "error_rate"])
def test_shares_beside_per_cent_are_refused_with_their_rows(metric, tmp_path):
    rows = f"rte,m,A,0,0.6,0.61,{metric}\nrte,m,A,1,0.62,0.63,{metric}\nrte,m,B,0,65,66,{metric}\n"
    with pytest.raises(ScoreFileError) as error:
        runs_of(tmp_path, rows)
    (mistake,) = error.value.mistakes
    assert "task 'rte' has its " in mistake
    assert (
        "row 3, dev (65), row 3, test (66) look like per cent, the other 4 scores do not" in mistake
    )


def test_a_floor_in_another_unit_is_refused(tmp_path):
    with pytest.raises(ScoreFileError, match=r"floor \(0.5\)"):
        runs_of(tmp_path, "rte,m,A,0,61.5,62,accuracy\n", {"floor": "=0.5"})


def test_an_unbounded_metric_may_have_any_values(tmp_path):
    rows = "walker,m,A,0,0.6,0.5,reward\nwalker,m,B,0,250,300,reward\n"
    assert set(runs_of(tmp_path, rows)["unit"]) == {"own"}


def test_zero_fits_both_units(tmp_path):
    rows = "cola,m,A,0,0,0,mcc\ncola,m,A,1,58,60,mcc\n"
    assert set(runs_of(tmp_path, rows)["unit"]) == {"percent"}


def test_runs_of_a_task_in_two_units_are_refused(tmp_path):
    runs = runs_of(tmp_path, "walker,m,A,0,0.6,0.5,reward\n")
    other = runs_of(tmp_path, "walker,m,B,0,250,300,reward\n")
    with pytest.raises(ScoreFileError, match="task 'walker' has more than one unit: share, own"):
        cells(pd.concat([runs, other], ignore_index=True))
