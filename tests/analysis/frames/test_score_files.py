import json
from functools import cache

import numpy as np
import pandas as pd
import pytest

from analysis import caveats, cells, cells_table, example_runs, read_scores, write_report
from analysis.cli import default_folder, main, print_table
from analysis.frames.columns import COLUMNS
from analysis.frames.runs import ScoreFileError
from analysis.report.paper_table import paper_table
from tests.analysis.oracles import oracle

PLAIN = """\
task,model,technique,seed,dev,test,metric,seconds,memory
rte,bert,Standard,0,0.71,0.70,accuracy,30,1e9
rte,bert,Standard,1,0.69,0.68,accuracy,31,1e9
rte,bert,Mixout,0,0.72,0.71,accuracy,40,1e9
rte,bert,Mixout,1,,,accuracy,,
cola,bert,Standard,0,nan,nan,mcc,30,1e9
"""
AMLB = """\
id,task,framework,constraint,fold,type,result,metric,mode,version,duration,seed,info
openml.org/t/3913,kc2,RandomForest,1h8c,0,binary,0.8658,auc,local,1.2,3.2,2633845682,
openml.org/t/3913,kc2,RandomForest,1h8c,1,binary,,auc,local,1.2,3.1,2633845683,Error: out of memory
openml.org/t/3913,kc2,RandomForest,4h8c,0,binary,0.8701,auc,local,1.2,9.9,2633845684,
openml.org/t/2079,eucalyptus,flaml,1h8c,0,multiclass,-0.702976,neg_logloss,local,2,611.0,13,
"""
WANDB = """\
"Name","Agent","State","Notes","User","Tags","Created","Runtime","Sweep","lr","method","seed","acc"
"brave-sun-1","","finished","-","","","2025-11-13T09:48:11.000Z","99","","2e-5","lora","0","0.81"
"calm-sea-2","","crashed","-","","","2025-11-13T09:34:15.000Z","59","","2e-5","lora","1","0.42"
"red-fog-3","","finished","-","","","2025-11-13T09:21:36.000Z","98","","3e-5","lora","0","NaN"
"""
TABM = """\
task,technique,seed,metric,dev_score,test_score,seconds,parameters,device
adult,mlp,0,accuracy,0.859665,0.855353,14.3,525602,A100
house,mlp,0,negative_rmse,-3.1,-3.2,14.3,525602,A100
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="scores.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def mistakes_of(path, columns=None, **more):
    with pytest.raises(ScoreFileError) as error:
        read_scores(path, columns, **more)
    return error.value.mistakes


def test_every_row_of_a_table_becomes_a_run(written):
    runs = read_scores(written(PLAIN))
    assert list(runs.columns) == COLUMNS
    assert len(runs) == 5
    first = runs[(runs["technique"] == "Mixout") & (runs["seed"] == 0)].iloc[0]
    assert (first["dev"], first["test"], first["seconds"], first["peak_memory_bytes"]) == (
        *(0.72, 0.71, 40.0, 1e9),
    )
    assert set(runs["study"]) == {"scores"}


def test_empty_score_is_missing_and_non_finite_score_is_diverged(written):
    runs = read_scores(written(PLAIN)).set_index(["task", "technique", "seed"])
    assert runs.loc[("rte", "Mixout", 1), "outcome"] == "missing"
    assert runs.loc[("cola", "Standard", 0), "outcome"] == "diverged"
    for text in ("inf", "-Infinity", "NaN"):
        changed = PLAIN.replace("0.71,0.70", f"0.71,{text}")
        row = read_scores(written(changed)).query("task == 'rte' and technique == 'Standard'")
        assert list(row["outcome"]) == ["diverged", "completed"]
        assert np.isnan(row["dev"].iloc[0])


def test_all_mistakes_are_reported_together_by_row_and_column(written):
    wrong = PLAIN.replace("0.69,0.68", "0.69,good").replace("rte,bert,Mixout,0", ",bert,Mixout,0.5")
    wrong = wrong.replace("technique", "tecnique") + "rte,bert,Standard,0,0.7,0.7,accuracy,x,1\n"
    found = "\n".join(mistakes_of(written(wrong), {"metric": "metrik"}, lower_is_better=["auc"]))
    for part in (
        "no column 'technique'",
        "Did you mean 'tecnique'?",
        "no column 'metrik' for the metric",
        "Did you mean 'metric'?",
        "row 2, test: 'good', the test is not a number",
        "row 3, task: '', the task is empty",
        "row 3, seed: '0.5', the seed is not an integer",
        "row 6, seconds: 'x', the seconds is not a number",
        "no run has the metric 'auc'",
    ):
        assert part in found


def test_duplicate_runs_are_rejected(written):
    twice = PLAIN + "rte,bert,Standard,0,0.5,0.5,accuracy,1,1\n"
    assert mistakes_of(written(twice)) == [
        "scores.csv: rows 1, 6 are the same run: rte/bert/Standard, seed 0. Name the column "
        "that distinguishes them with --configuration."
    ]
    # a distinguishing column as a setting makes it another configuration
    runs = read_scores(written(twice), {"configuration": "seconds"})
    assert "Standard(seconds=30)" in set(runs["configuration"])


def test_without_seeds_every_run_gets_its_own(written):
    text = "task,technique,test\nrte,A,0.5\nrte,B,0.5\nrte,A,0.6\n"
    runs = read_scores(written(text))
    assert sorted(runs["seed"]) == [0, 1, 2]
    assert set(runs["model"]) == {"unnamed"}


def test_without_dev_scores_runs_are_not_missing(written):
    text = "task,technique,test\nrte,A,0.60\nrte,A,0.62\nrte,A,nan\nrte,A,\n"
    row = cells(read_scores(written(text))).iloc[0]
    assert (row["asked"], row["finished"], row["missing"], row["diverged"]) == (4, 3, 1, 1)
    assert row["failure_rate"] == pytest.approx(1 / 3)


def test_failed_run_without_a_floor_is_reported_as_left_out(written):
    text = "task,technique,dev,test\nrte,A,0.6,0.60\nrte,A,0.6,0.62\nrte,A,0.5,nan\n"
    left_out = "and is excluded if that is unknown"
    runs = read_scores(written(text))
    found = cells(runs)
    assert (found["finished"].item(), found["test_n"].item()) == (3, 2)
    caption = cells_table(found).caption
    assert (
        f"{left_out}; some were excluded here, so test statistics use fewer than n runs." in caption
    )
    assert (
        left_out in paper_table(read_scores(written(text)), "technique", "task", cell="n").caption
    )
    floored = text.replace("\n", ",0.5\n").replace("test,0.5", "test,floor")
    found = cells(read_scores(written(floored)))
    assert (found["test_n"].item(), found["test_mean"].item()) == (3, pytest.approx(1.72 / 3))
    assert "as here" not in cells_table(found).caption


def test_one_text_for_all_rows(written):
    runs = read_scores(
        written("who,acc\nA,0.5\nB,0.6\n"), {"task": "=rte", "technique": "who", "test": "acc"}
    )
    assert list(runs["task"]) == ["rte", "rte"]
    assert runs["dev"].isna().all()


@pytest.mark.parametrize(
    ("metric", "lower", "higher_is_better"),
    [
        ("accuracy", [], True),
        ("rmse", [], False),
        ("Log Loss", [], False),
        ("negative_rmse", [], True),
        ("minutes", ["minutes"], False),
    ],
)
def test_direction(metric, lower, higher_is_better, written):
    score = -0.5 if metric.startswith("neg") else 0.5
    text = f"task,technique,test,metric\nrte,A,{score},{metric}\n"
    runs = read_scores(written(text), lower_is_better=lower)
    assert list(runs["higher_is_better"]) == [higher_is_better]


def test_baseline_is_renamed_to_standard(written):
    text = "task,technique,test\nrte,A,0.5\nrte,B,0.5\n"
    runs = read_scores(written(text), baseline="B")
    assert set(runs["configuration"]) == {"A", "Standard (B)"}
    assert set(runs["technique"]) == {"A", "Standard"}
    assert "no run has the baseline 'mlp'" in mistakes_of(written(text), baseline="mlp")[0]


def test_amlb(written):
    runs = read_scores(written(AMLB, "results.csv"))
    assert list(runs["outcome"]).count("missing") == 1
    assert "RandomForest(constraint=1h8c)" in set(runs["configuration"])
    row = runs[runs["task"] == "eucalyptus"].iloc[0]
    assert (row["test"], row["higher_is_better"], row["seconds"]) == (-0.702976, True, 611.0)
    assert sorted(runs.loc[runs["task"] == "kc2", "seed"]) == [0, 0, 1]


def test_a_wandb_export(written):
    columns = {"task": "=rte", "technique": "method", "test": "acc", "configuration": "lr"}
    runs = read_scores(written(WANDB), columns).set_index(["configuration", "seed"])
    assert runs["outcome"].to_dict() == {
        ("lora(lr=2e-5)", 0): "completed",
        ("lora(lr=2e-5)", 1): "missing",  # it crashed, although it had logged a score
        ("lora(lr=3e-5)", 0): "diverged",
    }
    assert np.isnan(runs.loc[("lora(lr=2e-5)", 1), "test"])
    assert runs.loc[("lora(lr=2e-5)", 0), "seconds"] == 99
    assert "no column 'technique'" in "".join(
        mistakes_of(written(WANDB), {"task": "=rte", "test": "acc"})
    )


def test_tabm(written):
    runs = read_scores(written(TABM))
    assert runs["dev"].tolist() == [0.859665, -3.1]
    assert runs["higher_is_better"].all()


def peft_result(seed, status="success", **scores):
    """The parts of a result of peft's method comparison that are read."""
    metrics = [{"step": 250, "valid accuracy": 0.1}, {"step": 500, "valid accuracy": 0.4}]
    return json.dumps(
        {
            "run_info": {
                "experiment_name": "lora/llama-3.2-3B-rank32",
                "train_config": {"model_id": "meta-llama/Llama-3.2-3B", "seed": seed},
                "peft_config": {"peft_type": "LORA"},
                "error_msg": "",
            },
            "train_info": {
                "accelerator_memory_max": 21458059264,
                "train_time": 1194.9,
                "status": status,
                "metrics": [*metrics, {"step": 500, "train loss": 0.6, **scores}],
            },
            "meta_info": {"system_info": {"accelerator": "L40S"}},
        }
    )


def test_peft(written, tmp_path):
    written(peft_result(0, **{"test accuracy": 0.34}), "MetaMathQA/results/a.json")
    written(peft_result(1, status="failed"), "MetaMathQA/results/b.json")
    runs = read_scores(tmp_path / "MetaMathQA" / "results").set_index("seed")
    assert runs["outcome"].to_dict() == {0: "completed", 1: "missing"}
    row = runs.loc[0]
    assert (row["task"], row["technique"], row["dev"], row["test"]) == (
        *("MetaMathQA", "LORA", 0.4, 0.34),
    )
    assert row["model"] == "meta-llama/Llama-3.2-3B"
    assert row["peak_memory_bytes"] == 21458059264
    written("{}", "MetaMathQA/results/c.json")
    written("{", "MetaMathQA/results/d.json")
    found = mistakes_of(tmp_path / "MetaMathQA" / "results")
    assert found[0] == "c.json is not a result of peft's method comparison."
    assert found[1].startswith("d.json cannot be read: ")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_runs_of_a_report_round_trip(ending, runs, tmp_path):
    write_report(runs, pd.DataFrame(), tmp_path)
    again = read_scores(tmp_path / f"runs.{ending}")
    pd.testing.assert_frame_equal(cells(again), cells(runs))
    assert again["dirty"].tolist() == [False] * len(runs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a table"),
        ("task,technique,test\n", "has no rows"),
        ("a,b\n1\n2,3,4\n", ""),
    ],
)
def test_invalid_table(text, message, written):
    assert message in " ".join(mistakes_of(written(text)))


def test_missing_file():
    assert mistakes_of("no such file.csv") == ["there is no file 'no such file.csv'."]


def test_binary_file(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_bytes(b"task,technique,test\n\xff\xfe,\x00,1\n")
    assert "scores.csv cannot be read as a table" in mistakes_of(path)[0]


def test_example_runs_match_their_readme():
    runs = example_runs()
    assert runs.groupby(["task", "model"]).size().tolist() == [20] * 84
    assert runs["task"].nunique() == 21
    assert (runs["outcome"] == "completed").all()
    assert runs["seed"].is_unique  # none is shared, so that nothing may be paired


@cache
def example_cells():
    return cells(example_runs()).set_index("task")


@oracle("real_scores")
def test_example_runs_have_the_published_means(inputs, check):
    own = example_cells().loc[inputs["task"]].set_index("model")
    check(mean=dict(own["test_mean"]), sd=dict(own["test_sd"]))


def test_the_command_writes_a_report(written, tmp_path, capsys):
    assert main([str(written(PLAIN)), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.html").exists()
    assert str(tmp_path / "out") in capsys.readouterr().out


def test_command_reports_mistakes(written, capsys):
    assert main([str(written(PLAIN)), "--test", "tset"]) == 2
    error = capsys.readouterr().err
    assert "no column 'tset' for the test" in error
    assert "Traceback" not in error


def scored(name, *scores):
    rows = "".join(f"rte,A,{seed},{score},{name}\n" for seed, score in enumerate(scores))
    return "task,technique,seed,test,metric\n" + rows


def test_an_unknown_direction_must_be_told(written):
    path = written(scored("minutes", 3, 4))
    assert mistakes_of(path) == [
        "scores.csv: whether higher or lower 'minutes' is better is unknown: say "
        "--higher-is-better 'minutes' or --lower-is-better 'minutes'."
    ]
    runs = read_scores(path, higher_is_better=["minutes"])
    assert set(runs["higher_is_better"]) == {True}
    assert set(runs["direction_from"]) == {"as told"}
    both = {"higher_is_better": ["minutes"], "lower_is_better": ["minutes"]}
    assert "cannot be both" in mistakes_of(path, **both)[0]


def test_the_direction_says_where_it_comes_from(written):
    assert set(read_scores(written(scored("mse", 3, 4)))["direction_from"]) == {"by its name"}
    runs = read_scores(written("task,technique,test\nrte,A,0.5\n"))
    assert runs["direction_from"].item() == "assumed, no metric is named"


def test_the_test_column_names_the_metric(written):
    path = written("task,technique,eval_loss\nrte,A,0.5\nrte,B,0.4\n")
    runs = read_scores(path, {"test": "eval_loss"})
    assert set(runs["metric"]) == {"eval_loss"}
    assert not runs["higher_is_better"].any()


@pytest.mark.parametrize(
    ("metric", "score", "words"),
    [("rmse", -0.5, "an error"), ("neg_log_loss", 0.5, "a negated error")],
)
def test_an_error_with_the_wrong_sign_is_refused_until_told(metric, score, words, written):
    path = written(scored(metric, score, 2 * score))
    assert f"'{metric}' is {words} by its name, but 2 of its scores are" in mistakes_of(path)[0]
    assert read_scores(path, higher_is_better=[metric])["higher_is_better"].all()


def test_seeds_are_exact(written):
    seeds = [2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
    rows = "".join(f"rte,A,{seed},0.5\n" for seed in seeds)
    runs = read_scores(written("task,technique,seed,test\n" + rows))
    assert sorted(runs["seed"].tolist()) == sorted(seeds)
    found = mistakes_of(written(f"task,technique,seed,test\nrte,A,{2**63},0.5\nrte,A,nan,0.5\n"))
    assert [text.partition("seed: ")[2] for text in found] == [
        "'9223372036854775808', the seed is not an integer of 64 bits.",
        "'nan', the seed is not an integer of 64 bits.",
    ]


def test_nulls_of_parquet(tmp_path):
    frame = pd.DataFrame(
        {"task": "rte", "technique": ["A", "A", "B", "B"], "seed": [0, 1, 0, 1]}
    ).assign(test=[0.6, None, 0.7, 0.71], status=["finished", None, "finished", None])
    path = tmp_path / "scores.parquet"
    frame.to_parquet(path)
    runs = read_scores(path).set_index(["technique", "seed"])
    assert runs["outcome"].to_dict() == {
        **{("A", 0): "completed", ("A", 1): "missing"},
        **{("B", 0): "completed", ("B", 1): "completed"},
    }
    frame.assign(seed=[0, 1, 0, None], model=["a", "b", "a", None]).to_parquet(path)
    assert mistakes_of(path) == [
        "scores.parquet: row 4, model: '', the model is empty.",
        "scores.parquet: row 4, seed: '', the seed is empty.",
    ]


def test_a_file_may_have_dev_scores_alone(written):
    runs = read_scores(written("task,technique,dev\nrte,A,0.5\nrte,B,0.6\n"))
    assert runs["dev"].tolist() == [0.5, 0.6]
    assert runs["test"].isna().all()
    assert "for the test" in mistakes_of(written("task,technique\nrte,A\n"))[0]


def test_booleans_of_a_report_in_capitals(runs, tmp_path):
    """Spreadsheets write TRUE and FALSE."""
    write_report(runs, pd.DataFrame(), tmp_path)
    path = tmp_path / "runs.csv"
    path.write_text(path.read_text().replace("True", "TRUE").replace("False", "FALSE"))
    again = read_scores(path)
    assert again["higher_is_better"].tolist() == runs["higher_is_better"].tolist()
    path.write_text(path.read_text().replace("TRUE", "yes"))
    assert "row 1, higher_is_better: 'yes', this is not True or False." in mistakes_of(path)[0]


def test_files_of_two_years_have_two_folders():
    assert default_folder("x/results.2024.csv") != default_folder("x/results.2025.csv")
    assert str(default_folder("scores.CSV")) == "scores-report"


COLLAPSING = """\
task,technique,seed,dev,test,metric
rte,Standard,0,0.53,0.52,accuracy
rte,Standard,1,0.70,0.71,accuracy
rte,Mixout,0,0.545,0.55,accuracy
rte,Mixout,1,0.69,0.70,accuracy
"""


def test_with_a_floor_runs_collapse_by_the_rule_of_own_runs(written):
    """Nine runs at the floor of 149 were reported as none that failed."""
    path = written(COLLAPSING)
    assert not read_scores(path)["collapsed"].any()
    by_score = read_scores(path, {"floor": "=0.53"})
    assert by_score.loc[by_score["collapsed"], ["technique", "seed"]].values.tolist() == [
        ["Standard", 0]  # Mixout is 1.5 points above
    ]
    assert set(by_score["collapse_rule"]) == {"at_floor", ""}
    # with 277 dev rows two standard errors are 2 * sqrt(0.53 * 0.47 / 277) = 0.060
    sized = read_scores(path, {"floor": "=0.53", "dev_rows": "=277"})
    assert sized.loc[sized["collapsed"], "seed"].tolist() == [0, 0]


def test_without_dev_scores_the_test_score_decides_on_collapse(written):
    path = written(COLLAPSING.replace(",dev", ",unused"))
    runs = read_scores(path, {"floor": "=0.53"})
    assert runs.loc[runs["collapsed"], "technique"].tolist() == ["Standard"]


def test_an_error_collapses_above_its_floor(written):
    text = "task,technique,seed,test,metric\nsts,A,0,2.3,rmse\nsts,A,1,1.1,rmse\n"
    runs = read_scores(written(text), {"floor": "=2.31"})
    assert runs["collapsed"].tolist() == [True, False]


def test_the_page_says_how_far_failures_are_known(written, tmp_path):
    """`None of 149 runs failed` where the file cannot tell."""
    low = "".join(f"rte,Standard,{seed},0.5{seed},accuracy\n" for seed in range(2))
    high = "".join(f"rte,Standard,{seed},0.7{seed},accuracy\n" for seed in range(2, 9))
    high += "".join(f"rte,Standard,{seed},0.7{seed - 8},accuracy\n" for seed in range(9, 18))
    path = written("task,technique,seed,test,metric\n" + low + high)

    def page(*more):
        assert main([str(path), "--out", str(tmp_path / "out"), *more]) == 0
        return (tmp_path / "out" / "report.html").read_text()

    unknown = page()
    assert "runs diverged; whether any collapsed is unknown" in unknown
    assert "finished runs failed" not in unknown
    assert "two groups in Standard (2 at 50.0 to 51.0, 16 at 71.0 to 79.0)" in unknown
    known = page("--floor", "=0.505")
    assert "Failed: Standard (2 collapsed of 18 runs)." in known
    assert "Collapsed runs were identified by their score alone: rte." in known
    assert "two groups" not in known


def test_every_page_states_the_direction_and_where_it_comes_from(written, tmp_path, capsys):
    for metric, score, told, stated in (
        ("rmse", 2, [], "rmse (lower is better, by its name"),
        ("minutes", 2, ["--lower-is-better", "minutes"], "minutes (lower is better, as told"),
        ("", 0.5, [], "score (higher is better, assumed, no metric is named"),
    ):
        path = written(scored(metric, score, score + 0.1))
        assert main([str(path), "--out", str(tmp_path / "out"), *told]) == 0
        assert stated in (tmp_path / "out" / "report.html").read_text()
        capsys.readouterr()
        assert print_table([str(path), *told], "table") == 0
        assert stated in " ".join(capsys.readouterr().out.split())


def test_units_that_leave_sections_out_are_told(written):
    percent = caveats(read_scores(written(scored("accuracy", 61, 62))))
    assert "Scores in per cent were divided by 100: rte." in " ".join(percent)
    own = " ".join(caveats(read_scores(written(scored("score", 61, 62)))))
    assert "Scores are not shares: rte (score); means over tasks" in own
    assert "Scores in per cent count as shares if --metric names one" in own
