"""What operators command over the control channel: heard once, obeyed, and answered, whatever it is."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from tranship.checks import name_text, positive
from tranship.commanding import (
    BUILT_IN,
    CommandAnswer,
    CommandCall,
    CommandState,
    answer_message,
    call_of,
)
from tranship.errors import InvalidOptionError, TranshipError
from tranship.ports import Command, ControlChannel, Signal
from tranship.worker._live import LiveControl
from tranship.worker._own_commands import OwnCommands, check_fits

__all__ = ["RemoteCommands"]

log = logging.getLogger("tranship.worker")

SOON: Final = 0.5
"""Seconds after which it is answered that a command still runs."""
MOST: Final = 100
"""Commands at once; what comes beyond is not heard."""
MOST_OWN: Final = 10
"""Of those, commands of the owner: a function that never returns has a thread for itself."""
REMEMBERED: Final = 1_000
"""Calls that are known when they come again: over each of several brokers, or twice over one."""
TELLING: Final = 5.0
"""Seconds that an answer may take."""
LAST: Final = 1.0
"""Seconds that commands which run get when the worker stops: one of them may have stopped it."""
SHOWN: Final = 10
"""Changes that a status tells."""


Tell = Callable[[CommandAnswer], Awaitable[None]]


class RemoteCommands:
    """Those of one worker at work, on its I/O loop.

    Args:
        control: brings them, and takes the answers; None: there is none.
        name: the worker's.
        instance: what tells it from others of that name.
        live: obeys.
        own: what its owner has added.
        tasks: names of its tasks.
        obeyed: called when one was obeyed: something may have changed.
    """

    def __init__(
        self,
        control: ControlChannel | None,
        name: str,
        instance: str,
        *,
        live: LiveControl,
        own: OwnCommands,
        tasks: Collection[str],
        obeyed: Callable[[], None],
    ) -> None:
        self._control = control
        self._name = name
        self._instance = instance
        self._live = live
        self._own = own
        self._tasks = tasks
        self._obeyed = obeyed
        self._known: dict[str, None] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._own_running = 0
        self._ended = False
        self._built_in: dict[str, Callable[..., Any]] = dict(
            zip(
                BUILT_IN,
                (
                    self._status,
                    self._pause,
                    self._resume,
                    self._consume,
                    self._concurrency,
                    self._rate,
                    self._run_timeout,
                    self._log_level,
                    self._drain,
                    self._stop,
                    self._restart,
                ),
                strict=True,
            )
        )

    def heard(self, signals: Sequence[Signal]) -> None:
        """Begin to obey what the control channel brings."""
        for one in signals:
            call = call_of(one) if isinstance(one, Command) else None
            if call is not None and not self._ended and self._is_new(call):
                if len(self._jobs) < MOST:
                    self._start(self.obey(call, partial(self._send, call.id)))
                else:
                    log.warning("command %.100r is not heard: %d others are being obeyed", call.name, MOST)

    async def end(self) -> None:
        """Hear nothing any more; return when what was heard is answered, or after a moment."""
        self._ended = True
        self._live.close()
        if self._jobs:
            await asyncio.wait(set(self._jobs), timeout=LAST)
        for job in self._jobs:
            job.cancel()

    def _is_new(self, call: CommandCall) -> bool:
        if call.id in self._known:
            return False
        self._known[call.id] = None
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return True

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def obey(self, call: CommandCall, tell: Tell) -> None:
        """Do one command, whoever brings it, and ``tell`` what became of it; before that, that it runs, if it takes
        long.
        """
        state, value, error = await self._done(call, tell)
        if error:
            log.warning("command %.100r was not obeyed: %.1000s", call.name, error)
        await tell(self._answer(state, value=value, error=error))
        self._obeyed()

    def _answer(self, state: CommandState, *, value: Any = None, error: str = "") -> CommandAnswer:
        return CommandAnswer(worker=self._name, instance=self._instance, state=state, value=value, error=error)

    async def _send(self, call_id: str, answer: CommandAnswer) -> None:
        assert self._control is not None
        try:
            async with asyncio.timeout(TELLING):
                await self._control.send(answer_message(call_id, answer))
        except (TranshipError, TimeoutError) as failed:
            log.warning("a command could not be answered: %s", failed or "the broker does not answer")

    async def _done(self, call: CommandCall, tell: Tell) -> tuple[CommandState, Any, str]:
        """What became of it, what it says, and why it was not done."""
        try:
            if call.name in self._own.functions:
                return await self._done_by_owner(call, tell)
            if call.name not in self._built_in:
                return CommandState.UNKNOWN, None, self._unknown(call.name)
            command = self._built_in[call.name]
            check_fits(call.name, command, call.arguments)
            value = command(**call.arguments)
            return CommandState.DONE, await value if isinstance(value, Awaitable) else value, ""
        except (TranshipError, TypeError, ValueError) as refused:
            return CommandState.REFUSED, None, str(refused)

    async def _done_by_owner(self, call: CommandCall, tell: Tell) -> tuple[CommandState, Any, str]:
        check_fits(call.name, self._own.functions[call.name], call.arguments)
        if self._own_running >= MOST_OWN:
            raise InvalidOptionError(
                f"{MOST_OWN} commands of its owner run here and have not ended, which is the limit"
            )
        self._own_running += 1
        running = asyncio.create_task(self._own.call(call.name, call.arguments))
        running.add_done_callback(self._own_ended)
        await asyncio.wait({running}, timeout=SOON)
        if not running.done():
            await tell(self._answer(CommandState.RUNNING))
        try:
            return CommandState.DONE, await running, ""
        except Exception as error:
            log.info("command %r failed", call.name, exc_info=error)
            return CommandState.FAILED, None, f"{type(error).__name__}: {error}"

    def _own_ended(self, _job: asyncio.Task[Any]) -> None:
        self._own_running -= 1

    def _unknown(self, name: str) -> str:
        known = [*BUILT_IN, *sorted(self._own.functions)]
        close = difflib.get_close_matches(name[:100], known, n=1)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        return f"this worker has no command {name!r:.100}{guess} (it has: {', '.join(known)})"

    # What every worker has.

    def _status(self) -> Any:
        return {
            "queues": list(self._live.queues),
            "paused": list(self._live.paused),
            "paused_types": list(self._live.paused_types),
            "concurrency": self._live.concurrency,
            "rates": {name: rate for name in self._tasks if (rate := self._live.rate_limit(name)) is not None},
            "draining": self._live.draining,
            "commands": sorted(self._own.functions),
            "changes": [{"at": one.at, "what": one.what} for one in list(self._live.changes)[-SHOWN:]],
        }

    def _pause(self, queue: str | None = None, type: str | None = None) -> str:  # noqa: A002 - JSON has that name
        if type is not None:
            self._live.pause_type(name_text("type", type))
        if queue is not None:
            self._live.check_consumed(name_text("queue", queue))
        for one in self._named(queue, type):
            self._live.pause(one)
        return self._takes()

    def _resume(self, queue: str | None = None, type: str | None = None) -> str:  # noqa: A002 - JSON has that name
        if type is not None:
            self._live.resume_type(name_text("type", type))
        if queue is not None:
            name_text("queue", queue)
        for one in self._named(queue, type):
            self._live.resume(one)
        return self._takes()

    def _named(self, queue: str | None, kind: str | None) -> Sequence[str]:
        if queue is not None:
            return [queue]
        return self._live.known if kind is None else ()

    async def _consume(self, queue: str) -> str:
        await self._live.consume(queue)
        return self._takes()

    def _concurrency(self, limit: int) -> str:
        before = self._live.concurrency
        self._live.set_concurrency(limit)
        return f"runs {limit} at once, instead of {before}"

    def _rate(self, task: str, per_second: float | None = None) -> str:
        self._live.set_rate_limit(task, None if per_second is None else positive("per_second", per_second))
        return f"starts {task} " + ("as it comes" if per_second is None else f"{per_second:g} times a second at most")

    def _run_timeout(self, task: str, seconds: float | None = None) -> str:
        self._live.set_run_timeout(task, seconds)
        return f"lets {task} run " + ("as long as it says" if seconds is None else f"{seconds:g} s at most")

    def _log_level(self, level: str, logger: str = "tranship") -> str:
        self._live.set_log_level(level, logger)
        return f"logs {level.upper()} and graver of {logger}"

    def _drain(self) -> str:
        self._live.drain()
        return "takes nothing more, and stops when it has nothing left to do"

    def _stop(self) -> str:
        self._live.stop("an operator told it to")
        return "stops"

    def _restart(self) -> str:
        self._live.restart()
        return "runs handlers in new threads and processes, or begins anew as a whole"

    def _takes(self) -> str:
        queues, paused, types = self._live.queues, self._live.paused, self._live.paused_types
        parts = [f"takes from {', '.join(queues) or 'no queue'}"]
        if paused:
            parts.append(f"paused: {', '.join(paused)}")
        if types:
            parts.append(f"paused types: {', '.join(types)}")
        return "; ".join(parts)
