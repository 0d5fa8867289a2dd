import gzip

import pandas as pd
import pytest

from analysis.frames.runs import ScoreFileError
from analysis.frames.text_tables import read_table, without_ending

TEXT = "task,dev,test\nrte,0.60,0.61\nrte,0.70,0.71\n"


def read(tmp_path, text, name="scores.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path)


def mistakes_of(tmp_path, text):
    with pytest.raises(ScoreFileError) as error:
        read(tmp_path, text)
    return error.value.mistakes


def test_commas_at_the_end_of_rows_move_no_column(tmp_path):
    plain = read(tmp_path, TEXT)
    assert plain.to_dict("list") == {
        "task": ["rte", "rte"],
        "dev": ["0.60", "0.70"],
        "test": ["0.61", "0.71"],
    }
    for text in (
        TEXT.replace("1\n", "1,\n"),
        TEXT.replace("\n", ",\n"),
        TEXT.replace("\n", ",,\n"),
        TEXT + ",,\n\n",
        "\ufeff" + TEXT,
    ):
        pd.testing.assert_frame_equal(read(tmp_path, text), plain)


def test_row_names_of_pandas_and_r_are_ignored(tmp_path):
    text = ",task,test\n0,rte,0.61\n1,rte,0.71\n"
    assert list(read(tmp_path, text).columns) == ["task", "test"]


def test_rows_of_another_length_are_named(tmp_path):
    assert mistakes_of(tmp_path, TEXT + "rte,0.8\nrte,0.7,0.7,extra\n") == [
        "scores.csv: row 3 has 2 fields, but the header has 3: rte, 0.8.",
        "scores.csv: row 4 has 4 fields, but the header has 3: rte, 0.7, 0.7, extra.",
    ]


@pytest.mark.parametrize("header", ["task,test,test", "task,test, test"])
def test_a_column_named_twice_is_refused(header, tmp_path):
    assert mistakes_of(tmp_path, header + "\nrte,0.60,0.61\n") == [
        "scores.csv: the column 'test' occurs 2 times; rename all but one."
    ]


def test_another_separator_is_named(tmp_path):
    assert mistakes_of(tmp_path, TEXT.replace(",", ";")) == [
        "scores.csv cannot be read as a table: its columns are separated by ';', not by ','"
    ]


def test_endings_in_capitals(tmp_path):
    plain = read(tmp_path, TEXT)
    tabs = TEXT.replace(",", "\t")
    for text, name in (
        (TEXT, "A.CSV"),
        (tabs, "A.TSV"),
        (gzip.compress(tabs.encode()), "A.Tsv.GZ"),
    ):
        pd.testing.assert_frame_equal(read(tmp_path, text, name), plain)


def test_nulls_of_parquet_are_empty_and_integers_exact(tmp_path):
    path = tmp_path / "scores.parquet"
    seeds = pd.array([2**53 + 1, None], dtype="Int64")
    pd.DataFrame({"seed": seeds, "test": [0.5, None], "model": ["a", None]}).to_parquet(path)
    assert read_table(path).to_dict("list") == {
        "seed": ["9007199254740993", ""],
        "test": ["0.5", ""],
        "model": ["a", ""],
    }


@pytest.mark.parametrize(
    ("name", "short"),
    [("results.2024.csv", "results.2024"), ("A.B.CSV.GZ", "A.B"), ("runs", "runs")],
)
def test_names_without_ending(name, short):
    assert without_ending(name) == short
