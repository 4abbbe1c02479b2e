"""The loop of a worker's I/O: beside the handlers' loop in its thread while they behave, in a thread of its own after.

It never runs in two threads at once, and what waits on it stays where it is when it moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import selectors
import threading
from asyncio import _enter_task, _leave_task, _set_running_loop
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final

from tranship._running import keep_running, wind_up
from tranship.guards import ServiceThread
from tranship.worker._forked import keep_out

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

__all__ = ["IOLoop"]

_TURNS: Final = 20
"""Turns of the I/O loop in one step: then the handlers' loop has its turn."""


class _Selector(selectors.DefaultSelector):
    """Ends a step where the loop would begin to wait: the handlers' loop waits in its place, one wait for both.

    That one watches copies of the descriptors. A number that is closed in another thread may have become something
    else by the time that it is told.

    Attributes:
        stepped: whether the loop is stepped; otherwise it waits.
        end_step: as ``loop.stop``.
        left: turns left in this step.
        pause: seconds for which the loop would have waited; None: until something comes.
    """

    end_step: Callable[[], None]
    _handlers: asyncio.AbstractEventLoop
    _step: Callable[[], None]

    def __init__(self) -> None:
        super().__init__()
        self.stepped = False
        self.left = 0
        self.pause: float | None = 0.0
        self._events: list[tuple[selectors.SelectorKey, int]] = []
        self._copies: dict[int, int] = {}

    def wait_on(self, handlers: asyncio.AbstractEventLoop, step: Callable[[], None]) -> None:
        """From now on ``handlers`` waits, and calls ``step``.

        Raises:
            NotImplementedError, OSError: it cannot, as on Windows.
        """
        self._handlers, self._step = handlers, step
        for key in self.get_map().values():
            self._watch(key)
        self.stepped = True

    def let_go(self) -> None:
        """From the handlers' loop, or after its end: it watches nothing any more."""
        for fd in list(self._copies):
            self._forget(fd)

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        if self.stepped:
            self._watch(key)
        return key

    def modify(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        key = super().modify(fileobj, events, data)
        if self.stepped:
            self._forget(key.fd)
            self._watch(key)
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        if self.stepped:
            self._forget(key.fd)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.stepped:
            return super().select(timeout)
        if self._events:
            events, self._events = self._events, []
            return events
        self.left -= 1
        if self.left <= 0:
            self.end_step()
        elif timeout != 0:
            # What was sent in this step may have been answered by now, where the broker is near.
            if events := super().select(0):
                return events
            self.pause = timeout
            self.end_step()
        return []

    def _watch(self, key: selectors.SelectorKey) -> None:
        copy = self._copies[key.fd] = os.dup(key.fd)
        if key.events & selectors.EVENT_READ:
            self._handlers.add_reader(copy, self._tell, key, selectors.EVENT_READ)
        if key.events & selectors.EVENT_WRITE:
            self._handlers.add_writer(copy, self._tell, key, selectors.EVENT_WRITE)

    def _forget(self, fd: int) -> None:
        copy = self._copies.pop(fd, None)
        if copy is None:
            return
        # Its loop may have been closed, and what it watched with that.
        with contextlib.suppress(RuntimeError):
            self._handlers.remove_reader(copy)
            self._handlers.remove_writer(copy)
        os.close(copy)

    def _tell(self, key: selectors.SelectorKey, event: int) -> None:
        if self.stepped:
            self._events.append((key, event))
            self._step()


class IOLoop:
    """A loop beside the running one, which is the handlers'.

    At first it is *stepped*: the handlers' loop watches what it waits for and its next timer, and calls it when there
    is something to do. That costs no switch of threads. Who blocks the handlers' loop stops it: :meth:`move`.

    Args:
        name: of its thread, once it has one.

    Attributes:
        loop: it.
        handlers: the loop beside it.
        thread_id: the thread of that one.
    """

    def __init__(self, name: str) -> None:
        self.handlers = asyncio.get_running_loop()
        keep_out(self.handlers)
        # One for what is called on each loop: nobody may be in a context twice.
        self._here, self._there = contextvars.copy_context(), contextvars.copy_context()
        self._selector = _Selector()
        self.loop = asyncio.SelectorEventLoop(self._selector)
        self._selector.end_step = self.loop.stop
        self.thread_id = threading.get_ident()
        self._main: asyncio.Task[None] | None = None
        # Reentrant: what the garbage collector ends during a step may hand something over.
        self._turn = threading.RLock()
        """Held while it is stepped, and to change what says who runs it."""
        self._stepped = True
        self._ends = False
        """Whether this step ends with this turn, so that the handlers' loop has its turn at once."""
        self._closing = False
        self._next: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ServiceThread(target=self._run, name=name)
        try:
            self._selector.wait_on(self.handlers, self._step)
        except (NotImplementedError, OSError):
            self._selector.let_go()
            self._have_a_thread()

    def move(self) -> bool:
        """Run it in a thread of its own from now on; any thread. False: it is being stepped right now."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            if self._stepped:
                with contextlib.suppress(RuntimeError):
                    self.handlers.call_soon_threadsafe(self._step_no_more)
                self._have_a_thread()
        finally:
            self._turn.release()
        return True

    def _have_a_thread(self) -> None:
        self._stepped = self._selector.stepped = False
        self._thread.start()

    def beside(self) -> bool:
        """From this loop: whether tasks may be made on the handlers' loop from here. It has its turn at once."""
        if self._ends:
            return True
        # A factory may begin what it makes at once, on the loop that runs: this one.
        if not self._stepped or self.handlers.get_task_factory() is not None:
            return False
        self._selector.end_step()
        self._ends = True
        return True

    def to_io(self, callback: Callable[[], None]) -> None:
        """From the handlers' loop: have this one call ``callback``, once the current turn of that one is over."""
        with self._turn:
            if self._stepped:
                self.loop.call_soon(callback, context=self._there)
                self._step_soon()
                return
        self.handlers.call_soon(_from_afar, self.loop, callback, self._there, context=self._here)

    def to_handlers(self, callback: Callable[[], None]) -> None:
        """From this loop: have the handlers' loop call ``callback``, once the current turn of this one is over."""
        if self._stepped:
            self.handlers.call_soon(callback, context=self._here)
        else:
            self.loop.call_soon(_from_afar, self.handlers, callback, self._here, context=self._there)

    async def run(self, main: Coroutine[Any, Any, None]) -> None:
        """From the handlers' loop: run ``main`` on this one, and return or raise what it does, and only then.

        Each cancellation of the caller is one of ``main``.
        """
        done = self.handlers.create_future()

        def start() -> None:
            self._main = self.loop.create_task(main)
            self._main.add_done_callback(lambda _task: _from_afar(self.handlers, tell, self._here))

        def tell() -> None:
            if not done.done():
                done.set_result(None)

        self.loop.call_soon_threadsafe(start, context=self._there)
        cancelled = False
        while not done.done():
            try:
                await asyncio.wait({done})
            except asyncio.CancelledError:
                cancelled = True
                self.loop.call_soon_threadsafe(self._cancel)
        assert self._main is not None
        self._main.result()
        if cancelled:
            raise asyncio.CancelledError

    def abandon(self) -> None:
        """The handlers' loop has been closed; any thread."""
        if not self._stepped:
            self._selector.let_go()
            self.loop.call_soon_threadsafe(self._cancel)

    def close(self) -> None:
        """From the handlers' loop: end it, once nothing of value runs on it."""
        with self._turn:
            stepped, self._stepped, self._selector.stepped = self._stepped, False, False
        if stepped:
            self._step_no_more()
            with _set_aside(self.handlers):
                wind_up(self.loop)
        else:
            self._closing = True
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    # Stepped.

    def _step(self) -> None:
        with self._turn:
            if not self._stepped:
                return
            self._selector.left, self._selector.pause = _TURNS, 0.0
            _set_running_loop(None)
            try:
                self.loop.run_forever()
            finally:
                self._ends = False
                _set_running_loop(self.handlers)
                self._plan(self._selector.pause)

    def _plan(self, pause: float | None) -> None:
        """Step again in ``pause`` seconds, or when the selector has something."""
        if pause == 0:
            self._step_soon()
        elif pause is not None:
            at = self.handlers.time() + pause
            # One that is early does no harm, and most are put off long before they are due.
            if self._timer is None or self._timer.when() > at:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = self.handlers.call_at(at, self._step_due, context=self._here)

    def _step_soon(self) -> None:
        if self._next is None:
            self._next = self.handlers.call_soon(self._step_next, context=self._here)

    def _step_next(self) -> None:
        self._next = None
        self._step()

    def _step_due(self) -> None:
        self._timer = None
        self._step()

    def _step_no_more(self) -> None:
        self._selector.let_go()
        for handle in (self._next, self._timer):
            if handle is not None:
                handle.cancel()

    # In a thread of its own.

    def _run(self) -> None:
        try:
            keep_running(self.loop, lambda: self._closing)
        finally:
            wind_up(self.loop)


@contextlib.contextmanager
def _set_aside(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Within, another loop may run in this thread, although a task of the running ``loop`` is being executed.

    From Python 3.14 on a thread has one current task, whatever loops there are.
    """
    task = asyncio.current_task(loop)
    if task is not None:
        _leave_task(loop, task)
    _set_running_loop(None)
    try:
        yield
    finally:
        _set_running_loop(loop)
        if task is not None:
            _enter_task(loop, task)


def _from_afar(loop: asyncio.AbstractEventLoop, callback: Callable[[], None], context: contextvars.Context) -> None:
    # Nobody is there any more when it has been closed.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, context=context)
