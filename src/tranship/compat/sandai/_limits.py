"""Slots: how many hand-overs, reads and deletions may be under way at once, and a fair line for them.

A *broker slot* is one hand-over that the broker has not confirmed yet: of one task, or of a whole batch. A
*backend slot* is one read of states, or one deletion of results, that has not been answered yet. Whoever waits for a
result holds no slot: all waiters of a process share one subscription. The slots of a sharing key are the same for
blocking and asynchronous callers, for all threads and event loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Hashable

from tranship.compat.sandai.exceptions import ClientPoolTimeoutError

__all__ = ["SlotTable", "Slots"]


class _Turn:
    """One caller in the line, on its own loop."""

    __slots__ = ("granted", "loop", "wake")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.wake: asyncio.Future[None] = self.loop.create_future()
        self.granted = False

    def call(self) -> None:
        """Wake the caller up; on its loop."""
        if not self.wake.done():
            self.wake.set_result(None)


class Slots:
    """A number of slots, handed out in the order in which callers came. Any thread, any event loop.

    Args:
        name: what errors call them: ``"broker"`` or ``"backend"``.
        limit: how many there are.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        # Mutable state: the free slots and the line, changed only under the lock.
        self._lock = threading.Lock()
        self._free = limit
        self._line: deque[_Turn] = deque()

    @property
    def taken(self) -> int:
        """How many are in use."""
        return self.limit - self._free

    @property
    def waiting(self) -> int:
        """How many callers stand in line."""
        return len(self._line)

    async def acquire(self, timeout: float) -> None:
        """Take a slot; give it back with :meth:`release`.

        Raises:
            ClientPoolTimeoutError: none was free for ``timeout`` seconds.
        """
        with self._lock:
            # Whoever is in line has an earlier claim.
            if self._free and not self._line:
                self._free -= 1
                return
            turn = _Turn()
            self._line.append(turn)
        try:
            async with asyncio.timeout(timeout):
                await turn.wake
        except TimeoutError:
            if self._leave(turn):
                raise ClientPoolTimeoutError(self.name, timeout, self.limit) from None
        except BaseException:
            if not self._leave(turn):
                self.release()
            raise

    def release(self) -> None:
        """Give a slot to the next in line, or back."""
        while True:
            with self._lock:
                if not self._line:
                    self._free += 1
                    return
                turn = self._line.popleft()
                turn.granted = True
            # A loop that has been closed took its callers along: the next one, then.
            with contextlib.suppress(RuntimeError):
                turn.loop.call_soon_threadsafe(turn.call)
                return

    @contextlib.asynccontextmanager
    async def one(self, timeout: float) -> AsyncIterator[None]:
        """Hold a slot for the length of a block."""
        await self.acquire(timeout)
        try:
            yield
        finally:
            self.release()

    def _leave(self, turn: _Turn) -> bool:
        """Leave the line; False: the slot has been granted already."""
        with self._lock:
            if turn.granted:
                return False
            self._line.remove(turn)
            return True


class SlotTable:
    """The slots of a process, by sharing key, for as long as a client has them. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: weakref.WeakValueDictionary[Hashable, Slots] = weakref.WeakValueDictionary()

    def get(self, key: Hashable, name: str, limit: int) -> Slots:
        """The slots of ``key``, made if there are none."""
        with self._lock:
            slots = self._slots.get(key)
            if slots is None:
                slots = self._slots[key] = Slots(name, limit)
            return slots
