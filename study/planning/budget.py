"""How long a start of a study may go on, and what it may cost."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from study.core.spec import Mistake, Spec


class Budget(Spec):
    """When a start of a study ends, whatever is missing then; the next start has it anew.

    Runs under way are finished, no new ones begin.

    Attributes:
        hours: Since the start.
        price: What the cluster may cost since the start, in the currency of `hourly`.
        hourly: Price of a GPU for an hour, or of a core where runs are on CPUs. All that the
            cluster holds is counted, idle or not.
    """

    hours: float | None = Field(default=None, gt=0)
    price: float | None = Field(default=None, gt=0)
    hourly: float | None = Field(default=None, gt=0)

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """A limit on the price needs an hourly one."""
        if fields.get("price") is not None and fields.get("hourly") is None:
            return [Mistake("hourly", "is missing: price= needs the price of a GPU hour.")]
        return []


class Meter:
    """What a start of a study has used of its budget."""

    def __init__(self, budget: Budget, held: Callable[[], float]) -> None:
        """Start to count.

        Args:
            budget: The limits.
            held: GPUs that the cluster has now, or cores where runs are on CPUs.
        """
        self._budget, self._units = budget, held
        self._began = self._read = time.monotonic()
        self._held = 0.0  # hours of GPUs, or of cores

    def spent(self) -> str | None:
        """Count on, and say which limit is reached, if one is."""
        now, limits = time.monotonic(), self._budget
        if limits.price is not None:
            self._held += self._units() * (now - self._read) / 3600
        self._read = now
        if limits.hours is not None and now - self._began >= limits.hours * 3600:
            return f"its budget of {limits.hours:g} hours is spent"
        if limits.price is not None and self._held * (limits.hourly or 0.0) >= limits.price:
            return f"its budget of {limits.price:g} is spent ({self._held:.1f} hours)"
        return None
