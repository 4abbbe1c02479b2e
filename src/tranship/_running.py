"""Running an event loop on which code of users runs, and which such code cannot end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from tranship.errors import ConfigurationError

__all__ = ["is_in_loop", "keep_running", "run", "wind_up"]

log = logging.getLogger("tranship")

T = TypeVar("T")

_LEAVING: Final = (SystemExit, KeyboardInterrupt)
"""What asyncio lets out of a loop, whichever of its tasks and callbacks raised it."""


def run(main: Coroutine[Any, Any, T], *, instead: str = "") -> T:
    """Run ``main`` as :func:`asyncio.run` does, until ``main`` itself ends.

    What code on the loop raises to leave the interpreter (``sys.exit()`` in a task that a handler has made, or in a
    callback) reaches whoever waits for that code, as any other error does, and is logged. A user's Ctrl-C is to be
    heard by a handler of its signal: here it would be taken for such code.

    Args:
        main: what to run.
        instead: what to write where a loop is running already.

    Raises:
        ConfigurationError: an event loop is running in this thread.
    """
    if is_in_loop():
        main.close()
        raise ConfigurationError(
            "an event loop is running in this thread already, as in a Jupyter notebook or in an `async def`: "
            f"write `{instead or 'await ...'}` there"
        )
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        while True:
            try:
                return loop.run_until_complete(task)
            except _LEAVING as error:
                if task.done():
                    raise
                log.exception("code on the event loop raised %s; it goes on", type(error).__name__)


def is_in_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def keep_running(loop: asyncio.AbstractEventLoop, ended: Callable[[], bool]) -> None:
    """Run ``loop`` in this thread until it is stopped and ``ended`` says so, whatever code on it raises."""
    while not ended():
        try:
            loop.run_forever()
        except _LEAVING as error:
            # Who waits for something on this loop would wait for ever.
            log.exception("code on the I/O loop raised %s; it goes on", type(error).__name__)


def wind_up(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left on ``loop``, which has stopped, and close it."""
    loop.run_until_complete(_end_the_rest(loop))
    loop.close()


async def _end_the_rest(loop: asyncio.AbstractEventLoop) -> None:
    # What is cancelled may leave something to another task.
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()
