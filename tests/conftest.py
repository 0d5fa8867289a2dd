"""What most tests need: a tiny model, a tiny task, and a run of them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from study.core.paths import Home
from study.core.recipe import Recipe
from study.core.seeding import Seed
from study.models.families import depths_of
from study.models.loading import Loaded
from study.models.model import Model
from study.tasks import Task
from study.tasks.kinds import Classification
from study.tasks.kinds.encoded import Encoded
from study.tasks.metrics import METRICS
from study.techniques import Standard, Technique
from study.techniques.state import TrainState
from study.testing import tiny_model, tiny_task
from study.training.fit import Setting
from study.training.prepare import Prepared, prepare
from study.training.train import Outcome, train
from tests.needs import pytest_terminal_summary  # noqa: F401  (a hook)
from tests.once import empty_store  # noqa: F401  (a fixture)

PAIRS = Classification(("no", "yes"))
CPU = torch.device("cpu")
RECIPE = Recipe(lr=1e-2, epochs=2, batch_size=8)


def pytest_configure() -> None:
    """Let Ray keep the priority of its workers; lowered, they starve beside other tests."""
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (Ray's own spelling)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, and begin with the slow tests.

    So the end-to-end tests run beside the many short ones, and not beside each other at the end.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Home:  # noqa: F811
    """A home with an empty store of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Home(tmp_path / "home")
    home.root.mkdir()
    shutil.copy(empty_store, home.root / "mlflow.db")
    return home


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return tiny_task(tmp_path_factory.mktemp("tiny") / "task")


@pytest.fixture(scope="session")
def loaded(model: Model) -> Loaded:
    return Loaded(model, PAIRS)


@pytest.fixture(scope="session")
def prepared(task: Task, loaded: Loaded) -> Prepared:
    return prepare(task.load(), loaded.processor, 32)


@pytest.fixture(scope="session")
def data(prepared: Prepared) -> dict[str, Encoded]:
    return prepared.splits


@pytest.fixture
def tiny_state(loaded: Loaded) -> TrainState:
    fresh = loaded.fresh(Seed(0, 0, 0), None)
    return TrainState(
        fresh, Recipe(lr=1.0), Seed(0, 0, 0), depths_of(fresh), CPU, PAIRS, lambda: iter(())
    )


RATES: list[float] = []


class RateRecorder(Technique):
    """Records the head's learning rate of every step in `RATES`; clear that before."""

    def after_step(self, state: TrainState) -> None:
        RATES.append(state.rates["classifier.weight"])


Runner = Callable[..., Outcome]


@pytest.fixture
def tiny_run(data: dict[str, Encoded], loaded: Loaded) -> Runner:
    """One run; keywords change the recipe, `technique` and `seed` the rest."""

    def run(
        technique: Technique | None = None, seed: Seed = Seed(0, 0, 0), **recipe: object
    ) -> Outcome:
        setting = Setting(
            RECIPE.replace(**recipe), technique or Standard(), seed, METRICS["accuracy"], PAIRS
        )
        return train(setting, data, loaded, CPU)[0]

    return run
