"""`study init`: tables of every kind become study files that run, with what was guessed said."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from study import ByGroup
from study.cli.parser import run_command
from study.core.spec import SpecError
from study.planning.study_file import load_study
from study.tasks.guess import guess
from tests import needs

GUESSES = {  # of the training rows of real data sets, against what their authors define
    "glue_stsb": {"kind": "regression", "metric": "spearman", "text_pair": "text_pair"},
    "glue_sst2": {"kind": "classification", "metric": "accuracy", "text_pair": None},
    "pubmedqa": {"kind": "classification", "text_pair": "text_pair"},
    "hoc": {"kind": "multilabel", "metric": "micro_f1", "label": "labels"},
    "bc5_chem": {"kind": "tagging", "metric": "entity_f1", "text": "tokens", "label": "tags"},
    "squad2": {"kind": "span", "text": "question", "text_pair": "context", "label": "answers"},
}


@pytest.mark.parametrize("name", GUESSES)
def test_real_tables(name, tmp_path, capsys, monkeypatch):
    shutil.copy(needs.shared("data", name, "train.jsonl.gz"), tmp_path / f"{name}.jsonl.gz")
    monkeypatch.chdir(tmp_path)
    assert run_command(["init", f"{name}.jsonl.gz"]) == 0
    assert f"run {name}_study.py --dry-run" in capsys.readouterr().out
    (task,) = load_study(Path(f"{name}_study.py")).tasks
    assert {field: getattr(task, field) for field in GUESSES[name]} == GUESSES[name]
    assert set(task.load().splits) == {"train", "dev", "test"}


def test_a_file_is_not_overwritten(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Path("my data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("review", "stars"), *[("fine, 'really'", "4"), ("bad", "1")] * 9]
        )
    assert run_command(["init", "my data.csv"]) == 0
    out = capsys.readouterr().out
    assert "text: 'review'" in out
    assert "label: 'stars' has 2 classes, the largest with 50% of the rows" in out
    assert run_command(["init", "my data.csv"]) == 2
    assert "my_data_study.py exists; name another file with --out" in capsys.readouterr().err
    assert run_command(["init", "my data.csv", "--out", "other.py"]) == 0
    assert run_command(["init", "absent.csv"]) == 2
    assert "no file 'absent.csv'" in capsys.readouterr().err


def test_a_table_without_a_header_is_refused(tmp_path, capsys):
    """Its first row became the names: a message, and the class of it."""
    rows = [("ham", f"See you at {n}?") if n % 2 else ("spam", f"Win {n} now!") for n in range(20)]
    (tmp_path / "sms.tsv").write_text("".join(f"{label}\t{text}\n" for label, text in rows))
    assert run_command(["init", str(tmp_path / "sms.tsv")]) == 2
    assert "the first row looks like data" in (said := capsys.readouterr().err)
    assert "'spam', 'Win 0 now!'" in said


@pytest.mark.parametrize(("rows", "said"), [(300, False), (2000, True)])
def test_a_subset_is_advised_for_tables_that_it_makes_smaller(rows, said, tmp_path):
    lines = [f"text {n},{'ab'[n % 2]}" for n in range(rows)]
    (tmp_path / "table.csv").write_text("\n".join(["text,label", *lines]))
    assert run_command(["init", str(tmp_path / "table.csv")]) == 0
    assert ("TASK.subset(300" in (tmp_path / "table_study.py").read_text()) == said


def test_other_formats(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("semicolons.csv").write_text("satz;klasse\n" + "ein Satz, mit Komma;a\nnoch einer;b\n" * 9)
    Path("words.conll").write_text("Aspirin B-Drug\nhelps O\n\n" * 30)
    assert run_command(["init", "semicolons.csv"]) == run_command(["init", "words.conll"]) == 0
    out = capsys.readouterr().out
    assert "text: 'satz'" in out
    assert "label: 'klasse' has 2 classes" in out
    assert "'tokens' and 'tags' hold one list per row" in out
    for name in ("semicolons_study.py", "words_study.py"):
        (task,) = load_study(Path(name)).located_tasks()
        assert set(task.load().splits) == {"train", "dev", "test"}


def rows(**columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_guesses_by_value():
    texts = [f"a longer text {i}" for i in range(100)]
    found = guess(rows(number=range(100), body=texts, kind=["x"] * 80 + ["y"] * 20)).fields
    assert found == {
        **{"text": "body", "text_pair": None, "label": "kind"},
        **{"kind": "classification", "metric": "macro_f1"},
    }
    found = guess(rows(id=[0] * 100, text=texts, score=[i / 7 for i in range(100)])).fields
    assert (found["kind"], found["standardise"], found["id"]) == ("regression", True, None)
    assert guess(rows(text=texts, label=[i % 5 for i in range(100)])).fields["kind"] == (
        "classification"
    )
    assert guess(rows(text=texts, label=["a|b", "a"] * 50)).fields["kind"] == "multilabel"


def test_a_few_bad_numbers_do_not_make_a_regression_a_classification():
    texts = [f"a longer text {i}" for i in range(100)]
    scores = [str(i / 7) for i in range(100)]
    scores[3] = "2,7"
    found = guess(rows(text=texts, score=scores))
    assert found.fields["kind"] == "regression"
    assert "metric spearman" in found.reasons[-1]
    assert "Not numbers, to be corrected: row 4 '2,7'." in found.reasons[-1]


def test_several_labels_in_any_shape():
    texts = [f"a longer text {i}" for i in range(100)]
    for labels in (["red, blue", "blue", "red", ""] * 25, ["a;b", "b;c", "a;c", "c"] * 25):
        found = guess(rows(text=texts, tags=labels))
        assert found.fields["kind"] == "multilabel"
        assert "write | between the names" in found.reasons[-1]
    flags = {name: ["0", "1"] * 50 for name in ("red", "blue", "green")}
    with pytest.raises(SpecError, match=r"'red', 'blue', 'green' hold 0 and 1, as several labels"):
        guess(rows(text=texts, **flags))
    media = guess(rows(text=texts, sentiment=["good", "bad"] * 50, **flags)).fields
    assert media["label"] == "sentiment"
    free = guess(rows(text=texts, tags=[f"tag {i}" for i in range(100)], mood=["x", "y"] * 50))
    assert free.fields["label"] == "mood"
    for places in (["Rome, Italy", "Paris, France"] * 50, ["Yes", "No", "Yes, in part", "No"] * 25):
        assert guess(rows(text=texts, label=places)).fields["kind"] == "classification"


def test_columns_that_may_be_groups_are_named():
    texts = [f"a longer text {i}" for i in range(100)]
    found = guess(rows(text=texts, label=["x", "y"] * 50, patient=[i // 2 for i in range(100)]))
    assert "write the file with --group patient" in found.reasons[-1]
    gaps = [i // 2 if i < 90 else "" for i in range(100)]
    found = guess(rows(text=texts, label=["x", "y"] * 50, author=gaps))
    assert "46 values in 100 rows, 10 of them empty (fill those first)" in found.reasons[-1]
    assert "ByGroup" not in " ".join(guess(rows(text=texts, label=["x", "y"] * 50)).reasons)
    days = [f"2024-01-{1 + i % 31}" for i in range(100)]
    assert "ByGroup" not in " ".join(
        guess(rows(text=texts, label=["x", "y"] * 50, day=days)).reasons
    )


def test_the_comment_beside_the_metric_names_those_of_the_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("scores.csv").write_text(
        "text,score\n" + "".join(f"some text {i},{i / 7}\n" for i in range(100))
    )
    assert run_command(["init", "scores.csv"]) == 0
    assert (
        'metric="spearman",  # or pearson, mse, rmse, mae\n' in Path("scores_study.py").read_text()
    )


def test_a_group_is_written_with_its_import(tmp_path, monkeypatch, capsys):
    """The advice to write ByGroup ended in a NameError, since the file did not import it."""
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text(
        "id,text,label,who\n" + "".join(f"{i},a text {i},{i % 3},{i // 2}\n" for i in range(60))
    )
    assert run_command(["init", "mine.csv", "--group", "who"]) == 0
    said = capsys.readouterr().out
    assert "id: 'id', by name; its values are unique." in said
    text = Path("mine_study.py").read_text()
    assert "# or macro_f1, matthews_corrcoef\n" in text  # and not f1, of three classes
    (task,) = load_study(Path("mine_study.py")).located_tasks()
    assert task.split == ByGroup(column="who", folds=5, stratify=True)
    assert run_command(["init", "mine.csv", "--group", "whom", "--out", "other.py"]) == 2
    assert "group: there is no column 'whom'. Did you mean 'who'?" in capsys.readouterr().err
    assert run_command(["init", "mime.csv"]) == 2
    assert "no file 'mime.csv'. Did you mean 'mine.csv'?" in capsys.readouterr().err
    assert run_command(["run", "mine_stdy.py", "--dry-run"]) == 2
    assert "Did you mean 'mine_study.py'?" in capsys.readouterr().err


def test_an_id_is_no_label(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text("text,name\n" + "".join(f"a text {i},n{i}\n" for i in range(40)))
    assert run_command(["init", "mine.csv", "--label", "name"]) == 2
    assert "'name' has another value in every row" in capsys.readouterr().err


def test_several_labels_train_longer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sets.csv").write_text("text,label\n" + "a text,x|y\nanother,x\n" * 20)
    assert run_command(["init", "sets.csv"]) == 0
    assert load_study(Path("sets_study.py")).recipe.epochs == 15


def test_given_columns_are_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text(
        "text,note,other,label,stars\n"
        + "".join(f"a text {i},note {i},side {i},x,{i % 3}\n" for i in range(30))
    )
    columns = ["--text", "note", "--text-pair", "other", "--label", "stars"]
    assert run_command(["init", "mine.csv", *columns]) == 0
    assert "text: 'note' and 'other', as given." in capsys.readouterr().out
    (task,) = load_study(Path("mine_study.py")).located_tasks()
    assert (task.text, task.text_pair, task.label) == ("note", "other", "stars")
    assert run_command(["init", "mine.csv", "--label", "star", "--out", "other.py"]) == 2
    assert "label: there is no column 'star'. Did you mean 'stars'?" in capsys.readouterr().err
    flags = {name: ["0", "1"] * 5 for name in ("red", "blue", "green")}
    texts = [f"a longer text {i}" for i in range(10)]
    given = guess(rows(text=texts, **flags), given={"label": "red"}).fields
    assert (given["label"], given["kind"]) == ("red", "classification")
    lists = {"spans": [["a", "b"]] * 3, "words": [["A", "B"]] * 3, "marks": [["O", "B-X"]] * 3}
    found = guess(rows(**lists), given={"text": "words", "label": "marks"}).fields
    assert (found["kind"], found["text"], found["label"]) == ("tagging", "words", "marks")


def test_what_cannot_be_guessed_is_said():
    with pytest.raises(SpecError, match="the first row looks like data, not like names"):
        guess([{"1": "2", "2.7263": "-0.5", "Somehow I was blessed": "Bad"}])
    with pytest.raises(SpecError, match="label: no column looks like it; the columns are body"):
        guess(rows(body=["a", "b", "c"]))
    with pytest.raises(SpecError, match="text: no column looks like it; the columns are label"):
        guess(rows(label=[1, 2, 1]))


def test_prompts_and_conversations_become_generation(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = [f"Say {number} and what follows" for number in range(40)]
    answers = [f"{number} {number * number} words" for number in range(40)]
    with Path("asked.csv").open("w", newline="") as file:
        pairs = zip(asked, answers, strict=True)
        csv.writer(file).writerows([("Instruction", "Response"), *pairs])
    turns = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        for prompt, answer in zip(asked, answers, strict=True)
    ]
    talks = "\n".join(json.dumps({"messages": each}) for each in turns)
    Path("talks.jsonl").write_text(talks)
    for file in ("asked.csv", "talks.jsonl"):
        assert run_command(["init", file]) == 0
    assert "texts to generate" in capsys.readouterr().out
    one, two = (load_study(Path(f"{name}_study.py")) for name in ("asked", "talks"))
    (task,) = one.tasks
    assert (task.kind, task.text, task.label, task.chat) == (
        *("generation", "Instruction", "Response"),
        False,
    )
    assert task.load().splits["dev"].gold[0][0] in answers
    assert [own.name for own in one.retains] == ["wikipedia_text", "facts"]
    (talk,) = two.tasks
    assert (talk.text, talk.label, talk.chat) == ("messages", "messages", True)
    assert talk.load().splits["dev"].gold[0][0] in answers

    labelled = [{"question": asked[i], "answer": answers[i], "label": i % 2} for i in range(40)]
    assert guess(labelled).fields["kind"] == "classification"
    alpaca = [{"instruction": asked[i], "input": "x", "output": answers[i]} for i in range(40)]
    assert "not read: 'input'" in guess(alpaca).reasons[1]
    classes = guess([{"prompt": asked[row], "answer": "ab"[row % 2]} for row in range(40)])
    assert classes.fields["kind"] == "classification"
