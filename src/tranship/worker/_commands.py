"""What programs of Celery's ask a worker and tell it to do: each command by Celery's name for it, checked, and obeyed.

What is asked is answered by :class:`Answers`, what is to change is done by :class:`LiveControl`; here stands only which
command is what. Whatever is wrong with one is raised, and so answered to who has sent it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship.errors import InvalidOptionError, UnknownTask
from tranship.worker._answers import Answers
from tranship.worker._live import LiveControl

if TYPE_CHECKING:
    from tranship.worker._events import TaskEvents

__all__ = ["CeleryCommands", "rate_of"]

_PER: Final[Mapping[str, float]] = {"s": 1.0, "m": 60.0, "h": 3600.0}
_ITEMS: Final = ("exchange", "routing_key", "rate_limit")
"""What is said of each task that is registered, unless it is asked otherwise."""
MOST_ITEMS: Final = 50
MOST_IDS: Final = 10_000

Arguments = Mapping[str, Any]


class CeleryCommands:
    """Those of one worker at work; a :data:`~tranship.ports.Panel`.

    Args:
        answers: what is answered.
        live: what is changed.
        events: what tells of tasks; None: nothing does.
    """

    def __init__(self, answers: Answers, live: LiveControl, events: TaskEvents | None) -> None:
        self._answers = answers
        self._live = live
        self._events = events
        self._asked: Mapping[str, Callable[[Arguments], Any]] = {
            "active": self._active,
            "dump_active": self._active,
            "reserved": lambda _: answers.reserved(),
            "dump_reserved": lambda _: answers.reserved(),
            # Tasks that are not due yet are on the broker's schedule, not here.
            "scheduled": lambda _: [],
            "dump_schedule": lambda _: [],
            "stats": lambda _: answers.stats(),
            "registered": self._registered,
            "dump_tasks": self._registered,
            "active_queues": lambda _: answers.active_queues(),
            "conf": self._conf,
            "dump_conf": self._conf,
            "report": lambda _: {"ok": answers.report()},
            "query_task": lambda asked: answers.query(_several(asked, "ids", MOST_IDS)),
            "rate_limit": self._rate_limit,
            "time_limit": self._time_limit,
            "cancel_consumer": self._cancel_consumer,
            "pool_grow": lambda asked: self._grow(_count(asked), "grow"),
            "pool_shrink": lambda asked: self._grow(-_count(asked), "shrink"),
            "pool_restart": self._restart,
            "autoscale": self._autoscale,
            "shutdown": self._shutdown,
            "enable_events": lambda _: self._tell_of_tasks(on=True),
            "disable_events": lambda _: self._tell_of_tasks(on=False),
            "heartbeat": self._heartbeat,
            # Celery's workers elect who does something for all of them. None of ours takes part.
            "election": lambda _: None,
        }
        self._waited_for: Mapping[str, Callable[[Arguments], Awaitable[Any]]] = {"add_consumer": self._add_consumer}

    async def __call__(self, method: str, arguments: Arguments) -> Any:
        """Do what ``method`` says, and return the answer.

        Raises:
            KeyError: there is no such command.
            TypeError, ValueError, TranshipError: it cannot be done as it was said.
        """
        if (slow := self._waited_for.get(method)) is not None:
            return await slow(arguments)
        try:
            command = self._asked[method]
        except KeyError:
            raise KeyError(method[:100]) from None
        return command(arguments)

    # What is asked.

    def _active(self, asked: Arguments) -> Any:
        return self._answers.active(safe=bool(asked.get("safe")))

    def _registered(self, asked: Arguments) -> Any:
        items = _several(asked, "taskinfoitems", MOST_ITEMS) or _ITEMS
        return self._answers.registered(items, builtins=bool(asked.get("builtins")))

    def _conf(self, asked: Arguments) -> Any:
        return self._answers.conf(with_defaults=bool(asked.get("with_defaults")))

    # What is changed.

    def _rate_limit(self, asked: Arguments) -> Any:
        name, said = _text(asked, "task_name"), asked.get("rate_limit")
        try:
            per_second = rate_of(said)
        except ValueError as error:
            return {"error": f"Invalid rate limit string: {error!r}"}
        try:
            self._live.set_rate_limit(name, per_second)
        except UnknownTask:
            return {"error": "unknown task"}
        if per_second is None:
            self._answers.rates.pop(name, None)
            return {"ok": "rate limit disabled successfully"}
        self._answers.rates[name] = str(said)
        return {"ok": "new rate limit set successfully"}

    def _time_limit(self, asked: Arguments) -> Any:
        hard, soft = _seconds(asked, "hard"), _seconds(asked, "soft")
        try:
            # There is one limit here, which a handler sees coming no more than Celery's hard one.
            self._live.set_run_timeout(_text(asked, "task_name"), hard or soft)
        except UnknownTask:
            return {"error": "unknown task"}
        return {"ok": "time limits set successfully"}

    async def _add_consumer(self, asked: Arguments) -> Any:
        queue = _text(asked, "queue")
        for name in ("exchange", "routing_key"):
            if asked.get(name) not in (None, "", queue):
                raise ValueError(
                    f"{name} is {asked[name]!r:.100}; a queue is consumed here by its own name, {queue!r:.100}"
                )
        await self._live.consume(queue)
        return {"ok": f"add consumer {queue}"}

    def _cancel_consumer(self, asked: Arguments) -> Any:
        queue = _text(asked, "queue")
        self._live.pause(queue)
        return {"ok": f"no longer consuming from {queue}"}

    def _grow(self, by: int, how: str) -> Any:
        self._live.set_concurrency(self._live.concurrency + by)
        return {"ok": f"pool will {how}"}

    def _restart(self, _asked: Arguments) -> Any:
        self._live.restart()
        return {"ok": "reload started"}

    def _autoscale(self, _asked: Arguments) -> Any:
        raise ValueError("Autoscale not enabled")

    def _shutdown(self, _asked: Arguments) -> Any:
        self._live.stop("it was told to by remote control")
        return {"ok": "shutting down"}

    # What is told.

    def _tell_of_tasks(self, *, on: bool) -> Any:
        if self._events is None:
            return {"error": "event dispatcher unavailable"}
        already = "already " if self._events.tells_of_tasks is on else ""
        self._events.tells_of_tasks = on
        return {"ok": f"task events {already}{'enabled' if on else 'disabled'}"}

    def _heartbeat(self, _asked: Arguments) -> None:
        if self._events is not None:
            self._events.beat()


def rate_of(said: Any) -> float | None:
    """Return how many per second Celery's ``said`` means: ``"10/m"``, ``"5"``, ``0.5``; None: any number.

    Raises:
        ValueError: it means nothing.
    """
    if said is None or said in ("", 0):
        return None
    if isinstance(said, bool) or not isinstance(said, str | int | float):
        raise ValueError(f"{said!r:.100} is no rate; expected such as '10/m'")  # noqa: TRY004 - answered as such
    number, slash, unit = said.partition("/") if isinstance(said, str) else (said, "", "")
    per = _PER.get(unit if slash else "s")
    rate = float(number) / per if per is not None else -1.0
    if not 0 <= rate < float("inf"):
        raise ValueError(f"{said!r:.100} is no rate; expected such as '10/s', '10/m' or '10/h'")
    return rate or None


def _text(asked: Arguments, name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name} is {'missing' if name not in asked else f'{value!r:.100}'}; expected a text")
    return value


def _several(asked: Arguments, name: str, most: int) -> Sequence[str]:
    value = asked.get(name)
    several = [value] if isinstance(value, str) else value or []
    if not isinstance(several, list) or not all(isinstance(one, str) for one in several) or len(several) > most:
        raise TypeError(f"{name} is {value!r:.100}; expected a list of at most {most} texts")
    return several


def _count(asked: Arguments) -> int:
    value = asked.get("n", 1)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidOptionError(f"n is {value!r:.100}; expected a whole number")
    return value


def _seconds(asked: Arguments, name: str) -> float | None:
    value = asked.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
        raise TypeError(f"{name} is {value!r:.100}; expected seconds")
    return value
