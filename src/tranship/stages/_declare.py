"""What a plan is declared with: frozen, inert, checked only when the plan is built."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

__all__ = ["RETRIED", "AsyncTask", "Phase", "TaskFunction"]

T_contra = TypeVar("T_contra", contravariant=True)

RETRIED: Final = (TimeoutError, ConnectionError)
"""What is worth another try when nobody says otherwise: a timeout of ours counts."""


class Phase(enum.StrEnum):
    """The three phases of a task, in the order in which they run."""

    PRE_EXECUTE = "pre_execute"
    EXECUTE = "execute"
    POST_EXECUTE = "post_execute"


@dataclass(frozen=True, slots=True)
class TaskFunction(Generic[T_contra]):
    """One function of a task, and how it is run.

    An attempt that ends with one of ``retry_on`` is followed by another one, ``retries`` times. The n-th retry
    (from 0) waits ``initial_delay * backoff_factor**n * uniform(0.5, 1.0)`` seconds. Nothing is retried once the
    function has been asked to stop. Values are checked by ``build()``, where the task's name is known.

    Args:
        function: called with the context. ``async def`` runs on the event loop, in an asyncio task of its own;
            anything else runs in a thread, and what it returns is awaited on the loop if it can be.
        timeout: seconds for one attempt, above 0; None: no limit. The function is cancelled and the attempt ends
            with TimeoutError. A thread is asked to stop (see :func:`cancelled`) and waited for.
        retries: attempts after the first one.
        initial_delay: seconds, at least 0.
        backoff_factor: above 0.
        retry_on: exception classes.
    """

    function: Callable[[T_contra], Any]
    timeout: float | None = None
    retries: int = 0
    initial_delay: float = 1.0
    backoff_factor: float = 2.0
    retry_on: tuple[type[BaseException], ...] = RETRIED


@dataclass(frozen=True, slots=True)
class AsyncTask(Generic[T_contra]):
    """A named task with one to three functions.

    Args:
        name: unique in its plan.
        pre_execute: sets up; runs when all that the task waits for has been set up.
        execute: the work; runs when every task has been set up.
        post_execute: cleans up; runs, whatever happens, when ``pre_execute`` was started (or, without one, when its
            turn had come), after the cleanup of every task that waited for this one.
    """

    name: str
    pre_execute: TaskFunction[T_contra] | None = None
    execute: TaskFunction[T_contra] | None = None
    post_execute: TaskFunction[T_contra] | None = None

    def function(self, phase: Phase) -> TaskFunction[T_contra] | None:
        """Return the function of ``phase``, or None."""
        if phase is Phase.PRE_EXECUTE:
            return self.pre_execute
        return self.execute if phase is Phase.EXECUTE else self.post_execute
