"""`Budget`: time and cost limits of a study, and the meter that enforces them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from study.core.spec import Mistake, Spec


class Budget(Spec):
    """Limits for each start of a study; when one is reached, no new runs begin.

    Runs in progress are finished. The next start of the study has the full budget again.

    Attributes:
        hours: Maximum hours since the start.
        price: Maximum cost of the cluster since the start, in the currency of `hourly`.
        hourly: Price per GPU-hour, or per core-hour for runs on CPUs. All GPUs or cores of the
            cluster count, busy or idle.

    Example:
        >>> from study import Budget
        >>> Budget(price=50, hourly=1.01).price
        50.0
    """

    hours: float | None = Field(default=None, gt=0)
    price: float | None = Field(default=None, gt=0)
    hourly: float | None = Field(default=None, gt=0)

    @classmethod
    def rules(cls, fields: Mapping[str, Any]) -> list[Mistake]:
        """A price limit needs an hourly price."""
        if fields.get("price") is not None and fields.get("hourly") is None:
            text = "is missing: `price` needs it, the price per GPU-hour (per core-hour on CPUs)."
            return [Mistake("hourly", text)]
        return []


class Meter:
    """The part of a budget that has been used since the start."""

    def __init__(self, budget: Budget, units: Callable[[], float]) -> None:
        """Start metering.

        Args:
            budget: The limits.
            units: Returns the number of GPUs that the cluster has now, or of cores for runs on
                CPUs.
        """
        self._budget, self._units = budget, units
        self._began = self._read = time.monotonic()
        self._unit_hours = 0.0

    def spent(self) -> str | None:
        """Update the meter.

        Returns:
            The limit that has been reached, as a message; None if there is none.
        """
        now, limits = time.monotonic(), self._budget
        if limits.price is not None:
            self._unit_hours += self._units() * (now - self._read) / 3600
        self._read = now
        if limits.hours is not None and now - self._began >= limits.hours * 3600:
            return f"its budget of {limits.hours:g} hours is spent"
        if limits.price is not None and self._unit_hours * (limits.hourly or 0.0) >= limits.price:
            return f"its budget of {limits.price:g} is spent ({self._unit_hours:.1f} hours)"
        return None
