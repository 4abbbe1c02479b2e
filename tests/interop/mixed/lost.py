"""Canvases that have not ended: which task is missing, and who had it last."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from interop.mixed.fleet import Death
from interop.mixed.log import Run
from interop.mixed.plan import Canvas

ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LINE: Final = re.compile(r"\[?(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3})\b.*?(?P<text>[Tt]ask .*)")


@dataclass(frozen=True, order=True)
class Mention:
    """A line of a worker's log that names a task: that it was received, has ended, or came again."""

    at: str
    seat: str
    text: str


@dataclass(frozen=True)
class Loss:
    """A canvas that has not ended.

    Attributes:
        canvas: which.
        who: ``celery`` or ``tranship``, whoever had the missing task last, or had to send it; ``nobody``: it was sent, and
            no worker has noted that it took it. On Redis a Celery worker takes a message first and notes it then.
        story: what the logs say of it.
    """

    canvas: Canvas
    who: str
    story: str


def looked_into(canvas: Canvas, results: Mapping[str, tuple[str, object]]) -> Canvas:
    """Return a canvas whose end was not seen with what ``results`` tell: which task failed, or has no result."""
    for task_id in canvas.ids:
        state, value = results.get(task_id, ("", None))
        if not state:
            return replace(canvas, missing=task_id)
        if state != "SUCCESS":
            return replace(canvas, state=state, value=value)
    return replace(canvas, state=state, value=value)  # it has ended since the last look


def mentions(logs: Iterable[Path], runs: Mapping[str, Sequence[Run]], ids: Collection[str]) -> dict[str, list[Mention]]:
    """Return what the workers' logs say of these tasks, and their runs, in order; a log is named for its worker."""
    found: dict[str, list[Mention]] = defaultdict(list)
    for task_id in ids:
        for run in runs.get(task_id, ()):
            at = datetime.fromtimestamp(run.started).astimezone().strftime("%Y-%m-%d %H:%M:%S,%f")[:23]
            found[task_id].append(Mention(at, run.seat, f"task {task_id} began to run"))
    for path in logs:
        seat = path.stem.partition("-")[2]
        for line in path.read_text(errors="replace").splitlines():
            said = _LINE.match(line)
            for task_id in ID.findall(line) if said else ():
                if said and task_id in ids:
                    found[task_id].append(Mention(said["at"], seat, said["text"]))
    return {task_id: sorted(each) for task_id, each in found.items()}


def loss(
    canvas: Canvas, counted: Collection[str], said: Mapping[str, Sequence[Mention]], deaths: Sequence[Death]
) -> Loss:
    """Say who had what is missing of a canvas.

    Args:
        canvas: one that has not ended.
        counted: the members of its chord that Redis has counted.
        said: of every task of the canvas, what the logs say of it.
        deaths: of workers; those that had its tasks are part of the story.
    """
    senders = canvas.senders(canvas.missing)
    uncounted = [one for one in senders if one not in counted] if counted else []
    had: Sequence[str] = [canvas.missing]
    if counted and canvas.missing not in said:
        # Its senders have ended, and not all of them have been counted, or nobody has sent it after that.
        had = uncounted or senders
    lines = sorted(mention for task_id in had for mention in said.get(task_id, ()))
    seats = {mention.seat for task_id in canvas.ids for mention in said.get(task_id, ())}
    killed = "; ".join(
        f"{one.seat}{'' if one.pid is None else ' (one process)'} at {one.at:.3f}"
        for one in deaths
        if one.seat in seats
    )
    story = (
        f"canvas {canvas.number}, a {canvas.kind}, lacks task {canvas.ids.index(canvas.missing)}, {canvas.missing}; "
        + (f"its chord has counted all but {uncounted}; " if uncounted else "")
        + (f"its chord has counted all {len(counted)}; " if counted and not uncounted else "")
        + "; ".join(f"{one.at} {one.seat}: {one.text[:90]}" for one in lines[-4:])
        + f"; killed: {killed or 'nobody who had any of it'}"
    )
    return Loss(canvas, lines[-1].seat.partition("-")[0] if lines else "nobody", story)
