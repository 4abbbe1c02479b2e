"""Commands to workers over one link, and the answers to them. Loaded by who sends the first."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tranship.client._onlooking import Onlooking
from tranship.commanding import CommandAnswer, CommandCall, CommandState, answer_of, call_message
from tranship.ports import Backend, Command, Signal

__all__ = ["Commanding"]


@dataclass(slots=True)
class _Asked:
    """A call that waits for its answers."""

    expected: frozenset[str]
    """Names of the workers that should answer."""
    answers: dict[tuple[str, str], CommandAnswer] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, answer: CommandAnswer) -> None:
        who = answer.worker, answer.instance
        known = self.answers.get(who)
        # What was sent last may come first, over another broker.
        if known is None or known.state is CommandState.RUNNING:
            self.answers[who] = answer
            self.news.set()

    @property
    def done(self) -> bool:
        """Whether everybody has answered for good who should."""
        ended = {one.worker for one in self.answers.values() if one.state is not CommandState.RUNNING}
        open_ones = any(one.state is CommandState.RUNNING for one in self.answers.values())
        return bool(self.expected) and self.expected <= ended and not open_ones


class Commanding:
    """Of one link, on its loop.

    Args:
        backend: opened; with CONTROL.
        onlooking: hears what it brings.
    """

    def __init__(self, backend: Backend, onlooking: Onlooking) -> None:
        self._backend = backend
        self._control = backend.control()
        self._onlooking = onlooking
        self._asked: dict[str, _Asked] = {}

    async def command(
        self, name: str, arguments: Mapping[str, Any], workers: Sequence[str] | None, timeout: float
    ) -> list[CommandAnswer]:
        """Send a command, and return what workers answer within ``timeout`` seconds, by name; those that should be
        there and have not answered are SILENT.

        Raises:
            InvalidArgumentsError, EncodeError: arguments that are too large, or that JSON does not know.
            BrokerUnreachable.
        """
        call = CommandCall(id=secrets.token_hex(8), name=name, arguments=arguments)
        message = call_message(call, workers)
        await self._onlooking.listen(self._heard)
        expected = await self._expected(workers)
        asked = self._asked[call.id] = _Asked(frozenset(expected))
        try:
            await self._control.send(message)
            await _until_done(asked, timeout)
        finally:
            del self._asked[call.id]
        return _with_silent(asked)

    async def _expected(self, workers: Sequence[str] | None) -> Sequence[str]:
        if workers is not None:
            return workers
        return [one.worker for one in await self._backend.inspector().workers() if not one.stopping]

    def _heard(self, signals: Sequence[Signal]) -> None:
        if not self._asked:
            return
        for one in signals:
            found = answer_of(one) if isinstance(one, Command) else None
            if found is not None and (asked := self._asked.get(found[0])) is not None:
                asked.take(found[1])


async def _until_done(asked: _Asked, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            while not asked.done:
                asked.news.clear()
                await asked.news.wait()
    except TimeoutError:
        return


def _with_silent(asked: _Asked) -> list[CommandAnswer]:
    answered = {one.worker for one in asked.answers.values()}
    silent = [CommandAnswer(worker=name, state=CommandState.SILENT) for name in asked.expected - answered]
    return sorted([*asked.answers.values(), *silent], key=lambda one: (one.worker, one.instance))
