"""What the parts of one start of a study share."""

from dataclasses import dataclass

from study.execution.notify import Notifier
from study.execution.queue import Progress, RunQueue
from study.execution.saved_models import ModelStore
from study.planning.study import Study
from study.tracking.writer import TrackingWriter


@dataclass(frozen=True)
class Session:
    """One start of a study in this process, the driver.

    Attributes:
        study: The study.
        queue: The runs to execute.
        tracking: Takes the results.
        models: Takes the trained models.
        notifier: Sends notifications of trouble and of the end.
    """

    study: Study
    queue: RunQueue
    tracking: TrackingWriter
    models: ModelStore
    notifier: Notifier

    @property
    def progress(self) -> Progress:
        """How far the study is."""
        return self.queue.progress
