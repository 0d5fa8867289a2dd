"""The runs of a two-stage study: tuning runs first, then the chosen configurations.

Which runs a study requests is a pure function of the study and the dev scores of finished runs. So
no state is stored: the scores, from MLflow or from workers, determine the runs.
"""

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from study.core.seeding import Seed
from study.core.spec import SpecError
from study.models.model import Model
from study.planning.runs import Cell, Run, compact_ranges, round_robin
from study.planning.search import Search
from study.planning.study import Configuration, Study
from study.tasks import Task
from study.tasks.metrics import metric_named

if TYPE_CHECKING:
    from search_spaces import Draw
    from study.planning.estimate import Estimate


Stage = Literal["tune", "final"]
STAGES: tuple[Stage, ...] = ("tune", "final")


@dataclass(frozen=True)
class CellPlan:
    """A cell in one stage, which is a parent run in MLflow.

    Attributes:
        cell: Task, model and configuration.
        stage: `tune` or `final`.
        seeds: Its seeds.
        seeds_text: The seeds as text, such as `0-19`.
        tried: Number of configurations that this one was chosen from; 1 if the study states it.
        search: Origin of a searched configuration, as JSON; empty if the study states it.
    """

    cell: Cell
    stage: Stage
    seeds: tuple[Seed, ...]
    seeds_text: str
    tried: int = 1
    search: str = ""

    @property
    def key(self) -> tuple[str, Stage]:
        """The cell's key and the stage, which together identify the plan."""
        return self.cell.key, self.stage

    @cached_property
    def runs(self) -> list[Run]:
        """Its runs, in the order of the seeds."""
        return [Run(self.cell, seed) for seed in self.seeds]


class Stages:
    """All cells that a study has requested so far, and the number of runs still undecided."""

    def __init__(self, study: Study, scores: Mapping[str, float]) -> None:
        """Request every cell that the known scores determine.

        Args:
            study: The study.
            scores: Dev scores of finished runs by run key; for diverged runs, the constant
                predictor's.

        Raises:
            SpecError: If a technique rejects a recipe that its search drew.
        """
        self._study, self._scores = study, dict(scores)
        self._plans: dict[tuple[str, Stage], CellPlan] = {}
        self._search_of: dict[str, _TaskSearch] = {}  # by the keys of the tuning runs
        self._stage: dict[str, Stage] = {}  # by run key
        for cell in study.cells():
            seeds, text = tuple(study.seeds_of(cell.task)), study.seeds_text(cell.task)
            self._add(CellPlan(cell, "final", seeds, text))
        self._searches = [
            _TaskSearch(study, task, model, search)
            for task, model in study.task_model_pairs()
            for search in study.searches
        ]
        for search in self._searches:
            self._advance(search)

    @property
    def plans(self) -> list[CellPlan]:
        """All plans so far: those that the study states, then as searches requested them."""
        return list(self._plans.values())

    @property
    def cells(self) -> list[Cell]:
        """The distinct cells of all plans."""
        return list({plan.cell.key: plan.cell for plan in self.plans}.values())

    def runs(self, *stages: Stage) -> list[Run]:
        """The runs so far: tuning first, since choices depend on it, and seed by seed in a stage.

        Args:
            *stages: The stages to include; none for both.
        """
        runs: list[Run] = []
        for stage in stages or STAGES:
            runs += round_robin(plan.runs for plan in self.plans if plan.stage == stage)
        return runs

    def stage(self, key: str) -> Stage:
        """The stage of the run with this key."""
        return self._stage.get(key, "final")

    def sizes(self) -> dict[Stage, int]:
        """Maximum number of runs per stage, including those still to come."""
        return {stage: len(self.runs(stage)) + self.still_to_come(stage) for stage in STAGES}

    def still_to_come(self, *stages: Stage) -> int:
        """Maximum number of runs that searches will still request.

        Args:
            *stages: The stages to include; none for both.
        """
        counts = [search.still_to_come() for search in self._searches]
        return sum(count[stage] for count in counts for stage in stages or STAGES)

    def seconds_to_come(self, estimates: Mapping[str, "Estimate"]) -> float:
        """Seconds on one worker for the runs still to come, if they take as long as earlier ones.

        Args:
            estimates: By cell key.
        """
        return sum(
            sum(search.still_to_come().values())
            * statistics.fmean(estimates[cell.key].seconds for cell in search.tried)
            for search in self._searches
        )

    def tell(self, key: str, score: float) -> list[CellPlan]:
        """Record the score of a finished run.

        Args:
            key: The run's key.
            score: Its dev score; for a diverged run, the constant predictor's.

        Returns:
            The plans that are requested because of it.
        """
        self._scores[key] = score
        search = self._search_of.get(key)
        return self._advance(search) if search else []

    def _advance(self, search: "_TaskSearch") -> list[CellPlan]:
        plans = search.advance(self._scores)
        for plan in plans:
            self._add(plan)
            if plan.stage == "tune":
                self._search_of |= {run.key: search for run in plan.runs}
        return plans

    def _add(self, plan: CellPlan) -> None:
        self._plans[plan.key] = plan  # a choice replaces the same cell stated by the study
        self._stage |= {run.key: plan.stage for run in plan.runs}


class _TaskSearch:
    """A search on one task and model: its trials so far, and its choice."""

    def __init__(self, study: Study, task: Task, model: Model, search: Search) -> None:
        assert study.tune is not None  # `Study.rules` requires it for searches
        self._study, self._tune, self._search = study, study.tune, search
        self._task, self._model = task, model
        self._trials: list[CellPlan] = []
        self._decided = False

    @property
    def tried(self) -> list[Cell]:
        """The cells of the trials so far."""
        return [trial.cell for trial in self._trials]

    def still_to_come(self) -> dict[Stage, int]:
        """Maximum number of runs that it will still request, per stage."""
        trials = self._tune.trials - len(self._trials)
        return {
            "tune": trials * len(self._tune.seeds),
            "final": 0 if self._decided else len(self._study.seeds_of(self._task)),
        }

    def advance(self, scores: Mapping[str, float]) -> list[CellPlan]:
        """Request the next batch once all trials are scored, and the choice after the last batch.

        Args:
            scores: Dev scores of finished runs by run key.

        Returns:
            The new plans; none while a score is missing.
        """
        plans: list[CellPlan] = []
        while not self._decided:
            means = [_mean_score(trial, scores) for trial in self._trials]
            known = [mean for mean in means if mean is not None]
            if len(known) < len(means):
                break
            if len(known) == self._tune.trials:
                plans.append(self._choice(self._trials[known.index(max(known))]))
                self._decided = True
            else:
                batch = self._batch(known)
                self._trials += batch
                plans += batch
        return plans

    def _batch(self, scores: list[float]) -> list[CellPlan]:
        """The trials that follow those with these scores."""
        from search_spaces.choosing import choose, describe, flatten  # defers loading Optuna

        space, tune = self._search.space, self._tune
        drawn = choose(
            space, sampler=tune.sampler, trials=tune.trials, seed=tune.seed, scores=scores
        )
        new = list(enumerate(drawn))[len(scores) :]
        cells = self._cells([value for _, value in new])
        protocol = {
            "sampler": tune.sampler,
            "trials": tune.trials,
            "seed": tune.seed,
            "seeds": compact_ranges(tune.seeds),
            "final_seeds": self._study.seeds_text(self._task),
            "optuna": version("optuna"),  # another version of TPE may choose differently
        }
        seeds, seeds_text = tuple(tune.run_seeds()), compact_ranges(tune.seeds)
        plans = []
        for (trial, value), cell in zip(new, cells, strict=True):
            origin = {"trial": trial, "values": flatten(value), "space": describe(space)}
            text = json.dumps({**protocol, **origin})
            plans.append(CellPlan(cell, "tune", seeds, seeds_text, 1, text))
        return plans

    def _cells(self, drawn: "list[Draw]") -> list[Cell]:
        """The cells of drawn values.

        Raises:
            SpecError: With every value that the technique rejects together with its recipe.
        """
        study, search = self._study, self._search
        shared = search.recipe or study.recipe_of(self._task)
        cells, mistakes = [], []
        for value in drawn:
            try:
                technique = search.configured(value.technique)
                configuration = Configuration(technique, recipe=shared.replace(**value.recipe))
                cells.append(study.cell(self._task, self._model, configuration))
                technique.recipe(cells[-1].recipe)  # raises here, before tracking or a run needs it
            except SpecError as error:
                path = f"techniques[{study.techniques.index(search)}]"
                mistakes += [mistake.below(path) for mistake in error.mistakes]
        if mistakes:
            raise SpecError(f"study {study.name!r}", list(dict.fromkeys(mistakes)))
        return cells

    def _choice(self, best: CellPlan) -> CellPlan:
        seeds = tuple(self._study.seeds_of(self._task))
        text = self._study.seeds_text(self._task)
        return CellPlan(best.cell, "final", seeds, text, len(self._trials), best.search)


def _mean_score(trial: CellPlan, scores: Mapping[str, float]) -> float | None:
    """Mean dev score over the tuning seeds, higher is better; None while one is missing."""
    values = [scores[run.key] for run in trial.runs if run.key in scores]
    if len(values) < len(trial.runs):
        return None
    mean = statistics.fmean(values)
    if math.isnan(mean):
        return -math.inf
    return metric_named(trial.cell.task.metric).oriented(mean)
