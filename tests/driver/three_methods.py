"""The smallest driver: send, take and end, in this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from tranship.driver import DriverBackend, End, Ending, LocalConnection, Outgoing, Slot, Taken, TakenBatch
from tranship.hookspecs import BackendSpec, hookimpl
from tranship.ports import Settled
from tranship.settings import BackendConfig, CommonOptions


class ThreeMethods:
    """A queue that can be sent to, taken from, and told how it ended."""

    def __init__(self) -> None:
        self.ready: deque[Outgoing] = deque()
        self.held: dict[int, Outgoing] = {}
        self.took = 0

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[None]:
        self.ready.extend(batch)
        return [None] * len(batch)

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        found = [one for slot in slots for one in self.ready if one.slot == slot][:limit]
        return TakenBatch([self._held(one) for one in found])

    def _held(self, message: Outgoing) -> Taken:
        self.ready.remove(message)
        self.took += 1
        self.held[self.took] = message
        return Taken(self.took, message.queue, message.level, message.data)

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled]:
        return [self._end(one) for one in endings]

    def _end(self, ending: Ending) -> Settled:
        message = self.held.pop(ending.token, None)
        if message is not None and ending.end is not End.REMOVE:
            self.ready.appendleft(message)
        return Settled.LOST if message is None else Settled.CONFIRMED


def make_backend(config: BackendConfig) -> DriverBackend:
    options = config.options_as(CommonOptions)
    queue = config.shared(("three", config.url.host, options.namespace), ThreeMethods)

    async def connect() -> LocalConnection:
        await asyncio.sleep(0)
        return LocalConnection(queue)

    return DriverBackend("three", config, options=options, connect=connect)


@hookimpl
def tranship_register_backends(register: Callable[[BackendSpec], None]) -> None:
    register(
        BackendSpec(name="three", schemes=("three",), factory="driver.three_methods:make_backend", api_version=(2, 0))
    )
