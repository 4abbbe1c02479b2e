"""A clock for tests: hours pass when the test says so, and everything that waits for them happens at once.

::

    with VirtualClock() as clock, BackgroundWorker(Worker(url, tasks=[remind])), Client(url) as client:
        handle = client.submit(remind.options(delay=timedelta(days=1)), "A1")
        clock.advance(timedelta(days=1))
        assert handle.result(timeout=5) == "A1: please pay"

Nothing is simulated but the time: clients, workers, brokers and timers are the real ones. While the clock is in use
``time.time()``, ``time.monotonic()`` and ``time.sleep()`` of this process go by it, and with them every event loop of
asyncio's own; ``datetime.now()`` and other processes do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from tranship._running import is_in_loop
from tranship.checks import Duration, duration, invalid, positive
from tranship.errors import BusyError
from tranship.testing._calls import Calls
from tranship.worker import Worker

__all__ = ["VirtualClock"]

PATIENCE: Final = 30.0
"""Seconds, of the real time, that a loop may be busy before somebody is told that it is blocked."""
LOOK: Final = 0.0005
"""Seconds between two looks at threads that are at work."""
LONGEST: Final = 15.0
"""Seconds that pass at most in one step while a worker is run until it is idle; renewals of leases come more often."""

_MONOTONIC: Final = time.monotonic
_WALL: Final = time.time
_SLEEP: Final = time.sleep


class VirtualClock:
    """The time of this process, as long as it is in use (``with``). It goes on by itself, and it can be advanced.

    Because time goes on by itself too, nothing waits for ever: a ``timeout=5`` of a test ends after five seconds. One
    clock is in use at a time. What has passed stays passed on the monotonic clock for as long as an event loop that has
    seen it lives, as loops cannot go back.

    Args:
        start: what time it is at first, with a time zone; None: the real time.
        resolution: seconds; what is due within them of each other happens in one step.
        patience: seconds, of the real time, that a thread of a handler is waited for at each step; one that works for
            longer is taken for one that waits for something else.

    Raises:
        InvalidOptionError: a start without a time zone, or a resolution that is not above zero.
    """

    def __init__(self, start: datetime | None = None, *, resolution: float = 0.05, patience: float = 1.0) -> None:
        if start is not None and start.tzinfo is None:
            raise invalid("start", start, "a datetime with a time zone, such as datetime(2027, 3, 28, tzinfo=UTC)")
        self._start = start
        self._resolution = positive("resolution", resolution)
        self._calls = Calls(_MONOTONIC, positive("patience", patience))
        self._ahead = 0.0
        """What makes the wall clock begin at ``start``, or at the real time."""

    # In use.

    def __enter__(self) -> Self:
        """Put it in use.

        Raises:
            BusyError: another clock is.
        """
        _PROCESS.begin(self)
        real = _WALL()
        self._ahead = (real if self._start is None else self._start.timestamp()) - real - _PROCESS.passed
        self._calls.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls.end()
        _PROCESS.end()

    def time(self) -> float:
        """Return what time it is, in epoch seconds; what ``time.time()`` returns while the clock is in use."""
        return _WALL() + _PROCESS.passed + self._ahead

    # Time passes.

    def advance(self, seconds: Duration) -> None:
        """Let so much time pass, and return when everything that was due by then has been done.

        It goes from one timer to the next, and each time waits until no loop and no handler has anything to do: a retry
        after five seconds whose attempt fails is retried again after another five. What a handler waits for beside
        timers, such as a server, is not waited for.

        Raises:
            InvalidOptionError: it is less than zero.
            BusyError: called on an event loop, which has to run meanwhile: ``await clock.advance_async(...)``.
            TimeoutError: an event loop is blocked.
        """
        self._check()
        until = _PROCESS.monotonic() + duration("seconds", seconds)
        self._settle()
        while (left := until - _PROCESS.monotonic()) > 0:
            self._step(min(left, max(self._next() - _PROCESS.monotonic(), self._resolution)))

    async def advance_async(self, seconds: Duration) -> None:
        """The same from an event loop."""
        loop = asyncio.get_running_loop()
        passed: asyncio.Future[None] = loop.create_future()

        def tell(error: BaseException | None) -> None:
            if not passed.done():
                passed.set_result(None) if error is None else passed.set_exception(error)

        def work() -> None:
            try:
                self.advance(seconds)
            except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                loop.call_soon_threadsafe(tell, error)
            else:
                loop.call_soon_threadsafe(tell, None)

        # A thread of its own: those of the loop are what time waits for.
        threading.Thread(target=work, name="tranship-clock", daemon=True).start()
        await passed

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until ``moment``, which has a time zone.

        Raises:
            As :meth:`advance`; InvalidOptionError: it has passed already, or has no time zone.
        """
        if moment.tzinfo is None:
            raise invalid("moment", moment, "a datetime with a time zone")
        left = moment.timestamp() - self.time()
        if left < 0:
            raise invalid("moment", moment, f"one that has not passed: it is {self.time():.3f} (epoch seconds)")
        self.advance(left)

    def run_until_idle(self, worker: Worker, *, within: Duration = 7 * 24 * 3600.0) -> int:
        """Have ``worker``, which is not at work, do everything that is queued, delayed or to be retried, letting as
        much time pass as that takes; return how many deliveries it took.

        What is due later may happen up to a quarter of a minute late, where nothing else happens meanwhile.

        Args:
            worker: with no broker but one in this process: others have their own time.
            within: how much time may pass.

        Raises:
            TimeoutError: it was not idle by then, or an event loop is blocked.
            As :meth:`Worker.run_until_idle` and :meth:`advance`.
        """
        self._check()
        seconds = duration("within", within)
        work = _Work(worker, seconds)
        work.start()
        until, done, pause = _PROCESS.monotonic() + seconds, -1, self._resolution
        while not work.over():
            self._settle()
            status = worker.status()
            if work.over() or _PROCESS.monotonic() > until:
                break
            # Nothing happened: it waits for something that is further away than it looks for.
            quiet = status.done == done and not status.running and status.ready
            pause, done = (min(2 * pause, LONGEST) if quiet else self._resolution), status.done
            self._step(pause)
        return work.result()

    # Steps.

    def _check(self) -> None:
        if _PROCESS.clock is not self:
            raise BusyError("the clock is not in use: with VirtualClock() as clock: ...")
        if is_in_loop():
            raise BusyError("time passes on event loops, and this is one: await clock.advance_async(...)")

    def _step(self, seconds: float) -> None:
        _PROCESS.pass_by(seconds)
        self._calls.wake(_PROCESS.monotonic())
        self._settle()

    def _settle(self) -> None:
        """Return once nothing is left to do before the next timer: two looks in a row at all loops and threads."""
        looks, until = 0, _MONOTONIC() + PATIENCE
        while looks < 2:
            if _MONOTONIC() > until:
                raise TimeoutError(f"an event loop has had something to do for {PATIENCE:g} s; does a task never wait?")
            quiet = not [loop for loop in _PROCESS.loops() if not _quiet(loop)]
            if quiet and self._calls.at_work():
                quiet = False
                _SLEEP(LOOK)
            looks = looks + 1 if quiet else 0

    def _next(self) -> float:
        """Return when the next timer is due, on the monotonic clock."""
        timers = [due for loop in _PROCESS.loops() if (due := _due(loop)) is not None]
        return min([*timers, self._calls.next()])

    def sleep(self, seconds: float) -> None:
        """What ``time.sleep`` is meanwhile: it returns when so much time has passed, in whatever way."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self._calls.sleep(_PROCESS.monotonic, seconds)


class _Process:
    """The time of this process, of which there is one.

    Mutable state: how much has been let pass, which loops have seen it, and which clock is in use.
    """

    def __init__(self) -> None:
        self.passed = 0.0
        self.clock: VirtualClock | None = None
        self._seen: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self._real: dict[str, Any] = {}
        # Reentrant: the time may be asked for anywhere.
        self._lock = threading.RLock()

    def monotonic(self) -> float:
        """What ``time.monotonic`` is; a loop asks it each time that it looks at its timers."""
        loop = asyncio._get_running_loop()  # noqa: SLF001 - documented for just this: what is called very often
        if loop is not None and loop not in self._seen:
            with self._lock:
                self._seen.add(loop)
        return _MONOTONIC() + self.passed

    def time(self) -> float:
        """What ``time.time`` is."""
        return _WALL() if self.clock is None else self.clock.time()

    def sleep(self, seconds: float, /) -> None:
        """What ``time.sleep`` is."""
        (_SLEEP if self.clock is None else self.clock.sleep)(seconds)

    def begin(self, clock: VirtualClock) -> None:
        """Have ``clock`` in use."""
        with self._lock:
            if self.clock is not None:
                raise BusyError("another virtual clock is in use, and a process has one time")
            self.clock = clock
            # Loops that wait since before: asyncio has no list of them.
            for one in gc.get_objects():
                if issubclass(type(one), asyncio.BaseEventLoop):
                    self._seen.add(one)
        if not self._real:
            self._take_over()

    def _take_over(self) -> None:
        mine = {
            "time": self.time,
            "time_ns": lambda: int(self.time() * 1e9),
            "monotonic": self.monotonic,
            "monotonic_ns": lambda: int(self.monotonic() * 1e9),
            "sleep": self.sleep,
        }
        self._real = {name: getattr(time, name) for name in mine}
        for name, function in mine.items():
            setattr(time, name, function)

    def end(self) -> None:
        """Have the real time back, as far as no loop that lives has seen another one."""
        self.clock = None
        if all(loop.is_closed() for loop in self._loops()):
            self.passed = 0.0
        if not self.passed:
            for name, real in self._real.items():
                setattr(time, name, real)
            self._real = {}

    def pass_by(self, seconds: float) -> None:
        """Let so much time pass; every loop looks at its timers."""
        self.passed += seconds
        for loop in self.loops():
            _call_on(loop, _nothing)

    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """Return the loops that run now."""
        return [loop for loop in self._loops() if loop.is_running() and not loop.is_closed()]

    def _loops(self) -> list[asyncio.AbstractEventLoop]:
        with self._lock:
            return list(self._seen)


_PROCESS: Final = _Process()


class _Work:
    """A worker that works in a thread until it is idle."""

    def __init__(self, worker: Worker, seconds: float) -> None:
        self._worker, self._seconds = worker, seconds
        self._thread = threading.Thread(target=self._run, name=f"tranship-worker-{worker.name}", daemon=True)
        self._done: int | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def over(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> int:
        if not self.over():
            self._worker.stop(hurry=True)
        self._thread.join(PATIENCE)
        if self._error is not None:
            raise self._error
        if self._done is None:
            raise TimeoutError(f"{self._worker!r} did not end within {PATIENCE:g} s")
        return self._done

    def _run(self) -> None:
        try:
            self._done = self._worker.run_until_idle(timeout=self._seconds)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asks
            self._error = error


def _nothing() -> None:
    """Be called: a loop that is woken looks at its timers."""


def _call_on(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> bool:
    # It may be closed meanwhile; then there is nothing to do on it.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)
        return True
    return False


def _quiet(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether ``loop`` has nothing to do before its next timer."""
    found: list[bool] = []
    looked = threading.Event()

    def look() -> None:
        due = _due(loop)
        found.append(not loop._ready and (due is None or due > loop.time()))  # type: ignore[attr-defined]  # noqa: SLF001
        looked.set()

    def later() -> None:
        loop.call_soon(look)

    # In the next round of the loop: in this one, that it was woken is still to be dealt with.
    if not _call_on(loop, later):
        return True
    until = _MONOTONIC() + PATIENCE
    while not looked.wait(0.1):
        if not loop.is_running():
            return True
        if _MONOTONIC() > until:
            raise TimeoutError(f"{loop!r} has been blocked for {PATIENCE:g} s: what blocks belongs in a def task")
    return found[0]


def _due(loop: asyncio.AbstractEventLoop) -> float | None:
    """Return when the next timer of ``loop`` is due; None: it has none."""
    timers = list(loop._scheduled)  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio tells it nowhere else
    return min((one.when() for one in timers if not one.cancelled()), default=None)
