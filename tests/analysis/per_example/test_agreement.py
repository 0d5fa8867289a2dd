"""Frames computed from stored predictions."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from analysis import (
    agreement,
    agreement_table,
    cells,
    disagreements,
    ensembles,
    ensembles_table,
    flips,
    flips_table,
    rescored,
    seeds_and_examples,
    seeds_and_examples_table,
    to_csv,
    to_text,
)
from analysis.frames.predictions import predicted
from analysis.plots.examples import plot_disagreement, plot_flips
from analysis.plots.style import to_svg
from analysis.statistics.metrics import OF_ANSWERS, OF_PROBABILITIES, OF_VALUES
from analysis.statistics.predictions import class_counts, pairwise_disagreement
from study.tasks.kinds import KINDS
from study.training.result import predictions_of
from study.training.train import Outcome
from tests.analysis.conftest import one_run

EXAMPLES = 60
THEIRS = {
    "accuracy": sk.accuracy_score,
    "macro_f1": partial(sk.f1_score, average="macro"),
    "matthews_corrcoef": sk.matthews_corrcoef,
}


def stored(kind, labels, gold, logits, folder: Path, **about):
    """One run's predictions, through the file that a worker writes, as `load_predictions` reads."""
    data = SimpleNamespace(
        ids=[f"row {number}" for number in range(len(gold))],
        gold=gold,
        rows=len(gold),
        units=np.arange(len(gold) + 1) * about.pop("words", 1),
        aside={"words": np.tile(np.arange(2), len(gold))},
    )
    prepared = SimpleNamespace(splits={"dev": data, "test": data}, kind=KINDS[kind](labels))
    outputs = {split: logits.astype(np.float32) for split in ("dev", "test")}
    file = folder / "predictions.parquet"
    file.write_bytes(predictions_of(Outcome("completed", logits=outputs), prepared))
    return pd.read_parquet(file).assign(**about)


def of_cell(folder, *, configuration="Standard", runs=6, spread=1.0, seed=0, task="terms"):
    """A cell of a task with three classes; the runs scatter around what is common to them."""
    rng = np.random.default_rng(seed)
    gold = np.random.default_rng(9).integers(3, size=EXAMPLES)
    common = 1.5 * np.eye(3)[gold] + np.random.default_rng(8).normal(size=(EXAMPLES, 3))
    return pd.concat(
        [
            stored(
                "classification",
                ("no", "so", "yes"),
                gold,
                common + spread * rng.normal(size=common.shape),
                folder,
                key=one_run(task, configuration, run, dev=0, test=0)["key"],
                **{"task": task, "model": "minilm", "configuration": configuration},
                **{"stage": "final", "seed": run},
            )
            for run in range(runs)
        ]
    )


@pytest.fixture
def predictions(tmp_path):
    """Two cells of six runs and one of three, on a task of three classes."""
    parts = [of_cell(tmp_path), of_cell(tmp_path, configuration="Mixout(0.1)", spread=0.3, seed=1)]
    parts.append(of_cell(tmp_path, configuration="ReinitTop(2)", runs=3, seed=2))
    return pd.concat(parts, ignore_index=True).astype({"seed": "Int64"})


@pytest.fixture
def stored_runs(predictions):
    """The runs that those are of; one of Standard diverged besides, one collapsed."""
    rows = []
    for (configuration, seed), part in predictions.groupby(["configuration", "seed"]):
        test = part[part["split"] == "test"]
        given = test[["logit_no", "logit_so", "logit_yes"]].idxmax(axis=1).str[6:]
        score = (given == test["label"]).mean()
        rows.append(one_run("terms", configuration, seed, dev=score, test=score))
    rows.append(one_run("terms", "Standard", 6, dev=np.nan, test=np.nan) | {"outcome": "diverged"})
    rows[-2] |= {"collapsed": True}  # the last of Standard
    return pd.DataFrame(rows)


def other_kinds(folder):
    """A cell of each other kind of answer, in one frame as a study has them."""
    rng = np.random.default_rng(3)
    gold, values = rng.integers(2, size=(5, 2)), rng.normal(size=5)
    many = ("a", "b", "c", "d", "e")  # texts that are right
    parts = []
    for run in range(3):
        about = {"model": "minilm", "configuration": "Standard", "stage": "final", "seed": run}
        logits = gold * 2 - 1 + rng.normal(size=gold.shape)
        parts += [
            stored(kind, labels, right, outputs, folder, key=f"{kind}{run}", task=kind, **about)
            for kind, labels, right, outputs in (
                ("multilabel", ("x", "y"), gold, logits),
                ("regression", (), values, values[:, None] + rng.normal(size=(5, 1))),
            )
        ]
        tags = [["O", "B-x"]] * 5
        outputs = rng.normal(size=(10, 2))
        about |= {"key": f"tagging{run}", "task": "tagging"}
        parts.append(stored("tagging", ("B-x", "O"), tags, outputs, folder, words=2, **about))
        texts = pd.DataFrame(
            {"split": "test", "id": list(many), "label": [f"{m} | A" for m in many]}
        )
        texts["answer"] = ["a", "b", "", "d", "e" if run else "E"]
        parts.append(texts.assign(**about | {"key": f"span{run}", "task": "span"}))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("runs", [4, 5])
def test_no_interval_over_fewer_than_five_runs_if_one_collapsed(runs, predictions, stored_runs):
    """Whether the frame of runs says so, or the run gives one answer where others differ."""
    own = predictions["configuration"] == "Standard"
    few = predictions[own & (predictions["seed"] < runs)].copy()
    marked = stored_runs[
        (stored_runs["configuration"] == "Standard") & (stored_runs["seed"] < runs)
    ]
    marked = marked.assign(collapsed=marked["seed"] == 0)
    constant = few.copy()
    constant.loc[constant["seed"] == 0, ["logit_no", "logit_so", "logit_yes"]] = [0.0, 0.0, 9.0]
    for found in (agreement(few, marked), agreement(constant)):
        ends = found[["kappa_low", "disagreement_high", "alpha_low", "flip_rate_low", "jsd_high"]]
        assert ends.isna().all(axis=None) == (runs == 4)
        assert found["kappa"].notna().all()
    assert agreement(few).iloc[0]["kappa_low"] < agreement(few).iloc[0]["kappa_high"]
    assert agreement(few, marked).iloc[0]["clean_n"] == runs - 1


def test_arrays_are_what_the_files_hold(predictions):
    shuffled = predictions.sample(frac=1, random_state=0)
    for one, other in zip(predicted(predictions, "test"), predicted(shuffled, "test"), strict=True):
        assert one.cell == other.cell
        assert one.keys == other.keys
        np.testing.assert_array_equal(one.answers, other.answers)
        np.testing.assert_array_equal(one.logits, other.logits)
    cell = next(predicted(predictions, "test"))
    row = predictions[(predictions["key"] == cell.keys[2]) & (predictions["split"] == "test")]
    row = row[row["id"] == cell.ids[7]].iloc[0]
    np.testing.assert_array_equal(cell.logits[2, 7], row[["logit_no", "logit_so", "logit_yes"]])
    assert cell.classes[cell.gold[7]] == row["label"]


def test_every_kind_of_answer_is_read(tmp_path):
    found = {cell.cell[0]: cell for cell in predicted(other_kinds(tmp_path), "test")}
    kinds = {"multilabel": "set", "regression": "value", "tagging": "tag", "span": "text"}
    assert {task: cell.kind for task, cell in found.items()} == kinds
    assert found["tagging"].answers.shape == (3, 10)  # words
    assert found["regression"].values.shape == (3, 5)
    assert (found["span"].answers >= 0).all()
    assert "" in found["span"].classes  # no answer is an answer


def test_a_set_that_no_run_answers_is_a_wrong_answer():
    """Three runs answer no tag to ten examples, of which four have none: 4 right, 6 wrong."""
    labels = [""] * 4 + ["a"] * 3 + ["a|b"] * 3
    rows = [
        {
            **{"task": "tags", "model": "m", "configuration": "Standard", "stage": "final"},
            **{"key": f"run{seed}", "seed": seed, "split": "test", "id": f"x{i}", "label": label},
            **{"logit_a": -1.0 - seed, "logit_b": -2.0},
        }
        for seed in range(3)
        for i, label in enumerate(labels)
    ]
    frame = pd.DataFrame(rows)
    found = agreement(frame).iloc[0]
    assert found["kind"] == "set"
    assert (found["all_right"], found["all_wrong"], found["mixed"]) == (0.4, 0.6, 0.0)
    right = flips(frame).set_index("id")["right"]
    assert [right[f"x{i}"] for i in range(10)] == [1.0] * 4 + [0.0] * 6
    frame.loc[frame["id"] == "x9", "label"] = None  # an example without a label is neither
    assert agreement(frame).iloc[0]["all_right"] == pytest.approx(4 / 9)


def test_agreement_matches_the_array_statistics(predictions):
    found = agreement(predictions).set_index("configuration")
    for cell in predicted(predictions, "test"):
        row, counts = found.loc[cell.cell[2]], class_counts(cell.answers, 3)
        assert row["disagreement"] == pytest.approx(pairwise_disagreement(counts))
        assert row["n"] == len(cell.keys)
        assert row["examples"] == EXAMPLES
        for name in ("disagreement", "kappa", "alpha", "flip_rate", "jsd", "squared_l2"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert row["one_right"] + row["both_wrong"] == pytest.approx(row["disagreement"])
    assert found.loc["Mixout(0.1)", "disagreement"] < found.loc["Standard", "disagreement"]
    assert np.isnan(found.loc["ReinitTop(2)", "ambiguity"])  # of five, with three runs


def test_failed_runs_are_counted_and_excluded_in_clean_columns(predictions, stored_runs):
    found = agreement(predictions, stored_runs).set_index("configuration").loc["Standard"]
    assert (found["n"], found["asked"], found["diverged"], found["collapsed"]) == (6, 7, 1, 1)
    assert found["clean_n"] == 5
    bad = stored_runs.loc[stored_runs["collapsed"], "key"]
    without = agreement(predictions[~predictions["key"].isin(bad)])
    without = without.set_index("configuration").loc["Standard"]
    assert found["clean_disagreement"] == pytest.approx(without["disagreement"])
    assert found["clean_kappa_low"] == pytest.approx(without["kappa_low"])


def test_missing_answers_are_counted(predictions):
    first = predictions["key"].iloc[0]
    gone = (predictions["key"] == first) & predictions["id"].isin(["row 3", "row 4"])
    whole, found = agreement(predictions), agreement(predictions[~gone])
    own = found.set_index("configuration").loc["Standard"]
    assert (own["absent"], own["examples"]) == (2, EXAMPLES)
    assert np.isnan(own["kappa"])
    assert np.isfinite([own["alpha"], own["disagreement"], own["jsd"]]).all()
    assert (whole["absent"] == 0).all()
    assert "2 answers are missing" in agreement_table(found).caption


def test_one_run_says_why(predictions):
    one = predictions[predictions["key"] == predictions["key"].iloc[0]]
    found = agreement(one).iloc[0]
    assert (found["n"], found["reason"]) == (1, "n_too_small")
    assert np.isnan(found["disagreement"])


def test_other_kinds_of_answer_have_the_measures_defined_for_them(tmp_path):
    frame = other_kinds(tmp_path)
    found = agreement(frame).set_index("task")
    values = frame[(frame["task"] == "regression") & (frame["split"] == "test")]
    wanted = values.groupby("id")["value"].std().mean()
    assert found.loc["regression", "value_sd"] == pytest.approx(wanted)
    assert np.isnan(found.loc["regression", "disagreement"])
    assert found.loc["span", "disagreement"] == pytest.approx(2 / 3 / 5)
    assert np.isfinite(found.loc["tagging", "jsd"])
    assert np.isnan(found.loc["multilabel", "jsd"])
    assert np.isfinite(found.loc["multilabel", "all_right"])
    assert np.isnan(found.loc["span", "all_right"])
    assert ensembles(frame).empty
    assert rescored(frame, "accuracy").empty  # no task of classes
    examples = flips(frame).set_index("task")
    own = examples.loc["regression"].sort_values("id")
    np.testing.assert_allclose(own["value_sd"], values.groupby("id")["value"].std())
    assert "sd" in flips_table(flips(frame)).header
    assert "sd per example" in agreement_table(agreement(frame)).header


def test_a_regression_has_no_columns_of_dashes(tmp_path):
    frame = other_kinds(tmp_path)
    table = agreement_table(agreement(frame[frame["task"] == "regression"]))
    assert "sd per example" in table.header
    assert not {"Disagreement", "JSD", "All correct, mixed, all wrong"} & {*table.header}
    assert not any("kappa" in note for note in (*table.notes, *table.method))


def test_flips_begin_with_the_most_disagreement(predictions):
    found = flips(predictions)
    assert len(found) == 3 * EXAMPLES
    for _, part in found.groupby("configuration"):
        assert part["disagreement"].is_monotonic_decreasing
    cell = next(predicted(predictions, "test"))
    row = found[found["configuration"] == cell.cell[2]].set_index("id").loc["row 5"]
    own = cell.answers[:, list(cell.ids).index("row 5")]
    most = np.bincount(own).max()
    assert row["flip_rate"] == pytest.approx(1 - most / len(own))
    assert row["right"] == pytest.approx(np.mean(np.array(cell.classes)[own] == row["label"]))
    table = flips_table(found)
    assert len(table.body) == 10
    assert f"disagree in {(found['disagreement'] > 0).sum()} of {3 * EXAMPLES}" in table.caption


def test_runs_passed_as_predictions_are_refused(predictions, stored_runs):
    with pytest.raises(ValueError, match="these are runs: load_predictions"):
        flips(stored_runs)
    with pytest.raises(ValueError, match="these are predictions: load_runs"):
        agreement(stored_runs, predictions)


def test_an_empty_table_says_why(predictions):
    """Regression: where all seeds agreed, the report said that there were no runs."""
    logits = ["logit_no", "logit_so", "logit_yes"]
    first = predictions.groupby("id")[logits].transform("first")
    agreed = predictions.assign(**{name: first[name] for name in logits})
    assert flips_table(flips(agreed)).caption == "All seeds agree on every example."
    one = predictions[predictions["seed"] == 0]
    assert flips_table(flips(one)).caption == "Only one seed answered each example."
    assert flips_table(flips(predictions.iloc[:0])).caption == "There are no runs yet."
    nothing = "No cell has predictions of a classification task."
    assert ensembles_table(ensembles(predictions.iloc[:0])).caption == nothing


def test_ensembles_of_varying_seeds_gain(predictions):
    found = ensembles(predictions).set_index(["configuration", "k"])
    row = found.loc[("Standard", 3)]
    assert (row["n"], row["examples"], row["left_out"]) == (6, EXAMPLES, 0)
    assert row["mean_gain"] == pytest.approx(row["mean_accuracy"] - row["single"])
    assert row["mean_low"] < row["mean_gain"] < row["mean_high"]
    assert row["mean_gain"] > found.loc[("Mixout(0.1)", 3), "mean_gain"]
    assert found.loc[("ReinitTop(2)", 3), "reason"] == "n_too_small"
    table = ensembles_table(found.reset_index())
    assert len(table.body) == 3
    gain = table.body[[row[0] for row in table.body].index("Standard")]
    assert gain[table.header.index("Gain of 3, mean")].startswith("+")
    assert gain[table.header.index("Gain of 5, mean")] == "–"


@pytest.mark.parametrize("metric", [*OF_ANSWERS, *OF_PROBABILITIES])
def test_another_metric_of_the_same_runs(predictions, metric):
    found = rescored(predictions, metric).set_index("key")
    for key, part in predictions[predictions["split"] == "test"].groupby("key"):
        logits = part[["logit_no", "logit_so", "logit_yes"]].to_numpy(float)
        given, gold = np.array(["no", "so", "yes"])[logits.argmax(axis=1)], part["label"]
        if metric == "log_loss":
            wanted = sk.log_loss(gold, np.exp(logits) / np.exp(logits).sum(axis=1)[:, None])
        elif metric in THEIRS:
            wanted = THEIRS[metric](gold, given)
        else:
            wanted = found.loc[key, "test"]  # held against hand-worked values elsewhere
        assert found.loc[key, "test"] == pytest.approx(wanted, rel=1e-6)
    if metric != "calibration_error":
        better = found["test"] > found["test_floor"]
        assert (better == found["higher_is_better"]).all()


VALUES = {
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
    "mae": sk.mean_absolute_error,
    "pearson": lambda gold, given: stats.pearsonr(gold, given).statistic,
    "spearman": lambda gold, given: stats.spearmanr(gold, given).statistic,
}


@pytest.mark.parametrize("metric", OF_VALUES)
def test_another_metric_of_values(tmp_path, metric):
    frame = other_kinds(tmp_path)
    values = frame[(frame["task"] == "regression") & (frame["split"] == "test")]
    found = rescored(frame, metric).set_index("key")
    assert set(found.index) == set(values["key"])
    for key, part in values.groupby("key"):
        gold, given = part["label"].astype(float), part["value"]
        assert found.loc[key, "test"] == pytest.approx(VALUES[metric](gold, given))
        constant = np.full(len(gold), gold.median() if metric == "mae" else gold.mean())
        floor = 0.0 if metric in ("pearson", "spearman") else VALUES[metric](gold, constant)
        assert found.loc[key, "test_floor"] == pytest.approx(floor)
    assert (found["higher_is_better"] == (metric in ("pearson", "spearman"))).all()


def test_a_constant_run_has_a_correlation_of_zero(tmp_path):
    frame = other_kinds(tmp_path)
    frame = frame[frame["task"] == "regression"].assign(value=0.5)
    assert set(rescored(frame, "pearson")["test"]) == {0.0}
    assert rescored(frame.assign(value=np.nan), "rmse")["test"].isna().all()


def test_a_study_under_another_metric(predictions, stored_runs):
    found = rescored(predictions, "log_loss")
    runs = stored_runs.drop(columns=list(found.columns[1:])).merge(found, on="key", how="left")
    under = cells(runs).set_index("configuration")
    assert set(under["metric"]) == {"log_loss"}
    assert not under["higher_is_better"].any()
    assert under.loc["Standard", "diverged"] == 1
    own = found[
        found["key"].isin(predictions.loc[predictions["configuration"] == "Standard", "key"])
    ]
    floor = found["test_floor"].iloc[0]
    assert under.loc["Standard", "test_mean"] == pytest.approx((own["test"].sum() + floor) / 7)


def test_unknown_metric_is_refused(predictions):
    with pytest.raises(LookupError, match="'f2' is not one of accuracy"):
        rescored(predictions, "f2")


def test_seeds_and_examples_against_the_baseline(predictions, stored_runs):
    found = seeds_and_examples(predictions, stored_runs).set_index("configuration")
    assert list(found.index) == ["Mixout(0.1)", "ReinitTop(2)"]
    means = stored_runs.groupby("configuration")["test"].mean()
    assert found.loc["Mixout(0.1)", "paired"]
    assert not found.loc["ReinitTop(2)", "paired"]
    for label, row in found.iterrows():
        assert row["difference"] == pytest.approx(means[label] - means["Standard"])
        assert row["both_low"] <= row["seeds_low"] <= row["difference"] <= row["both_high"]
    smaller = found["p"].min()
    assert found["p_holm"].min() == pytest.approx(2 * smaller)
    assert "paired" in to_text(seeds_and_examples_table(found.reset_index()))


def test_order_of_rows_does_not_matter(predictions, stored_runs):
    moved = predictions.sample(frac=1, random_state=1)
    pairs = [(agreement, ()), (flips, ()), (ensembles, ()), (seeds_and_examples, (stored_runs,))]
    for frame, more in pairs:
        pd.testing.assert_frame_equal(frame(predictions, *more), frame(moved, *more))


def test_other_cells_do_not_matter(predictions):
    alone = predictions[predictions["configuration"] == "Standard"]
    for frame in (agreement, ensembles):
        whole = frame(predictions)
        own = whole[whole["configuration"] == "Standard"].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, frame(alone))


def test_tables_and_figures(predictions, stored_runs):
    found = agreement(predictions, stored_runs)
    table = agreement_table(found)
    text = to_text(table)
    assert "6 of 7" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "clean_kappa_low" in to_csv(table)
    matrix = disagreements(predictions)[("terms", "minilm", "Standard")]
    assert list(matrix.index) == [str(seed) for seed in range(6)]
    assert "two seeds differ, %" in to_svg(plot_disagreement(matrix), "a")
    own = flips(predictions).query("configuration == 'Standard'")
    assert f"{EXAMPLES} test examples" in to_svg(plot_flips(own), "b")


def test_no_predictions_give_empty_frames():
    nothing = pd.DataFrame(
        columns=["key", "task", "model", "configuration", "stage", "seed", "split"]
    )
    for frame, table in (
        (agreement, agreement_table),
        (flips, flips_table),
        (ensembles, ensembles_table),
    ):
        assert frame(nothing).empty
        assert table(frame(nothing)).body == ()
    assert rescored(nothing, "accuracy").empty
    assert disagreements(nothing) == {}


def test_malformed_predictions_are_refused(predictions, stored_runs):
    with pytest.raises(LookupError, match=r"no cell terms/minilm/ReinitTop\(2\)"):
        agreement(predictions, stored_runs[stored_runs["configuration"] != "ReinitTop(2)"])
    with pytest.raises(ValueError, match="no column 'label'"):
        agreement(predictions.drop(columns="label"))
    with pytest.raises(ValueError, match="more than once"):
        agreement(pd.concat([predictions, predictions.iloc[60:70]]))
    other = predictions.copy()
    other.loc[other.index[70], "label"] = "yes" if other["label"].iloc[70] != "yes" else "no"
    with pytest.raises(ValueError, match="two labels"):
        flips(other)
