"""The runs of a study as far as its dev scores decide them: tuning first, then the choices.

Which runs a search asks for is a pure function of the study and of the dev scores of finished
runs, so nothing is kept: whoever has the scores, from MLflow or from a worker, has the runs.
"""

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from study.core.seeding import Seed
from study.core.spec import SpecError
from study.models.model import Model
from study.planning.runs import Cell, Run, in_turn, ranges
from study.planning.search import Search
from study.planning.study import Configuration, Study
from study.tasks import Task
from study.tasks.metrics import metric_named

if TYPE_CHECKING:
    from search_spaces import Draw
    from study.planning.estimate import Expected


Stage = Literal["tune", "final"]
STAGES: tuple[Stage, ...] = ("tune", "final")


@dataclass(frozen=True)
class CellPlan:
    """A cell in a stage: a parent run in MLflow.

    Attributes:
        cell: What is run.
        stage: `tune` or `final`.
        seeds: On which seeds.
        seeds_text: The same as text, such as `0-19`.
        tried: Configurations that the choice was made from; 1 for one that the file states.
        search: What the configuration comes from, as JSON; empty for one that the file states.
    """

    cell: Cell
    stage: Stage
    seeds: tuple[Seed, ...]
    seeds_text: str
    tried: int = 1
    search: str = ""

    @property
    def place(self) -> tuple[str, Stage]:
        """What tells it apart: the cell's key and the stage."""
        return self.cell.key, self.stage

    @cached_property
    def runs(self) -> list[Run]:
        """Its runs, in the order of the seeds."""
        return [Run(self.cell, seed) for seed in self.seeds]


@dataclass
class _Searching:
    """One search at one task and model, and how far it is."""

    task: Task
    model: Model
    search: Search
    tried: list[Cell] = field(default_factory=list)
    chosen: Cell | None = None


class Stages:
    """Every cell that a study asks for so far, and how many runs are still to be decided."""

    def __init__(self, study: Study, scores: Mapping[str, float]) -> None:
        """Ask for everything that the scores allow.

        Args:
            study: The study.
            scores: Dev score of every finished run by its key; the constant answer's where a run
                diverged.

        Raises:
            SpecError: If a technique refuses a recipe that its search drew.
        """
        self._study, self._scores = study, dict(scores)
        self._asked: dict[tuple[str, Stage], CellPlan] = {}
        self._waiting: dict[str, _Searching] = {}  # by the keys of the tuning runs
        self._stage: dict[str, Stage] = {}  # by run key
        for cell in study.cells():
            seeds, text = tuple(study.each_seed(cell.task)), study.seeds_text(cell.task)
            self._ask(CellPlan(cell, "final", seeds, text))
        self._searches = [
            _Searching(task, model, search)
            for task, model in study.places()
            for search in study.searches
        ]
        for searching in self._searches:
            self._advance(searching)

    @property
    def asked(self) -> list[CellPlan]:
        """All cells so far; those that the file states first, then as searches asked for them."""
        return list(self._asked.values())

    @property
    def cells(self) -> list[Cell]:
        """Their cells, each once."""
        return list({asked.cell.key: asked.cell for asked in self.asked}.values())

    def runs(self, *stages: Stage) -> list[Run]:
        """The runs so far, tuning first, since choices wait for it; in each stage seed by seed.

        Args:
            *stages: Which; none for both.
        """
        found: list[Run] = []
        for stage in stages or STAGES:
            found += in_turn(asked.runs for asked in self.asked if asked.stage == stage)
        return found

    def stage(self, key: str) -> Stage:
        """The stage that asks for the run with this key."""
        return self._stage.get(key, "final")

    def sizes(self) -> dict[Stage, int]:
        """Runs of each stage at most, those to come included."""
        return {stage: len(self.runs(stage)) + self.still_to_come(stage) for stage in STAGES}

    def still_to_come(self, *stages: Stage) -> int:
        """Runs at most that searches will ask for.

        Args:
            *stages: Which; none for both.
        """
        counts = [self._to_come(each) for each in self._searches]
        return sum(count[stage] for count in counts for stage in stages or STAGES)

    def seconds_to_come(self, expected: Mapping[str, "Expected"]) -> float:
        """Seconds on one worker that those take, if they take what has been tried so far takes."""
        return sum(
            sum(self._to_come(each).values())
            * statistics.fmean(expected[cell.key].seconds for cell in each.tried)
            for each in self._searches
        )

    def _to_come(self, searching: _Searching) -> dict[Stage, int]:
        return {
            "tune": (self._trials - len(searching.tried)) * len(self._tuning_seeds),
            "final": 0 if searching.chosen else len(self._study.each_seed(searching.task)),
        }

    def tell(self, key: str, score: float) -> list[CellPlan]:
        """Note a finished run.

        Args:
            key: The run's.
            score: Its dev score; the constant answer's where it diverged.

        Returns:
            What is asked for from now on.
        """
        self._scores[key] = score
        searching = self._waiting.get(key)
        return self._advance(searching) if searching else []

    # --- one search ---

    @property
    def _trials(self) -> int:
        return self._study.tune.trials if self._study.tune else 0

    @property
    def _tuning_seeds(self) -> list[Seed]:
        return self._study.tune.each_seed() if self._study.tune else []

    def _advance(self, searching: _Searching) -> list[CellPlan]:
        """Ask for a batch after every batch that is whole, and for the choice after the last."""
        found: list[CellPlan] = []
        while searching.chosen is None:
            scores = [self._score(cell) for cell in searching.tried]
            if any(score is None for score in scores):
                break
            known = [score for score in scores if score is not None]
            if len(known) == self._trials:
                searching.chosen = searching.tried[known.index(max(known))]
                asked = [self._choice(searching, searching.chosen)]
            else:
                asked = self._batch(searching, known)
            for each in asked:
                self._ask(each)
            found += asked
        return found

    def _score(self, cell: Cell) -> float | None:
        """Mean dev score over the tuning seeds, higher is better; None while one is missing."""
        found = [self._scores.get(run.key) for run in self._asked[cell.key, "tune"].runs]
        if any(score is None for score in found):
            return None
        mean = statistics.fmean(score for score in found if score is not None)
        if math.isnan(mean):
            return -math.inf
        return metric_named(cell.task.metric).oriented(mean)

    def _batch(self, searching: _Searching, scores: list[float]) -> list[CellPlan]:
        from search_spaces.choosing import (
            choose,
            describe,
            flatten,
        )  # optuna loads where it is used

        study, search, tune = self._study, searching.search, self._study.tune
        assert tune is not None  # a study with searches has it
        drawn = choose(
            search.space, sampler=tune.sampler, trials=tune.trials, seed=tune.seed, scores=scores
        )
        final = study.seeds_text(searching.task)
        protocol = {
            **{"sampler": tune.sampler, "trials": tune.trials, "seed": tune.seed},
            **{"seeds": ranges(tune.seeds), "final_seeds": final},
            "optuna": version("optuna"),  # another version of TPE may choose otherwise
        }
        new = list(enumerate(drawn))[len(scores) :]
        cells = self._cells_of(searching, [value for _, value in new])
        found = []
        for (trial, value), cell in zip(new, cells, strict=True):
            about = {"trial": trial, "values": flatten(value), "space": describe(search.space)}
            text = json.dumps({**protocol, **about})
            searching.tried.append(cell)
            found.append(
                CellPlan(cell, "tune", tuple(tune.each_seed()), ranges(tune.seeds), 1, text)
            )
            self._waiting |= {run.key: searching for run in found[-1].runs}
        return found

    def _cells_of(self, searching: _Searching, drawn: "list[Draw]") -> list[Cell]:
        """The cells of drawn values.

        Raises:
            SpecError: With every value that the technique refuses together with its recipe.
        """
        study, search = self._study, searching.search
        shared = search.recipe or study.recipe_of(searching.task)
        cells, mistakes = [], []
        for value in drawn:
            try:
                technique = search.technique(**value.technique)
                made = Configuration(technique, recipe=shared.replace(**value.recipe))
                cells.append(study.cell(searching.task, searching.model, made))
                technique.recipe(cells[-1].recipe)  # trackers ask for it before a run does
            except SpecError as error:
                path = f"techniques[{study.techniques.index(search)}]"
                mistakes += [mistake.below(path) for mistake in error.mistakes]
        if mistakes:
            raise SpecError(f"study {study.name!r}", list(dict.fromkeys(mistakes)))
        return cells

    def _choice(self, searching: _Searching, cell: Cell) -> CellPlan:
        seeds = tuple(self._study.each_seed(cell.task))
        text = self._study.seeds_text(cell.task)
        origin = self._asked[cell.key, "tune"].search
        return CellPlan(cell, "final", seeds, text, len(searching.tried), origin)

    def _ask(self, asked: CellPlan) -> None:
        self._asked[asked.place] = asked  # a choice takes the place of the same one in the file
        self._stage |= {run.key: asked.stage for run in asked.runs}
