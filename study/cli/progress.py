"""Progress display of a running study: a live line on a terminal, else one line per minute."""

import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from analysis.rendering.formatting import possible, score_with_interval
from study.execution.queue import Progress
from study.tracking.summary import summary

if TYPE_CHECKING:
    from study.tracking.writer import TrackingWriter


PLAIN_SECONDS = 60.0
LIVE_SECONDS = 0.5
ROUGH = 2.0  # factor within which an estimate from sizes alone usually lies


@contextmanager
def shown(progress: Progress, tracking: "TrackingWriter") -> Iterator[None]:
    """Show progress on standard error until the block ends."""
    over = threading.Event()
    terminal = sys.stderr.isatty()
    console = Console(stderr=True)

    def watch_live() -> None:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            while not over.wait(LIVE_SECONDS):
                live.update(Text(line(progress, tracking)))

    def watch_plain() -> None:
        while not over.wait(PLAIN_SECONDS):
            console.print(line(progress, tracking), highlight=False, markup=False, soft_wrap=True)

    thread = threading.Thread(target=watch_live if terminal else watch_plain, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def line(progress: Progress, tracking: "TrackingWriter") -> str:
    """Progress in one line: counts, remaining time, and the best cell so far."""
    parts = [f"{progress.finished}/{progress.total} runs"]
    if progress.workers:
        left = max(0, progress.missing - len(progress.problems))
        parts.append(f"{min(progress.workers, left)} running")
    if progress.problems:
        parts.append(f"{len(progress.problems)} missing")
    if progress.retried:
        parts.append(retried(progress))
    seconds = progress.seconds_left()
    if seconds is not None:
        parts.append(f"{duration(seconds)} left")
    elif not progress.workers:
        parts.append("starting workers")
    if waits := progress.trouble or progress.shortage:
        parts.append(f"waiting: {waits}")
    if tracking.trouble:
        parts.append(f"MLflow: {tracking.trouble}")
    if best := _best(tracking):
        parts.append(best)
    return " · ".join(parts)


def retried(progress: Progress) -> str:
    """How often runs were retried, by cause: `3 retried (2 machine, 1 memory)`."""
    causes = ", ".join(f"{count} {cause}" for cause, count in progress.retried.items())
    return f"{progress.retried.total()} retried ({causes})"


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def span_text(seconds: float, *, rough: bool) -> str:
    """An estimate as text: `about 3 min`, or a range where it is rough, `roughly 2 to 6 min`."""
    if not rough:
        return f"about {duration(seconds)}"
    low, high = duration(seconds / ROUGH), duration(seconds * ROUGH)
    return f"roughly {low} to {high}"


def _best(tracking: "TrackingWriter") -> str | None:
    best: tuple[float, str] | None = None
    cells = tracking.scores_by_cell()
    if len({name.split("/")[0] for name, _, _ in cells}) > 1:
        return None  # scores of different tasks are not comparable
    for name, metric, records in cells:
        if all(record.collapsed for record in records):
            continue  # none has learnt anything, however they compare
        values = summary(records, len(records))
        mean, low, high = values["dev_mean"], values["dev_low"], values["dev_high"]
        sign = 1 if metric.higher_is_better else -1
        if math.isfinite(high - low) and (best is None or sign * mean > best[0]):
            scale = 100 if metric.bounded else 1
            ends = possible(low, high, metric=metric.name, scale=scale)
            score = score_with_interval(mean, *ends, scale=scale)
            best = (sign * mean, f"best on dev {name} {score} (n = {int(values['n'])})")
    return best[1] if best else None
