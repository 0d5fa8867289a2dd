"""What a dry run says of the data."""

import pytest

from study import ByGroup, KFold, Recipe, Standard, Study, Task
from study.planning.notes import data_lines, notes
from study.testing import tiny_model
from tests.generating import answering_task


def study_of(folder, tasks):
    return Study(
        name="counts",
        tasks=tasks,
        models=[tiny_model(folder)],
        recipe=Recipe(),
        techniques=[Standard()],
        seeds=range(2),
        folder=str(folder),
    )


def test_the_rows_and_classes_of_each_part_are_given(tmp_path):
    """Ten rows in five stratified folds, six `a` and four `b`; and sets of labels."""
    (tmp_path / "one.csv").write_text(
        "text,label\n" + "".join(f"t{i},{'a' if i < 6 else 'b'}\n" for i in range(10))
    )
    (tmp_path / "sets.csv").write_text("text,label\n" + "t,x|y\nt,x\nt,\n" * 5)
    split = KFold(folds=5)
    tasks = [
        Task(name="one", train="one.csv", split=KFold(folds=3)),
        Task(name="sets", kind="multilabel", metric="micro_f1", train="sets.csv", split=split),
    ]
    study = study_of(tmp_path, tasks)
    one, bar, sets, _ = data_lines(study)
    parts = study.located_tasks()[0].load().splits
    counts = [[list(part.gold).count(c) for part in parts.values()] for c in (0, 1)]
    assert [sum(each) for each in counts] == [6, 4]
    assert one.startswith("task 'one': ")
    for label, each in zip("ab", counts, strict=True):
        assert f"{label} {' / '.join(map(str, each))}" in one
    assert "task 'sets': 9 train, 3 dev, 3 test rows; x " in sets
    # Of the dev rows the share of `a`, and two standard errors of a share of so many rows.
    dev = list(parts["dev"].gold)
    share = max(dev.count(0), dev.count(1)) / len(dev)
    above = share + 2 * (share * (1 - share) / len(dev)) ** 0.5
    assert bar == (
        f"task 'one': a constant answer scores {100 * share:.3g} on dev (accuracy, in points); a "
        f"run counts as collapsed up to {100 * above:.3g}, which chance can reach on so few rows"
    )


def test_groups_of_each_part_are_counted(tmp_path):
    rows = [f"t{i},{'ab'[i % 2]},{i // 4}\n" for i in range(36)]
    (tmp_path / "rows.csv").write_text("text,label,who\n" + "".join(rows))
    task = Task(name="rows", train="rows.csv", split=ByGroup(column="who", folds=3))
    first, _ = data_lines(study_of(tmp_path, [task]))
    assert first.endswith("; 3 / 3 / 3 different 'who'")
    errors = task.replace(kind="regression", metric="mae", label="size")
    rows = [f"t{i},{i % 7},{i // 4}\n" for i in range(36)]
    (tmp_path / "rows.csv").write_text("text,size,who\n" + "".join(rows))
    *_, bar = data_lines(study_of(tmp_path, [errors]))
    gold = study_of(tmp_path, [errors]).located_tasks()[0].load().splits["dev"].gold
    lowest = abs(gold - sorted(gold)[len(gold) // 2]).mean()
    assert f"scores {lowest:.3g} on dev (mae); a run counts as collapsed down to" in bar
    assert bar.endswith(f"{0.99 * lowest:.3g}")


def test_a_bar_that_depends_on_a_models_tokens_is_not_given(tmp_path):
    *_, bar = data_lines(study_of(tmp_path, [answering_task(tmp_path / "answers")]))
    assert bar.endswith(
        "what a constant answer scores on dev (perplexity) is known with the first run"
    )


def told(folder, rows, **fields):
    (folder / "rows.csv").write_text("text,label,who\n" + "".join(rows))
    fields = {"name": "rows", "train": "rows.csv", "split": KFold(folds=3)} | fields
    return notes(study_of(folder, [Task(**fields)]))


def test_inputs_that_train_shares_with_dev_or_test_are_named(tmp_path):
    """Twelve texts, each twice and in random folds: most of dev and test are in train as well."""
    rows = [f"t{i % 12},{'ab'[i % 2]},{i % 12}\n" for i in range(24)]
    [note] = told(tmp_path, rows)
    splits = study_of(tmp_path, [Task(name="rows", train="rows.csv", split=KFold(folds=3))])
    texts = {name: part.text for name, part in splits.located_tasks()[0].load().splits.items()}
    shared = {n: sum(t in texts["train"] for t in texts[n]) for n in ("dev", "test")}
    assert min(shared.values()) > 0
    for name, count in shared.items():
        assert f"{count} of the 8 rows of {name}" in note
    assert told(tmp_path, rows, split=ByGroup(column="who", folds=3)) == []


def test_pairs_are_the_same_input_only_if_both_texts_are(tmp_path):
    rows = [f"t{i % 12},{'ab'[i % 2]},pair {i}\n" for i in range(24)]
    assert told(tmp_path, rows, text_pair="who") == []


def test_groups_of_one_row_each_are_named(tmp_path):
    rows = [f"t{i},{'ab'[i % 2]},{i}\n" for i in range(12)]
    [note] = told(tmp_path, rows, split=ByGroup(column="who", folds=3))
    assert "no two of its rows have the same 'who'" in note


@pytest.mark.parametrize(
    "fields", [{"split": KFold(folds=3)}, {"split": ByGroup(column="who", folds=3)}]
)
def test_data_without_trouble_have_no_notes(tmp_path, fields):
    rows = [f"t{i},{'ab'[i % 2]},{i // 2}\n" for i in range(12)]
    assert told(tmp_path, rows, **fields) == []


def test_rare_classes_are_named_for_macro_f1(tmp_path):
    rows = [f"t{i},{'c' if i % 20 == 0 else 'ab'[i % 2]},{i}\n" for i in range(240)]
    [note] = told(tmp_path, rows, metric="macro_f1")
    assert "as much weight in macro_f1 as the others: 'c' 4 / 4. More rows of them" in note
    assert told(tmp_path, rows) == []


def test_groups_by_the_label_are_refused():
    task = Task(name="rows", train="rows.csv", split=ByGroup(column="label", folds=3))
    assert "'label' is the label, so that each part would have labels of its own" in str(
        task.__dict__["error"]
    )
