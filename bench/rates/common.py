"""One simulated rate and how its page shows it."""

from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True)
class Rate:
    """How often something happens that a caption makes a promise about.

    Attributes:
        promise: What is promised, in the words of the caption.
        case: The simulated situation: sizes, failures, correlation.
        count: In how many trials it happened.
        trials: Number of trials.
        bar: The promised rate.
        coverage: Whether the rate is a coverage, to be at least `bar`; otherwise an error rate, to
            be at most `bar`.
        before: The same rate before the method was mended, as a share; None where nothing changed.
    """

    promise: str
    case: str
    count: int
    trials: int
    bar: float
    coverage: bool = False
    before: float | None = None

    @property
    def rate(self) -> float:
        """Share of the trials."""
        return self.count / self.trials

    @property
    def error(self) -> float:
        """Monte Carlo standard error of the rate."""
        return sqrt(self.rate * (1 - self.rate) / self.trials)

    @property
    def met(self) -> bool:
        """Whether the promise holds, within two standard errors."""
        slack = 2 * sqrt(self.bar * (1 - self.bar) / self.trials)
        if self.coverage:
            return self.rate >= self.bar - slack
        return self.rate <= self.bar + slack
