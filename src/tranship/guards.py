"""Guards: against use after the close, against a second caller where one is allowed, and against waiting on a
thread that does the work which is waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from tranship.errors import BusyError, ClosedError, TranshipError

__all__ = ["Gate", "OneReceiver", "ServiceThread", "check_may_block", "one_listener"]


class Gate:
    """Whether a backend is open.

    Args:
        url: of the backend, without secrets, for the error.

    Attributes:
        closed: it has been closed.
        failure: it has ended for this reason, and will not come back.
    """

    __slots__ = ("closed", "failure", "url")

    def __init__(self, url: str) -> None:
        self.url: str = url
        self.closed: bool = False
        self.failure: TranshipError | None = None

    def check(self) -> None:
        """Return while the backend is open.

        Raises:
            ClosedError: it has been closed.
            TranshipError: like the failure.
        """
        if self.closed:
            raise ClosedError(f"{self.url} is closed; open a new backend")
        if self.failure is not None:
            raise type(self.failure)(str(self.failure)) from self.failure


class OneReceiver:
    """Lets one call of a consumer's receive in at a time, for as long as its ``with`` block runs.

    Raises:
        BusyError: another one is in (case ``receive_one_at_a_time``).
    """

    __slots__ = ("busy",)

    def __init__(self) -> None:
        self.busy: bool = False

    def __enter__(self) -> None:
        if self.busy:
            raise BusyError("another receive is under way; a consumer has one receiver: make another consumer")
        self.busy = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.busy = False


def one_listener(listening: object | None) -> None:
    """Return if nobody listens to a backend's control channel yet.

    Args:
        listening: who does, or None.

    Raises:
        BusyError: somebody does.
    """
    if listening is not None:
        raise BusyError("this backend listens already; open another one for another worker")


class ServiceThread(threading.Thread):
    """A daemon thread of ours that others wait for: an I/O loop, a writer. Nothing may block on it."""

    def __init__(self, *, target: Callable[..., object], name: str, args: Iterable[Any] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)


def check_may_block() -> None:
    """Return if the current thread may wait for an answer of tranship's.

    Users' code gets onto our threads without knowing it: the garbage collector runs ``__del__`` anywhere.

    Raises:
        BusyError: it is a :class:`ServiceThread`, which would wait for itself.
    """
    thread = threading.current_thread()
    if isinstance(thread, ServiceThread):
        raise BusyError(
            f"a blocking call on tranship's own thread {thread.name!r} would wait for ever, and everybody with it; "
            "code that the garbage collector may call there (__del__, weakref callbacks) must leave such calls to "
            "another thread, for example through a queue; coroutines use AsyncClient"
        )
