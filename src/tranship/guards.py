"""Guards of a backend's ports: against use after the close, and against a second caller where one is allowed."""

from __future__ import annotations

from types import TracebackType

from tranship.errors import BusyError, ClosedError

__all__ = ["Gate", "OneReceiver", "one_listener"]


class Gate:
    """Whether a backend is open.

    Args:
        url: of the backend, without secrets, for the error.
    """

    __slots__ = ("closed", "url")

    def __init__(self, url: str) -> None:
        self.url = url
        self.closed = False

    def check(self) -> None:
        """Return while the backend is open.

        Raises:
            ClosedError: it has been closed.
        """
        if self.closed:
            raise ClosedError(f"{self.url} is closed; open a new backend")


class OneReceiver:
    """Lets one call of a consumer's receive in at a time, for as long as its ``with`` block runs.

    Raises:
        BusyError: another one is in (case ``receive_one_at_a_time``).
    """

    __slots__ = ("busy",)

    def __init__(self) -> None:
        self.busy = False

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
