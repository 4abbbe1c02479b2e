"""Commands of a worker's owner: functions that operators call while it works."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tranship.checks import mapping, name_text
from tranship.commanding import BUILT_IN
from tranship.errors import InvalidOptionError
from tranship.worker._io import IOLoop
from tranship.worker._threads import HandlerThreads

__all__ = ["OwnCommands", "check_fits", "checked_commands"]

Functions = Mapping[str, Callable[..., Any]]


def checked_commands(given: Any, known: Functions | None = None) -> dict[str, Callable[..., Any]]:
    """Return ``known`` commands and those that are ``given``, by name; None: there are none.

    Raises:
        InvalidOptionError: something that is no function, or has a name that is taken.
    """
    commands = dict(known or {})
    for name, function in mapping("on_command", {} if given is None else given).items():
        name_text("a name in on_command", name)
        if not callable(function):
            raise InvalidOptionError(f"on_command[{name!r}] is {function!r}; expected a function", option="on_command")
        if name in BUILT_IN or name in commands:
            whose = "every worker has a command of that name" if name in BUILT_IN else "there is one of that name"
            raise InvalidOptionError(f"on_command has {name!r}, and {whose}; give it another one", option="on_command")
        commands[name] = function
    return commands


def check_fits(name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Do nothing, if ``function`` can be called with ``arguments``, as far as anybody can tell.

    Raises:
        InvalidOptionError: it cannot.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InvalidOptionError(f"command {name!r}: {error}; its arguments are {_shown(signature)}") from None


def _shown(signature: inspect.Signature) -> str:
    # Without annotations: whoever commands writes JSON.
    empty = inspect.Parameter.empty
    return str(
        signature.replace(
            parameters=[one.replace(annotation=empty) for one in signature.parameters.values()],
            return_annotation=inspect.Signature.empty,
        )
    )


class OwnCommands:
    """Those of one worker at work; called on its I/O loop.

    Args:
        functions: by name.
        io: beside it is the loop of ``async def`` functions.
        threads: where ``def`` functions run.
        began: called before something begins that may block the handlers' loop; None: nobody looks.
    """

    def __init__(
        self, functions: Functions, io: IOLoop, threads: HandlerThreads, *, began: Callable[[], None] | None
    ) -> None:
        self.functions = functions
        self._io = io
        self._threads = threads
        self._began = began

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Return or raise what a function does, which has been checked to fit.

        Whatever would end the process, or is a cancellation of its own making, is raised as a RuntimeError.
        """
        function = partial(self.functions[name], **arguments)
        if inspect.iscoroutinefunction(self.functions[name]):
            return await self._beside(function)
        found = await self._threads.run(partial(_guarded, function))
        return await self._beside(lambda: found) if inspect.isawaitable(found) else found

    async def _beside(self, function: Callable[[], Any]) -> Any:
        if self._began is not None:
            self._began()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(function), self._io.handlers))


def _guarded(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"it raised {type(error).__name__}") from error


async def _awaited(function: Callable[[], Any]) -> Any:
    try:
        return await function()
    except Exception:
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        raise RuntimeError(f"it raised {type(error).__name__}") from error
