"""What a dry run says of the data."""

from study import KFold, Recipe, Standard, Study, Task
from study.planning.notes import data_lines
from study.testing import tiny_model


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
    study = Study(
        name="counts",
        tasks=tasks,
        models=[tiny_model(tmp_path)],
        recipe=Recipe(),
        techniques=[Standard()],
        seeds=range(2),
        folder=str(tmp_path),
    )
    one, sets = data_lines(study)
    parts = study.located_tasks()[0].load().splits
    counts = [[list(part.gold).count(c) for part in parts.values()] for c in (0, 1)]
    assert [sum(each) for each in counts] == [6, 4]
    assert one.startswith("task 'one': ")
    for label, each in zip("ab", counts, strict=True):
        assert f"{label} {' / '.join(map(str, each))}" in one
    assert "task 'sets': 9 train, 3 dev, 3 test rows; x " in sets
