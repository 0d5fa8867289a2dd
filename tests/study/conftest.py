"""What several tests of single modules share."""

import pytest

from study import Recipe, Standard, Study
from study.planning.runs import Run


@pytest.fixture
def runs(task, model) -> list[Run]:
    """Three seeds of one cell, each trained in a moment."""
    return Study(
        name="s",
        tasks=[task],
        models=[model],
        recipe=Recipe(lr=1e-2, epochs=1, batch_size=8, max_length=32),
        techniques=[Standard()],
        seeds=range(3),
    ).runs()
