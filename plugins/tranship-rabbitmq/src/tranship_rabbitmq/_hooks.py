"""What has to be done after each connect, again and again until it is done."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tranship.errors import BrokerUnreachable, TranshipError
from tranship_rabbitmq.amqp.ends import Ended

__all__ = ["Hook", "Hooks"]

log = logging.getLogger("tranship.rabbitmq")

Hook = Callable[[], Awaitable[None]]

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class Hooks:
    """The hooks of one connection.

    Args:
        is_up: whether there is a connection at the moment.
    """

    def __init__(self, is_up: Callable[[], bool]) -> None:
        self._is_up = is_up
        self._hooks: list[Hook] = []
        self._catching_up: asyncio.Task[None] | None = None

    def add(self, hook: Hook) -> Callable[[], None]:
        """Add one; return what removes it."""
        self._hooks.append(hook)

        def remove() -> None:
            with contextlib.suppress(ValueError):
                self._hooks.remove(hook)

        return remove

    async def run(self) -> None:
        """Run all; those that fail are tried again beside everything else.

        Raises:
            TranshipError: the connection has gone meanwhile.
        """
        failed = [hook for hook in list(self._hooks) if not await self._is_run(hook)]
        if failed:
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up(failed))

    def interrupt(self) -> None:
        """The connection has gone: all of them are run when it is back."""
        if self._catching_up is not None:
            self._catching_up.cancel()

    async def aclose(self) -> None:
        """Run no more."""
        self.interrupt()
        if self._catching_up is not None:
            await asyncio.wait({self._catching_up})

    async def _catch_up(self, hooks: Sequence[Hook]) -> None:
        pause = _FIRST_PAUSE
        while hooks:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                hooks = [hook for hook in hooks if not await self._is_run(hook)]
            except TranshipError:
                return

    async def _is_run(self, hook: Hook) -> bool:
        """Run it, and say whether it did what it has to.

        Raises:
            TranshipError: it did not, and the connection has gone.
        """
        try:
            await hook()
        except (TranshipError, Ended) as error:
            if not self._is_up():
                raise error if isinstance(error, TranshipError) else BrokerUnreachable(str(error)) from error
            log.warning("after connecting again, tried again soon: %s", error)
            return False
        return True
