"""What ``tranship top`` shows, and what its keys ask for; nothing here talks to a broker or to a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tranship.cli._output import age
from tranship.display import visible
from tranship.envelope import DeadLetter
from tranship.operations import Percentiles, QueueReport, Sample, Sampler
from tranship.ports import Heartbeat, RunningTask

__all__ = ["VIEWS", "Action", "Look", "Screen"]

VIEWS: Final = ("queues", "tasks", "workers", "dead letters")
BARS: Final = " ▁▂▃▄▅▆▇█"
SHOWN: Final = 20
"""Samples in a line of bars."""
HELP: Final = (
    "1-4 or Tab: views   up, down: choose   p: pause queue   u: resume it   c: cancel task   r: replay dead letters   "
    "q: quit"
)


class Action(NamedTuple):
    """Something that a key asks for."""

    verb: str
    """``pause``, ``resume``, ``cancel``, ``replay`` or ``replay-queue``."""
    target: str
    question: str
    """What is asked before it is done; empty: nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen at one moment."""

    queues: Sequence[QueueReport] = ()
    workers: Sequence[Heartbeat] = ()
    dead: Sequence[DeadLetter] = ()
    run_times: Mapping[str, Percentiles] = field(default_factory=dict)
    """By queue, of the attempts that workers remember."""

    @property
    def running(self) -> list[tuple[RunningTask, Heartbeat]]:
        """The tasks that run, the longest running first."""
        found = [(task, worker) for worker in self.workers for task in worker.running]
        return sorted(found, key=lambda one: one[0].since or 0.0)


@dataclass(slots=True)
class Screen:
    """One terminal: which view is shown, what is chosen in it, what was said last. Not thread-safe.

    Args:
        place: where the broker is, without secrets.
    """

    place: str
    sampler: Sampler = field(default_factory=Sampler)
    look: Look = Look()
    view: str = VIEWS[0]
    said: str = ""
    """What became of the last key, or what is wrong."""
    asked: Action | None = None
    """What waits for a yes."""
    _chosen: dict[str, int] = field(default_factory=dict)

    def see(self, look: Look) -> None:
        """Take what was seen."""
        self.look = look
        self.sampler.take(look.queues, look.workers)

    def press(self, key: str) -> Action | None:
        """Take a key, and return what is to be done now."""
        if self.asked is not None:
            action, self.asked = self.asked, None
            self.said = "" if key == "y" else "nothing was done"
            return action if key == "y" else None
        if key == "\t":
            self.view = VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)]
        elif key in "1234":
            self.view = VIEWS[int(key) - 1]
        elif key in ("up", "down", "k", "j"):
            self._chosen[self.view] = self._at() + (1 if key in ("down", "j") else -1)
        else:
            return self._ask(self._action(key))
        return None

    def _ask(self, action: Action | None) -> Action | None:
        if action is None or not action.question:
            return action
        self.asked, self.said = action, f"{action.question} y: yes, any other key: no"
        return None

    def _action(self, key: str) -> Action | None:
        names = self._targets()
        if not names:
            return None
        target = names[self._at()]
        if self.view == "queues" and key in "pu":
            return Action("pause" if key == "p" else "resume", target, "")
        if self.view == "queues" and key == "r":
            return Action("replay-queue", target, f"Replay all dead letters of {target}?")
        if self.view == "tasks" and key == "c":
            return Action("cancel", target, f"Cancel task {target}?")
        if self.view == "dead letters" and key == "r":
            return Action("replay", target, f"Replay {target}?")
        return None

    def _targets(self) -> list[str]:
        named: dict[str, Callable[[], list[str]]] = {
            "queues": lambda: [one.name for one in self.look.queues],
            "tasks": lambda: [task.id for task, _ in self.look.running],
            "workers": lambda: [one.worker for one in self.look.workers],
            "dead letters": lambda: [one.id for one in self.look.dead],
        }
        return named[self.view]()

    def _at(self) -> int:
        return max(0, min(self._chosen.get(self.view, 0), len(self._targets()) - 1))

    # What is shown.

    def render(self, height: int = 30) -> RenderableType:
        """Return all of it, in so many lines."""
        tabs = "  ".join(
            f"[{at}] {name}" if name == self.view else f" {at}  {name}" for at, name in enumerate(VIEWS, 1)
        )
        return Group(
            self._head(),
            Text(tabs, "bold"),
            self._table(max(3, height - 8)),
            Text(visible(self.said), "yellow"),
            Text(HELP, "dim"),
        )

    def _head(self) -> Text:
        latest, slots = self.sampler.latest(), sum(one.limit for one in self.look.workers)
        busy = sum(one.busy for one in self.look.workers)
        line = f"{time.strftime('%X')}  {visible(self.place)}  workers {len(self.look.workers)}, slots {busy}/{slots}"
        if latest is not None:
            line += f"\nready {latest.ready:g}, {_speeds(latest)}  {self._bars(None)}"
        return Text(line)

    def _table(self, rows: int) -> Table:
        views = {
            "queues": self._queues,
            "tasks": self._tasks,
            "workers": self._workers,
            "dead letters": self._dead_letters,
        }
        columns, made = views[self.view]()
        table = Table(box=box.SIMPLE_HEAD, expand=True)
        for column in columns:
            table.add_column(column.lstrip("#"), justify="right" if column.startswith("#") else "left", no_wrap=True)
        first = max(0, self._at() - rows + 1)
        for at, row in enumerate(made[first : first + rows], first):
            cells = [Text("" if one is None else visible(str(one))) for one in row]
            table.add_row(*cells, style="reverse" if at == self._at() else "")
        return table

    def _queues(self) -> tuple[list[str], list[list[Any]]]:
        columns = ["queue", "#ready", "#delayed", "#running", "#dead", "#oldest", "#workers", "#rate", "#failing"]
        rows = [self._queue(one) for one in self.look.queues]
        return [*columns, "#p50/p95/p99" if self.look.run_times else "#run time", "tasks per second"], rows

    def _queue(self, queue: QueueReport) -> list[Any]:
        latest = self.sampler.latest(queue.name)
        oldest = age(queue.oldest_age) if queue.oldest_age else None
        facts = [queue.name, queue.backlog, queue.delayed, queue.in_flight, queue.dead, oldest, queue.workers]
        if latest is None:
            return facts
        run_time = self._run_time(queue.name, latest)
        return [*facts, f"{latest.rate:.3g}/s", f"{latest.failing:.3g}/s", run_time, self._bars(queue.name)]

    def _run_time(self, queue: str, latest: Sample) -> str | None:
        """The percentiles where any are known, or else the mean of the last seconds: a terminal is not wide."""
        if not self.look.run_times:
            return None if latest.run_time is None else f"{latest.run_time:.3g} s"
        found = self.look.run_times.get(queue)
        return None if found is None else "/".join(map(_short, (found.p50, found.p95, found.p99))) + " s"

    def _tasks(self) -> tuple[list[str], list[list[Any]]]:
        columns = ["id", "task", "queue", "#for", "#attempt", "#done", "worker", "note"]
        return columns, [_task(*one) for one in self.look.running]

    def _workers(self) -> tuple[list[str], list[list[Any]]]:
        return ["worker", "host", "#pid", "#slots", "#cpu", "queues"], [_worker(one) for one in self.look.workers]

    def _dead_letters(self) -> tuple[list[str], list[list[Any]]]:
        rows = [
            [one.id, one.task, one.queue, age(max(0.0, time.time() - one.died_at)), f"{one.reason}: {one.detail}"]
            for one in self.look.dead
        ]
        return ["id", "task", "queue", "#since", "why"], rows

    def _bars(self, queue: str | None) -> str:
        rates = [one.rate for one in self.sampler.series(queue)][-SHOWN:]
        highest = max(rates, default=0.0)
        return "".join(BARS[round(rate / highest * (len(BARS) - 1))] if highest else BARS[0] for rate in rates)


def _speeds(sample: Sample) -> str:
    run_time = "" if sample.run_time is None else f", run time {sample.run_time:.3g} s"
    return f"{sample.rate:.3g}/s ended, {sample.failing:.3g}/s failed, {sample.retrying:.3g}/s retried{run_time}"


def _short(seconds: float) -> str:
    return f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"


def _task(task: RunningTask, worker: Heartbeat) -> list[Any]:
    running = None if task.since is None else age(max(0.0, time.time() - task.since))
    done = None if task.progress is None else f"{task.progress:.0%}"
    return [task.id, task.task, task.queue, running, task.attempt + 1, done, worker.worker, task.note]


def _worker(one: Heartbeat) -> list[Any]:
    cpu = None if one.figures.process_cpu is None else f"{one.figures.process_cpu:.0%}"
    return [one.worker, one.host, one.pid, f"{one.busy}/{one.limit}", cpu, ", ".join(one.queues)]
