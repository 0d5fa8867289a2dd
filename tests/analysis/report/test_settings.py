import html
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis import flips_table, write_report
from analysis.report.provenance import Extras
from analysis.report.settings import data_of, recipe_line, recipe_table


def settings(cells):
    """Long settings from values by task, model and configuration."""
    rows = [
        (*cell, name, json.dumps(value))
        for cell, own in cells.items()
        for name, value in own.items()
    ]
    return pd.DataFrame(rows, columns=["task", "model", "configuration", "name", "value"])


RECIPE = {"recipe.lr": 5e-5, "recipe.epochs": 3, "recipe.batch_size": 16, "recipe.max_length": 64}


@pytest.fixture
def two_tasks():
    return settings(
        {
            ("a", "m", "Standard"): {**RECIPE, "recipe.dropout": None, "task.train": "a.csv"},
            ("b", "m", "Standard"): {**RECIPE, "recipe.epochs": 10, "recipe.dropout": None}
            | {"task.train": "b/train.csv", "task.dev": "b/dev.csv", "task.split": {"folds": 5}},
        }
    )


def test_the_recipe_is_named_in_a_line(two_tasks):
    assert recipe_line(two_tasks) == (
        "learning rate 5e-5, 3 or 10 epochs, batch size 16, at most 64 tokens"
    )
    searched = settings(
        {("a", "m", f"c{i}"): {**RECIPE, "recipe.lr": i * 1e-4} for i in range(1, 6)}
    )
    assert recipe_line(searched).startswith("learning rate 0.0001 to 0.0005, 3 epochs")
    both = {("a", "m", "Standard"): {**RECIPE, "recipe.steps": None}}
    both[("a", "m", "LoRA")] = {**RECIPE, "recipe.steps": 40}
    assert recipe_line(settings(both)).startswith("learning rate 5e-5, 3 epochs, 40 steps, batch")
    del both[("a", "m", "Standard")]
    assert recipe_line(settings(both)).startswith("learning rate 5e-5, 40 steps, batch size 16")
    images = settings({("a", "m", "Standard"): {**RECIPE, "task.kind": "image"}})
    assert recipe_line(images).endswith("batch size 16")
    assert recipe_line(settings({})) == ""


def test_fields_with_several_values_say_where(two_tasks):
    values = dict(recipe_table(two_tasks).body)
    assert values["epochs"] == "3 (a); 10 (b)"
    assert (values["lr"], values["dropout"]) == ("5e-5", "none")
    cells = {(f"t{i}", "m", "Standard"): {"recipe.epochs": 3 + (i > 0)} for i in range(5)}
    assert recipe_table(settings(cells)).body == (("epochs", "3 (t0); 4 (4 tasks)"),)
    mixed = {(t, m, "S"): {"recipe.epochs": 3 + (t == m)} for t in "ab" for m in "ab"}
    assert recipe_table(settings(mixed)).body == (("epochs", "4 (2 cells); 3 (2 cells)"),)


def test_the_data_of_a_task_are_named(two_tasks):
    assert data_of(two_tasks, "a") == {"Data": "a.csv", "Split": "–"}
    assert data_of(two_tasks, "b") == {"Data": "b/train.csv, b/dev.csv", "Split": "folds 5"}
    absolute = settings({("d", "m", "S"): {"task.train": "/home/someone/d.csv"}})
    assert data_of(absolute, "d")["Data"] == "d.csv"
    assert data_of(two_tasks, "c") == {"Data": "–", "Split": "–"}


def test_the_page_has_recipes_links_and_lines_to_paste(clean, tmp_path):
    clean = clean[clean["task"] == "rte"]
    first = clean.iloc[0]
    cell = (first["task"], first["model"], first["configuration"])
    files = tmp_path / "artifacts" / first["key"] / "a b"
    links = pd.DataFrame({"key": [first["key"]], "page": ["#/runs/1"], "files": [files.as_uri()]})
    extras = Extras(
        settings=settings({cell: RECIPE}),
        links=links,
        ui="http://127.0.0.1:5000/",
        store=tmp_path,
        paste=lambda key: f"recipe=<{clean.set_index('key').at[key, 'configuration']}>,",
    )
    folder = tmp_path / "store" / "report"
    text = html.unescape(write_report(clean, pd.DataFrame(), folder, extras=extras).read_text())
    assert "<dt>Recipe</dt><dd>learning rate 5e-5, 3 epochs, batch size 16" in text
    assert f'<a href="http://127.0.0.1:5000/#/runs/1">{first["key"]}</a>' in text
    assert f'<a href="../../artifacts/{first["key"]}/a%20b">files</a>' in text
    assert (folder / "../../artifacts" / first["key"] / "a b").resolve() == files.resolve()
    assert str(Path.home()) not in text
    assert "recipe=<" in text
    assert 'id="recipe"' in text
    elsewhere = replace(extras, store=tmp_path / "other")
    text = write_report(clean, pd.DataFrame(), folder, extras=elsewhere).read_text()
    assert ">files</a>" not in text  # a path out of the store would name places on this machine
    plain = write_report(clean, pd.DataFrame(), folder).read_text()
    assert "Lines for a study file" not in plain
    assert "<a href" not in plain


def test_the_texts_of_examples_are_shown_only_if_given():
    frame = pd.DataFrame(
        {
            **{"task": "nli", "model": "m", "configuration": "S", "kind": "class", "n": 3},
            **{"label": "yes", "answer": "no", "flip_rate": 0.3, "disagreement": [0.6, 0.5, 0.4]},
            **{"right": 0.3, "value_mean": float("nan"), "value_sd": float("nan")},
            "id": ["a", "b 2", "c"],
        }
    )
    assert "Text" not in flips_table(frame).header
    table = flips_table(frame, {"nli": {"a": "x" * 300, "b": "whole sentence"}})
    texts = [row[table.header.index("Text")] for row in table.body]
    assert texts == ["x" * 200 + "…", "whole sentence", "–"]
