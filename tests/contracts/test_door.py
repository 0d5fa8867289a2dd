"""MLflow, the only interface between `study` and `analysis`: runs are read as written, once."""

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest

from analysis import load_curves, load_predictions, load_runs, load_settings
from analysis.frames.columns import SKILL, seeds_of
from analysis.frames.load import find_run, load_links, studies
from study import LayerwiseDecay, Recipe, Restarts, Seeds, Standard, Study
from study.core.lock import StudyLockedError
from study.core.paths import Home
from study.core.spec import SpecError
from study.models.loading import Loaded
from study.planning.runs import run_from
from study.planning.stages import CellPlan
from study.planning.study import Configuration
from study.tracking.entry import Entry, entry_of
from study.tracking.outbox import Outbox
from study.tracking.store import Store, StoreGoneError
from study.tracking.writer import TrackingWriter
from study.training.frozen_base import FrozenBase
from study.training.result import packed
from study.training.train import train
from tests.conftest import CPU


@pytest.fixture
def study(task, model):
    return Study(
        name="door",
        tasks=[task.replace(task_type="pairs of texts")],
        models=[model],
        recipe=Recipe(lr=3e-3, epochs=2, batch_size=8),
        techniques=[Standard(), LayerwiseDecay(rate=0.5)],
        seeds=range(3),
    )


@pytest.fixture
def outcomes(study, prepared, loaded: Loaded):
    return {
        run: train(run.setting(prepared.kind), prepared.splits, loaded, CPU)[0]
        for run in study.runs()[:5]
    }


def put(tracking: TrackingWriter, outcomes, data) -> None:
    for run, outcome in outcomes.items():
        result = packed(outcome, data, started=100.0, ended=101.5)
        tracking.put(entry_of(run, result, faults=()), result.predictions)


def entry(run, outcome, data) -> Entry:
    return entry_of(run, packed(outcome, data, started=100.0, ended=101.5), faults=())


def opened(home: Home, study: Study) -> TrackingWriter:
    return TrackingWriter(home, study, Path("door.py"))


def test_written_runs_are_loaded_unchanged(home, study, outcomes, prepared):
    tracking = opened(home, study)
    layers = {"trained/depth_00": [0.5, 0.25], "trained/depth_01": [1.0, 0.0]}
    outcomes = {run: replace(one, curves=one.curves | layers) for run, one in outcomes.items()}
    put(tracking, outcomes, prepared)
    assert tracking.close(20) == 0
    frame = load_runs("door", home.uri).set_index("key")
    assert studies(home.uri) == ["door"]
    assert list(frame["outcome"]).count("missing") == 1
    for run, outcome in outcomes.items():
        row = frame.loc[run.key]
        assert (row["dev"], row["test"]) == (outcome.dev, outcome.test)
        assert row["dev_floor"] == 0.5
        assert row["collapsed"] == bool(outcome.collapsed)
        assert (row["task"], row["configuration"]) == ("pairs", run.cell.label)
        assert row["task_type"] == "pairs of texts"
        assert (row["head"], row["seed"]) == (run.seed.head, run.seed.head)
        assert row["train_rows"] == 32
    curves = load_curves("door", home.uri)
    first = study.runs()[0]
    own = curves[curves["key"] == first.key]
    found_curves = {name: list(part["value"]) for name, part in own.groupby("name")}
    assert found_curves == outcomes[first].curves
    assert own.groupby("name")["epoch"].agg(list).tolist() == [[1, 2]] * 4
    predictions = load_predictions("door", home.uri)
    part = predictions[(predictions["key"] == first.key) & (predictions["split"] == "test")]
    logits = part[["logit_no", "logit_yes"]].to_numpy(np.float32)
    assert np.array_equal(logits, outcomes[first].logits["test"])
    assert list(part["id"]) == prepared.splits["test"].ids
    found = find_run(first.key[:10], home.uri)
    assert run_from(found["spec"]).key == first.key


def test_the_writer_and_the_reader_have_the_same_names():
    from analysis.frames import columns
    from study.core.seeding import Seed
    from study.models.model import FACTS
    from study.tracking import schema

    for name in [
        *("KIND", "CELL_KIND", "RUN_KIND", "KEY", "CELL", "STAGE", "SEEDS", "IN_STUDY", "NAME"),
        *("MODEL_FACT", "COLLAPSE_RULE", "DEV_FLOOR", "RUN_JSON", "PREDICTIONS"),
    ]:
        assert getattr(columns, name) == getattr(schema, name), name
    assert tuple(columns.STREAMS) == schema.STREAMS == Seed._fields
    assert tuple(columns.FACTS) == FACTS
    assert {*columns.CELL_TEXT, *columns.PROTOCOL} <= {*schema.CELL_TAGS}
    text = {*columns.RUN_TEXT} - {"collapse_rule"} | {columns.COLLAPSE_RULE}
    assert text | {*columns.RUN_COUNTS} <= {*schema.RUN_TAGS}
    assert {*columns.RUN_NUMBERS} <= {*schema.RUN_METRICS}


def test_the_store_has_the_names_of_the_schema(home, study, outcomes, prepared):
    from mlflow import MlflowClient

    from study.tracking import schema

    tracking = opened(home, study)
    run, outcome = next(iter(outcomes.items()))
    skill = dict.fromkeys((schema.BEFORE, schema.AFTER, schema.RETAINED), "text@8.perplexity")
    facts = {f"{prefix}{name}": 0.9 for prefix, name in skill.items()}
    facts |= {"retained": 0.9, "base_unchanged": 1.0}
    base = FrozenBase("0" * 64, unchanged=True)
    outcome = replace(outcome, facts=outcome.facts | facts, base=base)
    options = {"started": 100.0, "ended": 101.5, "resumed": True, "not_kept": "the disk is full"}
    options["memory_savers"] = "gradient_checkpointing"
    result = packed(outcome, prepared, **options)
    tracking.put(entry_of(run, result, faults=[("machine", 2)]), result.predictions)
    missing = next(r for r in study.runs() if r.cell == run.cell and r.key != run.key)
    tracking.note_missing(missing, "out of memory")
    assert tracking.close(20) == 0
    client = MlflowClient(tracking_uri=home.uri)

    def own(names):
        return {name for name in names if not name.startswith(("mlflow.", schema.MODEL_FACT))}

    number = client.get_experiment_by_name("door").experiment_id
    (child,) = client.search_runs([number], schema.RUNS)
    optional = {schema.COMMIT, schema.DIRTY}  # where the study file is in a repository
    assert own(child.data.tags) | optional == {*schema.RUN_TAGS}
    assert child.data.params.keys() == {*schema.PARAMETERS}
    curves = {name for name in child.data.metrics if schema.CURVE in name}
    assert curves == {"train/loss", "dev/accuracy"}
    skills = {f"{prefix}text_8.perplexity" for prefix in skill}
    assert child.data.metrics.keys() - curves == {*schema.RUN_METRICS} | skills
    assert (*skill,) == (*SKILL.values(),)
    files = {file.path for file in client.list_artifacts(child.info.run_id)}
    assert files == {schema.RUN_JSON, schema.PREDICTIONS}
    parents = {run.info.run_id: run for run in client.search_runs([number], schema.CELLS)}
    tags = parents[child.data.tags[schema.PARENT]].data.tags
    assert own(tags) == {*schema.CELL_TAGS}
    assert {f"{schema.MODEL_FACT}family", schema.NOTE, schema.SOURCE, schema.NAME} <= {*tags}


def test_what_is_recommended_can_be_pasted(home, study, outcomes, prepared, capsys, monkeypatch):
    from study.cli.parser import run_command

    tracking = opened(home, study)
    sound = {run: replace(outcome, collapsed=[]) for run, outcome in outcomes.items()}
    put(tracking, sound, prepared)
    tracking.close(20)
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    assert run_command(["recommend", "door", "--max-memory", "64GiB", "--prefer", "score"]) == 0
    said = capsys.readouterr().out
    assert "If one must be taken now: " in said
    assert " (test accuracy" in said
    assert "caveat: Fewer than 5 seeds: in every cell. " in said
    assert said.splitlines()[-1].startswith("all caveats: ")
    lines = "".join(line.strip() for line in said.splitlines() if line.startswith("  "))
    names = {"Recipe": Recipe, "LayerwiseDecay": LayerwiseDecay, "Standard": Standard}
    pasted = eval(f"dict({lines})", names)
    assert pasted["recipe"] == study.recipe
    assert pasted["techniques"][0] in (Standard(), LayerwiseDecay(rate=0.5))
    assert run_command(["recommend", "door", "--max-seconds", "0", "--json"]) == 1
    assert [row["recommended"] for row in json.loads(capsys.readouterr().out)] == [""]


def test_a_technique_of_the_users_own_is_recommended_with_its_recipe(
    home, study, outcomes, prepared, capsys, monkeypatch, tmp_path
):
    from study.cli.parser import run_command

    (tmp_path / "my_pull.py").write_text(
        "from study import Technique\n\nclass Pull(Technique):\n    rate: float = 0.1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    own = study.replace(techniques=[importlib.import_module("my_pull").Pull(rate=0.5)])
    sound = [replace(outcome, collapsed=[]) for outcome in outcomes.values()]
    tracking = opened(home, own)
    put(tracking, dict(zip(own.runs(), sound, strict=False)), prepared)
    tracking.close(20)
    assert run_command(["recommend", "door"]) == 0
    said = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert said[1:4] == [
        "# Pull is your own: from my_pull import Pull",
        "recipe=Recipe(lr=0.003, epochs=2, batch_size=8),",
        "techniques=[Pull(rate=0.5)],",
    ]


def test_a_collapsed_run_is_shown_with_the_bar_that_it_missed(
    home, study, outcomes, prepared, capsys, monkeypatch
):
    """The larger of one point and two standard errors above the floor of 0.5."""
    from study.cli.parser import run_command

    tracking = opened(home, study)
    low = {run: replace(o, dev=0.5, collapsed=["at_floor"]) for run, o in outcomes.items()}
    put(tracking, low, prepared)
    tracking.close(20)
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    run = next(iter(outcomes))
    assert run_command(["show", run.key]) == 0
    bar = 0.5 + max(0.01, 2 * (0.25 / len(run.cell.task.load().splits["dev"].ids)) ** 0.5)
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("collapsed ")]
    assert line.split(maxsplit=1)[1] == (
        "not clearly better than a constant answer: "
        f"dev accuracy 0.5 against a bar of {bar:.4g} (at_floor)"
    )


def test_settings_that_differ_from_another_study_are_named(
    home, study, outcomes, prepared, monkeypatch, tmp_path
):
    from study.cli.parser import run_command

    slower = study.replace(name="slower", recipe=study.recipe.replace(lr=1e-3, weight_decay=0.1))
    ends = zip(slower.runs()[:5], outcomes.values(), strict=True)
    for each, runs in ((study, outcomes), (slower, dict(ends))):
        tracking = opened(home, each)
        put(tracking, runs, prepared)
        tracking.close(20)
    settings = load_settings("door", home.uri)
    own = settings[settings["configuration"] == "LayerwiseDecay(0.5)"].set_index("name")["value"]
    assert (own["recipe.lr"], own["technique.rate"]) == ("0.003", "0.5")
    whole = {f"recipe.{name}" for name in type(study.recipe).model_fields}
    assert whole <= set(own.index)  # also fields at their default
    assert own["recipe.weight_decay"] == json.dumps(study.recipe.weight_decay)
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    links = load_links("door", home.uri).set_index("key")
    runs = load_runs("door", home.uri)
    finished = set(runs.loc[runs["outcome"] != "missing", "key"])
    assert finished == set(links.index)
    assert run_command(["report", "door", "--against", "slower", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    for key, link in links.iterrows():
        assert f'<a href="http://127.0.0.1:5000/{link["page"]}">{key}</a>' in page
        assert Path(urlparse(link["files"]).path, "run.json").is_file()
    assert "<dt>Recipe</dt><dd>learning rate 0.003, " in page
    assert str(home.root) not in page
    assert run_command(["report", "door", "--texts"]) == 2  # texts need the study file
    assert (
        "What differs, door first, then slower: recipe.lr 0.003, 0.001; recipe.weight_decay "
        "0.01, 0.1." in (tmp_path / "tables" / "against.md").read_text()
    )


def test_recommend_ends_with_one_if_all_runs_failed(
    home, study, outcomes, prepared, capsys, monkeypatch
):
    from study.cli.parser import run_command

    tracking = opened(home, study)
    failed = {run: replace(outcome, collapsed=["at_floor"]) for run, outcome in outcomes.items()}
    put(tracking, failed, prepared)
    tracking.close(20)
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    assert run_command(["recommend", "door"]) == 1
    assert "nothing can be recommended; all runs of " in capsys.readouterr().out


def test_blurb_task_types_agree_in_study_and_analysis():
    """The analysis does not import `study`, so both packages have the list."""
    from analysis import BLURB as KNOWN
    from study.tasks import BLURB

    assert {task.name: task.task_type for task in BLURB} == KNOWN


def test_tables_accept_an_unfinished_study(home, study, outcomes, prepared):
    from analysis import best_strategy, cells, stability

    tracking = opened(home, study)
    assert list(cells(load_runs("door", home.uri))["missing"]) == [3, 3]
    put(tracking, dict(list(outcomes.items())[:2]), prepared)
    tracking.close(20)
    frame = load_runs("door", home.uri)
    assert list(cells(frame)["missing"]) == [2, 2]
    assert len(best_strategy(frame)) == 1
    assert len(stability(frame)) >= 1


def test_cells_are_parents_with_a_summary(home, study, outcomes, prepared):
    from mlflow import MlflowClient

    tracking = opened(home, study)
    put(tracking, outcomes, prepared)
    tracking.close(20)
    client = MlflowClient(tracking_uri=home.uri)
    number = client.get_experiment_by_name("door").experiment_id
    cells = client.search_runs([number], "tags.kind = 'cell'")
    by_label = {run.data.tags["configuration"]: run for run in cells}
    assert set(by_label) == {"Standard", "LayerwiseDecay(0.5)"}
    standard = by_label["Standard"]
    scores = [o.test for run, o in outcomes.items() if run.cell.label == "Standard"]
    assert standard.data.metrics["test_mean"] == pytest.approx(np.mean(scores))
    assert standard.data.metrics["test_sd"] == pytest.approx(np.std(scores, ddof=1))
    assert standard.info.status == "FINISHED"
    assert by_label["LayerwiseDecay(0.5)"].data.metrics["missing"] == 1
    assert by_label["LayerwiseDecay(0.5)"].info.status == "KILLED"
    children = client.search_runs([number], "tags.kind = 'run'")
    parents = {run.data.tags["mlflow.parentRunId"] for run in children}
    assert parents == {run.info.run_id for run in cells}
    assert len(children[0].data.params) == 4


def test_putting_twice_writes_once(home, study, outcomes, prepared):
    tracking = opened(home, study)
    put(tracking, outcomes, prepared)
    put(tracking, outcomes, prepared)
    tracking.close(20)
    again = opened(home, study)
    put(again, outcomes, prepared)
    again.close(20)
    assert len(load_runs("door", home.uri).query("outcome == 'completed'")) == 5


def test_an_interrupted_write_is_completed(home, study, outcomes, prepared):
    """As after `kill -9`: the run is created and partly logged, and still in the outbox."""
    run, outcome = next(iter(outcomes.items()))
    tracking = opened(home, study)
    tracking.close(5)
    client = tracking._store.client
    sent = entry(run, outcome, prepared)
    half = client.create_run(
        tracking._experiment.id, tags={"kind": "run", "key": run.key, "cell": run.cell.key}
    )
    client.log_metric(half.info.run_id, "dev", sent.metrics[0][1], sent.ended, 0)
    Outbox(home.study("door") / "outbox").put(sent, b"")
    again = opened(home, study)
    assert again.close(20) == 0
    found = client.search_runs([tracking._experiment.id], f"tags.key = '{run.key}'")
    assert [r.info.run_id for r in found] == [half.info.run_id]
    assert found[0].info.status == "FINISHED"
    assert len(client.get_metric_history(half.info.run_id, "dev")) == 1


def test_an_outbox_is_drained_at_the_next_start(home, study, outcomes, prepared):
    run, outcome = next(iter(outcomes.items()))
    box = Outbox(home.study("door") / "outbox")
    box.put(entry(run, outcome, prepared), b"")
    (box.folder / ".half.partial").mkdir()
    tracking = opened(home, study)
    assert run.key in tracking.records
    assert tracking.close(5) == 0
    assert list(box.folder.iterdir()) == []


def test_a_diverged_run_has_no_scores(home, study, outcomes, prepared):
    run, outcome = next(iter(outcomes.items()))
    diverged = replace(outcome, outcome="diverged", dev=math.nan, test=math.nan, logits={})
    tracking = opened(home, study)
    tracking.put(entry(run, diverged, prepared), b"")
    tracking.close(20)
    row = load_runs("door", home.uri).set_index("key").loc[run.key]
    assert row["outcome"] == "diverged"
    assert math.isnan(row["dev"])


@pytest.mark.parametrize("name", ["C#", "why?", "%41", "ö ü"])
def test_special_characters_in_the_store_path(tmp_path, monkeypatch, name):
    """In an SQLite URI, `#` and `?` end the path, and `%41` is an A."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Home(tmp_path / name)
    Store(home.uri, home.artifacts).experiment("door")
    assert studies(home.uri) == ["door"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_runs_removed_from_the_study_file_stay_in_mlflow_but_not_in_the_frame(
    home, study, outcomes, prepared
):
    tracking = opened(home, study)
    put(tracking, outcomes, prepared)
    tracking.close(20)
    smaller = study.replace(techniques=[Standard()], seeds=range(2))
    again = opened(home, smaller)
    assert len(again.records) == 5
    again.close(5)
    frame = load_runs("door", home.uri)
    assert list(frame["configuration"]) == ["Standard", "Standard"]
    assert list(frame["seed"]) == [0, 1]


def test_the_summary_holds_the_runs_that_the_study_asks_for(home, study, outcomes, prepared):
    """With other seeds the earlier runs do not count, and missing ones are reported."""
    tracking = opened(home, study)
    put(tracking, outcomes, prepared)
    tracking.close(20)
    again = opened(home, study.replace(seeds=[2, 7, 8]))
    again.close(20)
    for run in again._store.client.search_runs([again._experiment.id], "tags.kind = 'cell'"):
        label = run.data.tags["configuration"]
        assert run.data.metrics["n"] == (1 if label == "Standard" else 0)
        assert run.data.metrics["missing"] == (2 if label == "Standard" else 3)
        assert run.info.status == "KILLED"


def test_a_diverged_run_counts_at_the_floor(home, study, outcomes, prepared):
    from analysis import cells

    runs = [run for run in outcomes if run.cell.label == "Standard"]
    tracking = opened(home, study)
    put(tracking, {run: outcomes[run] for run in runs[:2]}, prepared)
    lost = replace(outcomes[runs[2]], outcome="diverged", dev=math.nan, test=math.nan, logits={})
    tracking.put(entry(runs[2], lost, prepared), b"")
    tracking.close(20)
    values = dict(zip(("n", "diverged"), (3.0, 1.0), strict=True))
    (parent,) = tracking._store.client.search_runs(
        [tracking._experiment.id], "tags.kind = 'cell' and tags.configuration = 'Standard'"
    )
    expected = np.mean([outcomes[runs[0]].test, outcomes[runs[1]].test, 0.5])
    assert parent.data.metrics["test_mean"] == pytest.approx(expected)
    assert {name: parent.data.metrics[name] for name in values} == values
    table = cells(load_runs("door", home.uri)).set_index("configuration")
    assert table.loc["Standard", "test_mean"] == pytest.approx(expected)


def test_the_outbox_is_listed_while_it_is_emptied(home, study, outcomes, prepared):
    """The end of a study polls the outbox while the thread sends."""
    import threading

    box = Outbox(home.study("door") / "outbox")
    run, outcome = next(iter(outcomes.items()))
    sent = entry(run, outcome, prepared)
    keys = [f"{number:012x}" for number in range(300)]
    for key in keys:
        box.put(replace(sent, key=key), b"")
    emptying = threading.Thread(target=lambda: [box.remove(key) for key in keys])
    emptying.start()
    while emptying.is_alive():
        box.keys()
    emptying.join()
    assert box.keys() == []


def test_a_study_ends_while_the_status_of_a_cell_changes(home, study):
    """The end iterated over the cells while the thread added one."""
    tracking = opened(home, study)

    class Meanwhile(str):
        def __eq__(self, other):
            tracking._cells._status["another", "final"] = "RUNNING"
            return False

        __hash__ = str.__hash__

    tracking._cells._status[tracking.stages.plans[0].key] = Meanwhile("RUNNING")
    assert tracking.close(20) == 0


def test_an_entry_that_mlflow_refuses_blocks_no_other(home, study, outcomes, prepared, caplog):
    runs = list(outcomes)
    tracking = opened(home, study)
    bad = entry(runs[0], outcomes[runs[0]], prepared)
    tracking.put(replace(bad, metrics=[("exact match %", 1.0, 0)]), b"")
    put(tracking, {runs[1]: outcomes[runs[1]]}, prepared)
    assert tracking.close(20) == 1
    assert "MLflow refuses" in caplog.text
    assert tracking.waiting == [runs[0].key]  # not lost, and not trained again
    assert set(tracking.records) == {runs[1].key}


def test_errors_other_than_the_stores_reach_the_driver(home, study, outcomes, prepared):
    """A technique that refuses its recipe was retried for ever, without a message."""
    tracking = opened(home, study)
    refused = Configuration(Restarts(epochs=2), recipe=study.recipe)
    cell = study.cell(study.tasks[0], study.models[0], refused)
    tracking.add([CellPlan(cell, "final", (), "0")])
    tracking._thread.join(20)
    with pytest.raises(SpecError, match="leaves nothing to train"):
        put(tracking, dict(list(outcomes.items())[:1]), prepared)
    with pytest.raises(SpecError, match="leaves nothing to train"):
        tracking.close(20)
    again = opened(home, study)  # the run was on disk
    assert again.close(20) == 0
    assert len(again.records) == 1


def test_an_entry_of_an_unknown_cell_is_sent(home, study, outcomes, prepared):
    """The store is new, and the study file no longer has the technique."""
    run = next(run for run in outcomes if run.cell.label != "Standard")
    box = Outbox(home.study("door") / "outbox")
    box.put(entry(run, outcomes[run], prepared), b"")
    tracking = opened(home, study.replace(techniques=[Standard()]))
    assert tracking.close(20) == 0
    again = opened(home, study)
    assert run.key in again.records
    again.close(5)
    assert list(load_runs("door", home.uri)["outcome"]).count("completed") == 1


def test_a_store_named_by_the_user_is_not_recreated_either(home, study, tmp_path, monkeypatch):
    file = tmp_path / "own.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    opened(home, study).close(5)
    file.rename(tmp_path / "away.db")
    with pytest.raises(StoreGoneError):
        opened(home, study)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    opened(home, study).close(5)  # the default store never was: it is made


def test_opening_a_finished_study_writes_nothing(home, study, outcomes, prepared):
    """Opening and closing cost a write per cell, with nothing to do."""
    runs = {run: made for run, made in outcomes.items() if run.cell.label == "Standard"}
    whole = study.replace(techniques=[Standard()])
    tracking = opened(home, whole)
    put(tracking, runs, prepared)
    tracking.close(20)

    def written():
        (cell,) = tracking._store.client.search_runs(
            [tracking._experiment.id], "tags.kind = 'cell'"
        )
        history = tracking._store.client.get_metric_history(cell.info.run_id, "n")
        return cell.info.status, cell.info.end_time, [(m.timestamp, m.value) for m in history]

    before = written()
    assert before[0] == "FINISHED"
    opened(home, whole).close(20)
    assert written() == before
    more = whole.replace(seeds=range(4))
    opened(home, more).close(20)
    assert written()[0] == "KILLED"
    opened(home, whole).close(20)  # fewer seeds again: whole again
    assert written()[0] == "FINISHED"


def test_run_shared_by_two_studies_is_found_once(home, study, outcomes, prepared):
    run, outcome = next(iter(outcomes.items()))
    for name in ("door", "window"):
        tracking = opened(home, study.replace(name=name))
        put(tracking, {run: outcome}, prepared)
        tracking.close(20)
    assert find_run(run.key, home.uri)["metrics"]["test"] == outcome.test


def test_a_store_that_is_gone_is_not_recreated(home, study):
    opened(home, study).close(5)
    (home.root / "mlflow.db").rename(home.root / "elsewhere.db")
    with pytest.raises(StoreGoneError, match="is gone. Restore it"):
        opened(home, study)
    assert not (home.root / "mlflow.db").exists()


def test_another_file_at_the_stores_path_is_not_written_to(home, study, outcomes, prepared):
    tracking = opened(home, study)
    file = home.root / "mlflow.db"
    file.rename(home.root / "elsewhere.db")
    file.write_bytes(b"")
    put(tracking, outcomes, prepared)
    assert tracking.close(3) == 5
    assert file.read_bytes() == b""


def test_nothing_is_left_in_the_working_directory(home, study, tmp_path, monkeypatch):
    """MLflow creates the parent folders of what looks like a relative path."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    opened(home, study).close(5)
    load_runs("door", home.uri)
    assert list((tmp_path / "here").iterdir()) == []


def test_reading_creates_no_store(tmp_path):
    with pytest.raises(LookupError, match="no store at"):
        load_runs("door", f"sqlite:///{tmp_path / 'absent.db'}")
    assert list(tmp_path.iterdir()) == []


def test_unknown_study_gets_a_suggestion(home, study):
    opened(home, study).close(5)
    with pytest.raises(LookupError, match="Did you mean 'door'"):
        load_runs("doors", home.uri)


def test_one_driver(home):
    with home.lock("door").held():
        holder = home.lock("door").driver()
        assert holder is not None
        assert holder.startswith("process ")
        with (
            pytest.raises(StudyLockedError, match="is being run by process"),
            home.lock("door").held(),
        ):
            pass
    assert home.lock("door").driver() is None


@pytest.mark.parametrize(
    "seeds", [range(4), [0, 3, 7], Seeds(head=[0, 1], order=[4], noise=[2, 3])]
)
def test_seeds_round_trip(study, seeds):
    made = study.replace(seeds=seeds)
    assert seeds_of(made.seeds_text(made.tasks[0])) == [
        tuple(seed) for seed in made.seeds_of(made.tasks[0])
    ]


def test_client_and_sql_readers_agree(home, study, outcomes, prepared, monkeypatch):
    """The client reader, pointed at the database, must agree with the SQL reader."""
    import analysis.frames.store

    tracking = opened(home, study)
    put(tracking, outcomes, prepared)
    tracking.close(20)
    direct, curves = load_runs("door", home.uri), load_curves("door", home.uri)
    monkeypatch.setattr(analysis.frames.store, "_is_database", lambda uri: False)
    paged = load_runs("door", home.uri)
    assert paged.equals(direct)
    assert load_curves("door", home.uri).equals(curves)


def test_folder_names_with_spaces(tmp_path, study, outcomes, prepared, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Home(Path(tmp_path / "a folder"))
    tracking = opened(home, study)
    put(tracking, outcomes, prepared)
    assert tracking.close(20) == 0
    assert len(load_predictions("door", home.uri)) == 5 * 64
