"""`Study.retains`: what is refused, and what enters a run's key."""

import pytest

from study import Recipe, Standard, Study, Task
from study.core.spec import SpecError
from study.planning.preflight import problems
from study.planning.runs import Run, run_from
from tests.generating import answering_task, decoder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("retains") / "model", tied=True)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return answering_task(tmp_path_factory.mktemp("task"))


def measured(task: Task, name: str = "other", **fields: object) -> Task:
    return Task(name=name, kind="generation", metric="perplexity", test=task.test, **fields)


def study_of(task: Task, model: object, *retains: Task, **fields: object) -> Study:
    given = {"tasks": [task], "models": [model], "techniques": [Standard()], "seeds": [0]}
    given |= {"recipe": Recipe(max_length=16)} | fields
    return Study(name="forgets", retains=retains, **given)


def key(study: Study) -> str:
    return study.runs()[0].key


def test_what_is_measured_is_part_of_the_key_and_its_name_and_order_are_not(task, model):
    one, two = measured(task), measured(task, "two", test_rows=4)
    plain = study_of(task, model)
    assert "retains" not in plain.cells()[0].identity
    assert key(plain) != key(study_of(task, model, one))
    assert key(study_of(task, model, one, two)) == key(study_of(task, model, two, one))
    assert key(study_of(task, model, one)) == key(study_of(task, model, measured(task, "new")))
    assert key(study_of(task, model, one)) != key(study_of(task, model, two))
    other = measured(task).replace(metric="exact_match")
    assert key(study_of(task, model, one)) != key(study_of(task, model, other))


def test_a_run_is_restored_from_its_spec(task, model):
    run = study_of(task, model, measured(task)).runs()[0]
    again = run_from(run.spec())
    assert (again.key, again.cell.retains) == (run.key, run.cell.retains)
    assert list(run.data_keys) == ["answers/tied/16", "other/tied/16"]
    plain = Run(study_of(task, model).cells()[0], run.seed)
    assert "retains" not in plain.spec()


def test_sound_studies_have_no_mistakes(task, model):
    assert problems(study_of(task, model, measured(task))) == []


def test_a_task_without_training_rows_is_only_measured(task, model):
    with pytest.raises(SpecError, match=r"tasks\[0\].train is missing; only a task in `retains`"):
        study_of(measured(task), model).runs()


def test_other_kinds_have_no_head_of_pretraining(task, model):
    labels = {"name": "labels", "train": "a.csv", "dev": "b.csv", "test": "c.csv"}
    with pytest.raises(SpecError) as caught:
        study_of(Task(**labels), model, Task(name="more", test="d.csv")).runs()
    paths = [mistake.path for mistake in caught.value.mistakes]
    assert paths == ["tasks[0].kind", "retains[0].kind"]
    assert "whose head is new" in str(caught.value)


def test_names_are_those_of_one_task(task, model):
    with pytest.raises(SpecError, match="also the name of a task that is trained on: answers"):
        study_of(task, model, measured(task, "answers")).runs()
    with pytest.raises(SpecError, match=r"retains\[1\] repeats"):
        study_of(task, model, measured(task), measured(task)).runs()


def test_rows_that_cannot_be_read_are_said_before_the_first_run(task, model, tmp_path):
    (tmp_path / "empty.jsonl").write_text('{"id": "1", "text": "w1", "label": ""}')
    absent = measured(task).replace(test=str(tmp_path / "absent.jsonl"))
    empty = measured(task, "empty").replace(test=str(tmp_path / "empty.jsonl"))
    texts = "\n".join(map(str, problems(study_of(task, model, absent, empty))))
    assert "absent.jsonl: no such file" in texts
    assert "empty.jsonl, row 1, label is empty" in texts
    long = study_of(task, model, measured(task), recipe=Recipe(max_length=3))
    assert "leaves no room" in "\n".join(map(str, problems(long)))


def test_names_that_a_store_would_not_tell_apart_are_refused(task, model):
    with pytest.raises(SpecError, match=r"retains\[1\].name is stored as 'a_1', as another one is"):
        study_of(task, model, measured(task, "a@1"), measured(task, "a+1")).runs()


def test_what_is_no_task_hides_no_other_mistake(task, model):
    with pytest.raises(SpecError) as caught:
        study_of(task, model, "facts", measured(task, "a@1"), measured(task, "a+1")).runs()
    assert [mistake.path for mistake in caught.value.mistakes] == ["retains[0]", "retains[2].name"]
    given = {"tasks": [task], "models": [model], "techniques": [Standard()], "seeds": [0]}
    with pytest.raises(SpecError, match="retains"):
        Study(name="s", retains=5, **given).runs()


def test_a_metric_that_fails_is_said_before_the_first_run(task, model, tmp_path, monkeypatch):
    (tmp_path / "failing_metric.py").write_text("def fails(gold, predicted):\n    return 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    failing = measured(task).replace(metric="failing_metric:fails")
    (mistake,) = problems(study_of(task, model, failing))
    assert "does not score right answers: ZeroDivisionError" in str(mistake)


def test_a_task_needs_training_rows_unless_it_has_test_rows_alone():
    for fields, text in (
        ({"name": "a", "dev": "d.csv", "test": "t.csv"}, "train is missing"),
        ({"name": "a"}, "train is missing"),
        ({"name": "a", "test": "t.csv", "train_rows": 5}, "train_rows: limits rows that the task"),
        ({"name": "a", "train": "t.csv"}, "dev is missing"),
    ):
        with pytest.raises(SpecError, match=text):
            Task(**fields).name  # noqa: B018
