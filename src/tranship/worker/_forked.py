"""A child that a handler forks ends where the handler ends, and never comes back into the worker.

It has a copy of everything: of the loops with what is ready on them, and of the broker's connection, whose answers it
would take away from the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import traceback
import weakref
from typing import Any, NoReturn

__all__ = ["Origin", "keep_out"]


class Origin:
    """The process that something belongs to: the one in which this is made."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    def check(self, error: BaseException | None = None) -> None:
        """Return in that process; end any other, which was forked from it.

        Args:
            error: what the handler has raised.
        """
        if os.getpid() != self._pid:
            _end(error)


def _end(error: BaseException | None) -> NoReturn:
    """End this process as the interpreter would, without what is to happen at the worker's own exit."""
    code: Any = 0
    if isinstance(error, SystemExit):
        code = error.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)  # noqa: T201 - as sys.exit() does
            code = 1
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF)


class _Forks:
    """Ends forked children that go on to the next turn of a handlers' loop. Registered with the interpreter once."""

    def __init__(self) -> None:
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._child)

    def add(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loops[loop] = threading.get_ident()

    def _child(self) -> None:
        for loop, thread in list(self._loops.items()):
            if thread == threading.get_ident() and not loop.is_closed():
                # What is ready is the worker's, and runs there.
                for handle in list(getattr(loop, "_ready", ())):
                    handle.cancel()
                loop.call_soon(_strayed)


def _strayed() -> None:
    print(  # noqa: T201 - nobody else is left to tell it
        f"process {os.getpid()}, forked by an async def handler, has ended at its first await: it has no event loop; "
        "use os._exit() in it, or start it with subprocess or multiprocessing",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


_FORKS = _Forks()


def keep_out(loop: asyncio.AbstractEventLoop) -> None:
    """From ``loop``, on which handlers run: see to it that no forked child goes on there."""
    _FORKS.add(loop)
