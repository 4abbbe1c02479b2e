"""Observers: told of each attempt of each function, from inside the asyncio task that runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from tranship.stages._declare import Phase

__all__ = ["Attempt", "Observer", "Watch"]

log: Final = logging.getLogger("tranship.stages")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is about to run."""

    task: str
    phase: Phase
    number: int
    """0 for the first attempt, 1 for the first retry."""
    context: Any
    """What ``process_tasks`` was given."""


Observer = Callable[[Attempt], AbstractContextManager[Any]]
"""Returns a context manager that is entered around the attempt, in the function's own asyncio task: a span that it
makes current is the function's. Its ``__exit__`` sees how the attempt ended, and cannot change it."""


class Watch:
    """Enters what observers return, and leaves it in reverse; what goes wrong in an observer is logged, no more."""

    __slots__ = ("_attempt", "_entered", "_observers")

    def __init__(self, observers: Sequence[Observer], attempt: Attempt) -> None:
        self._observers = observers
        self._attempt = attempt
        self._entered: list[AbstractContextManager[Any]] = []

    def __enter__(self) -> None:
        for observer in self._observers:
            try:
                manager = observer(self._attempt)
                manager.__enter__()
            except Exception as error:  # noqa: BLE001 - an observer must not decide over what it observes
                self._complain(observer, error)
            else:
                self._entered.append(manager)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for manager in reversed(self._entered):
            try:
                manager.__exit__(kind, error, where)
            except BaseException as raised:  # noqa: BLE001 - as above
                if raised is not error:  # a generator's context manager may raise what it was given
                    self._complain(manager, raised)

    def _complain(self, what: object, error: BaseException) -> None:
        where = f"{self._attempt.phase.value} of task {self._attempt.task!r}"
        log.warning("observer %r failed at %s", what, where, exc_info=error)
