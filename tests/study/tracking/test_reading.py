"""A reader of one study reads that study, whatever else the store has."""

from collections.abc import Iterator

import pandas as pd
import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

import analysis.frames.store
from analysis import load_curves, load_runs
from analysis.frames.load import find_run
from study import Recipe
from study.cli.parser import run_command
from tests.study.tracking.conftest import opened, put_all


@pytest.fixture
def filled(home, study, monkeypatch):
    """A store of three studies, the one that is asked for on two tasks."""
    monkeypatch.setenv("STUDY_HOME", str(home.root))
    (task,) = study.tasks
    two = study.replace(tasks=[task, task.replace(name="again", metric="f1", labels=["no", "yes"])])
    others = [
        study.replace(name=f"other-{lr}", recipe=Recipe(lr=lr, epochs=1)) for lr in (1e-3, 1e-4)
    ]
    for each in (two, *others):
        tracking = opened(home, each)
        put_all(tracking, each)
        assert tracking.close(60) == 0
    return two


@pytest.fixture
def answers(monkeypatch) -> Iterator[list[pd.DataFrame]]:
    """What the database has answered."""
    heard: list[pd.DataFrame] = []
    query = analysis.frames.store._query

    def listen(uri, text, **values):
        heard.append(query(uri, text, **values))
        return heard[-1]

    monkeypatch.setattr(analysis.frames.store, "_query", listen)
    return heard


def studies_named(heard: list[pd.DataFrame], uri: str) -> set[str]:
    """The studies whose names or runs stand in answers."""
    pairs = pd.read_sql_query(
        "SELECT r.run_uuid AS run, e.name FROM runs r JOIN experiments e"
        " ON e.experiment_id = r.experiment_id",
        sa.create_engine(uri),
    )
    name_of = dict(zip(pairs["run"], pairs["name"], strict=True))
    runs = {name_of[run] for each in heard if "run" in each for run in each["run"]}
    return runs | {name for each in heard if "name" in each for name in each["name"]} & {
        *name_of.values()
    }


def test_one_study_is_read_and_no_other(home, filled, answers):
    for load in (load_runs, load_curves):
        assert len(load(filled.name, home.uri)) >= 12
    assert studies_named(answers, home.uri) == {filled.name}


def test_recommend_reads_its_study_once(home, filled, answers, capsys):
    assert run_command(["recommend", filled.name]) == 0
    assert capsys.readouterr().out.count("recipe=Recipe(") == 2
    assert studies_named(answers, home.uri) == {filled.name}
    whole = [each for each in answers if "status" in each and len(each) > 1]
    assert len(whole) == 1


def test_a_servers_other_studies_are_not_listed(home, filled, monkeypatch):
    monkeypatch.setattr(analysis.frames.store, "_is_database", lambda uri: False)
    listed: list[object] = []
    search = MlflowClient.search_experiments
    monkeypatch.setattr(
        MlflowClient,
        "search_experiments",
        lambda self, *words, **more: listed.append(words) or search(self, *words, **more),
    )
    assert len(load_runs(filled.name, home.uri)) == 12
    key = filled.runs()[0].key
    assert find_run(key, home.uri, filled.name)["study"] == filled.name
    assert listed == []
    assert find_run(key[:8], home.uri)["key"] == key
    with pytest.raises(LookupError, match=f"Did you mean '{filled.name}'"):
        load_runs(f"{filled.name}s", home.uri)


def test_a_key_is_no_pattern(home, filled):
    for key in ("%", "_", "' OR 1 = 1", ""):
        with pytest.raises(LookupError, match="no run has the key"):
            find_run(key, home.uri, filled.name)
