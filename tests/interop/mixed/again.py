"""What the run log shows: why a task ran again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from interop.mixed.fleet import Death
from interop.mixed.log import Run
from interop.mixed.plan import Canvas

UNSETTLED = 3.0
"""Seconds after the end of a run within which its worker's death may have come before the acknowledgement."""
KILLED = "its worker was killed while it ran"
UNACKNOWLEDGED = "its worker was killed before it had acknowledged"
SENT_AGAIN = "a task that sends it had run again"
OUT_OF_TIME = "a Celery worker held it for longer than the visibility timeout"
UNEXPLAINED = "nothing explains it"


def duplicates(
    canvases: Sequence[Canvas], runs: Mapping[str, Sequence[Run]], deaths: Sequence[Death], visibility: float
) -> tuple[Counter[str], list[str]]:
    """Return how many runs were not the first of their task, by the reason, and the ids that nothing explains."""
    reasons: Counter[str] = Counter()
    unexplained: list[str] = []
    for canvas in canvases:
        again = {task_id for task_id in canvas.ids if len(runs.get(task_id, ())) > 1}
        for task_id in again:
            sent_again = not again.isdisjoint(canvas.senders(task_id))
            found = list(_reasons(runs[task_id], deaths, visibility, sent_again=sent_again))
            reasons.update(found)
            unexplained += [task_id] * found.count(UNEXPLAINED)
    return reasons, unexplained


def _reasons(runs: Sequence[Run], deaths: Sequence[Death], visibility: float, *, sent_again: bool) -> Iterator[str]:
    """Yield why each run but the first began."""
    for place in range(1, len(runs)):
        before, this = runs[:place], runs[place]
        if any(_killed(one, deaths) for one in before if one.ended is None):
            yield KILLED
        elif any(_killed(one, deaths) for one in before):
            yield UNACKNOWLEDGED
        elif sent_again:
            yield SENT_AGAIN
        elif any(one.kind == "celery" and this.started - one.started > visibility for one in before):
            yield OUT_OF_TIME
        else:
            yield UNEXPLAINED


def _killed(run: Run, deaths: Sequence[Death]) -> bool:
    """Whether its process was killed while it ran, or soon after."""
    until = float("inf") if run.ended is None else run.ended + UNSETTLED
    return any(one.seat == run.seat and one.pid in (None, run.pid) and run.started <= one.at <= until for one in deaths)
