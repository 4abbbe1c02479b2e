"""SIGTERM and SIGINT while something of ours is at work.

Not by an event loop's handlers: those wait for whatever blocks the loop, and the wake-up descriptor they need is
inherited by forked children, whose own signals then arrive in the parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

__all__ = ["heard", "may_be_ctrl_c", "signal_name"]

_NUMBERS: Final = (signal.SIGTERM, signal.SIGINT)


class _Handler:
    """What is installed for one signal.

    Attributes:
        number: the signal.
        before: what was installed before, and what forked children get back.
    """

    def __init__(self, number: signal.Signals, call: Callable[[signal.Signals], None], *, once: bool) -> None:
        self.number = number
        # None: by something other than Python, which cannot put it back.
        self.before: Any = signal.getsignal(number) or signal.SIG_DFL
        self._call = call
        self._once = once

    def __call__(self, _number: int, _frame: Any) -> None:
        if self._once:
            signal.signal(self.number, self.before)
        self._call(self.number)


@contextlib.contextmanager
def heard(handler: Callable[[signal.Signals], None], *, once: bool = False) -> Iterator[None]:
    """Have SIGTERM and SIGINT call ``handler``, also while something blocks the main thread's event loop.

    Nothing changes for children that are forked meanwhile, and nothing at all outside of the main thread.

    Args:
        handler: told which it was, and called between two instructions of whatever the main thread does: it takes no
            lock and writes no log.
        once: a signal that comes again is left to what was there before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    installed = [_Handler(number, handler, once=once) for number in _NUMBERS]
    for one in installed:
        signal.signal(one.number, one)
    try:
        yield
    finally:
        for one in installed:
            current: object = signal.getsignal(one.number)
            # Somebody may have put his own there meanwhile.
            if current is one:
                signal.signal(one.number, one.before)


def signal_name(number: int) -> str:
    """Return what the signal is called here, such as ``"SIGKILL"``; where it has no name, its number."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def may_be_ctrl_c() -> bool:
    """Whether a KeyboardInterrupt that has just been raised here may be a user's Ctrl-C: nobody hears the signal."""
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


class _Forks:
    """Gives forked children the handlers back that were there before ours. Registered with the interpreter once."""

    def __init__(self) -> None:
        self._forking = threading.local()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._parent, after_in_child=self._child)

    def _before(self) -> None:
        ours = [number for number in _NUMBERS if isinstance(signal.getsignal(number), _Handler)]
        # A signal for a child that has our handlers still would be lost: it waits until they are gone.
        self._forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ours) if ours else None

    def _child(self) -> None:
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if isinstance(handler, _Handler):
                while isinstance(handler, _Handler):
                    handler = handler.before
                signal.signal(number, handler)
        self._parent()

    def _parent(self) -> None:
        if self._forking.mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._forking.mask)


_Forks()
