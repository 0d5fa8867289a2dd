import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import against, against_table, to_text, write_report
from analysis.frames.runs import ScoreFileError


@pytest.fixture
def others(clean):
    """The same study a point better, without one technique, with one of its own."""
    part = clean[clean["technique"] != "Mixout"]
    own = part[part["technique"] == "Standard"].assign(technique="Own", configuration="Own")
    own = own.assign(cell="own " + own["task"], key="o" + own["key"])
    found = pd.concat([part, own], ignore_index=True)
    return found.assign(test=found["test"] + 0.01, study="published", key="x" + found["key"])


def row_of(found, task, configuration):
    return found[(found["task"] == task) & (found["configuration"] == configuration)].iloc[0]


def test_difference_and_interval_are_welchs(clean, others):
    row = row_of(against(clean, others), "rte", "ReinitTop(2)")
    a, b = (
        side[(side["task"] == "rte") & (side["configuration"] == "ReinitTop(2)")]["test"]
        for side in (clean, others)
    )
    wanted = stats.ttest_ind(a, b, equal_var=False)
    assert row["difference"] == pytest.approx(-0.01)
    assert row["p"] == pytest.approx(wanted.pvalue)
    low, high = wanted.confidence_interval()
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((low, high))
    assert row["ratio"] == pytest.approx(1.0)
    assert (row["n"], row["other_n"]) == (7, 7)


def test_swapping_the_studies_swaps_the_signs(clean, others):
    one, two = against(clean, others), against(others, clean)
    np.testing.assert_allclose(one["difference"], -two["difference"])
    np.testing.assert_allclose(one["ratio"], 1 / two["ratio"])
    np.testing.assert_allclose(one["p_holm"], two["p_holm"])
    swapped = two["where"].replace({"first": "second", "second": "first"})
    assert one["where"].tolist() == swapped.tolist()


def test_order_of_rows_does_not_matter(clean, others):
    shuffled = against(clean.sample(frac=1, random_state=1), others.sample(frac=1, random_state=2))
    pd.testing.assert_frame_equal(shuffled, against(clean, others))


def test_cells_of_only_one_study_are_named_and_not_compared(clean, others):
    found = against(clean, others)
    assert set(found.loc[found["where"] == "first", "configuration"]) == {"Mixout(0.1)"}
    assert set(found.loc[found["where"] == "second", "configuration"]) == {"Own"}
    alone = found[found["where"] != "both"]
    assert alone["difference"].isna().all()
    assert set(alone["reason"]) == {"unpaired"}
    text = to_text(against_table(found, "small", "published"))
    text = " ".join(text.split())
    assert "Only in small: rte/minilm/Mixout(0.1), terms/minilm/Mixout(0.1)." in text
    assert "Only in published: rte/minilm/Own, terms/minilm/Own." in text


def test_failed_runs_lead_to_a_permutation_test_and_are_counted(runs, others):
    row = row_of(against(runs, others), "terms", "Standard")
    assert (row["method"], row["failed"], row["other_failed"]) == ("permutation", 1, 0)
    assert row["clean_difference"] == pytest.approx(-0.01, abs=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "f1"}, "task 'rte' is scored by accuracy in one study and by f1 in the other."),
        ({"higher_is_better": False}, "higher accuracy is better in only one of the studies"),
        ({"test": 70.0}, "is a share in one study and above 1 in the other"),
    ],
)
def test_scores_that_are_not_comparable_are_refused(change, message, clean, others):
    with pytest.raises(ScoreFileError) as error:
        against(clean, others.assign(**change))
    assert message in str(error.value)
    assert len(error.value.mistakes) == 2  # both tasks


def test_studies_without_common_cells_say_so(clean, others):
    elsewhere = others.assign(model="electra", cell="e" + others["cell"])
    found = against(clean, elsewhere)
    assert "No cell is in both small and other." in to_text(against_table(found, "small", "other"))
    assert against(pd.DataFrame(), pd.DataFrame()).empty


def test_the_report_shows_the_other_study(clean, others, tmp_path):
    page = write_report(clean, pd.DataFrame(), tmp_path, others=others)
    assert "small against published" in page.read_text()
    assert (tmp_path / "tables" / "against.csv").exists()
    same = write_report(clean, pd.DataFrame(), tmp_path, others=clean).read_text()
    assert "small (first) against small (second)" in same


def test_the_same_label_with_other_settings_is_marked(clean):
    one = clean[(clean["task"] == "rte") & (clean["configuration"] == "Standard")]
    one = one.assign(cell="0" * 12)
    same, other = against(one, one), against(one, one.assign(cell="1" * 12))
    assert same["settings"].tolist() == ["same"]
    assert other["settings"].tolist() == ["other"]
    assert "keys differ" not in to_text(against_table(same, "a", "b"))
    assert "keys differ" in to_text(against_table(other, "a", "b"))
    assert against(clean, clean)["settings"].unique().tolist() == [""]  # of elsewhere


def settings_of(**values):
    rows = [("rte", "minilm", "Standard", name, value) for name, value in values.items()]
    return pd.DataFrame(rows, columns=["task", "model", "configuration", "name", "value"])


def test_what_differs_between_the_studies_is_named(clean):
    one = clean[
        (clean["task"] == "rte") & (clean["configuration"].isin(["Standard", "Mixout(0.1)"]))
    ]
    one = one.assign(versions="python 3.11, torch 2.13.0+cpu", cell="0" * 12)
    two = one.assign(versions="python 3.11, torch 2.14.0", train_rows=1000, cell="1" * 12)
    settings = (
        settings_of(**{"recipe.lr": "0.0001", "recipe.epochs": "3"}),
        settings_of(**{"recipe.lr": "0.0001", "recipe.clip_norm": "null"}),
    )
    found = against(one, two, settings)
    standard, mixout = (
        row_of(found, "rte", name)["differs"] for name in ("Standard", "Mixout(0.1)")
    )
    both = "train rows 2000, 1000; torch 2.13.0+cpu, 2.14.0"
    own = "recipe.epochs 3, default; recipe.clip_norm default, null"
    assert (standard, mixout) == (f"{both}; {own}", both)
    text = " ".join(to_text(against_table(found, "a", "b")).split())
    assert f"What differs, a first, then b: {both}; recipe.epochs" in text
    assert "recipe.epochs 3, default (in rte/minilm/Standard)" in text


def test_facts_that_only_one_study_has_are_no_difference(clean):
    unknown = clean.assign(versions="", device="", train_rows=pd.NA, domain="")
    assert set(against(clean, unknown)["differs"]) == {""}
    same = clean.assign(cell="0" * 12)
    same = same[(same["task"] == "rte") & (same["configuration"] == "Standard")]
    text = " ".join(to_text(against_table(against(same, same), "a", "b")).split())
    assert "Settings, device and versions of a and b are the same." in text
