"""Calls before they are made: what a caller asks for, checked, and put as operators read it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tranship.checks import text
from tranship.client.shared import Budget
from tranship.compat.sandai._arguments import check_input, flag, seconds
from tranship.compat.sandai._config import Config, priority_of
from tranship.compat.sandai._debug import Debug
from tranship.compat.sandai._tracing import Tracing
from tranship.compat.sandai._transport import LEAST, SUBMIT_TIMEOUT
from tranship.envelope import new_id
from tranship.errors import InvalidArgumentsError, TranshipError

__all__ = ["Call", "Controls", "Preparing", "patience_of"]


class Controls(NamedTuple):
    """How a task is to be treated, as a caller says it; None: as the client says."""

    priority: Any = None
    timeout: Any = None
    cancel_key: Any = None
    persistent_output: Any = False


@dataclass(frozen=True, slots=True)
class Call:
    """One task, ready to be sent."""

    id: str
    queue: str
    payload: Mapping[str, Any]
    timeout: float
    """Seconds it may take, as the caller or the client says."""
    budget: Budget
    """What is left of them; without a bound where nobody waits."""


def patience_of(budget: Budget) -> float | None:
    """How long opening and handing over may take; None: as long as the core thinks right."""
    left = budget.left()
    return None if left is None else max(LEAST, min(SUBMIT_TIMEOUT, left))


class Preparing:
    """Makes the calls of one client, in the caller's own thread; nothing is sent.

    Args:
        config: the client's.
        debug: where it says what it does.
    """

    def __init__(self, config: Config, debug: Debug) -> None:
        self._config = config
        self._debug = debug
        self.tracing = Tracing(config.operator_name, on=config.tracing)

    def process(
        self,
        artifacts: Any,
        options: Any,
        controls: Controls,
        budget: Budget | None = None,
        *,
        task_id: str = "",
        now: float | None = None,
    ) -> Call:
        """Return the call for one task.

        Args:
            artifacts, options: the task's input.
            controls: how it is to be treated.
            budget: of the caller; None: nobody waits.
            task_id: the id; empty: a fresh one.
            now: the epoch seconds that the deadline counts from; None: these.

        Raises:
            InvalidArgumentsError, InvalidOptionError, InvalidPriorityError: what cannot be sent.
        """
        check_input(artifacts, options)
        timeout = self.timeout(controls.timeout)
        payload: dict[str, Any] = {
            "meta": {"persistent-output": flag("persistent_output", controls.persistent_output)},
            "artifacts": list(artifacts),
            "options": dict(options),
        }
        if controls.timeout is not None or timeout:
            payload["deadline"] = (time.time() if now is None else now) + timeout
        if cancel_key := self._cancel_key(controls.cancel_key):
            payload["cancel_key"] = cancel_key
        if carrier := self.tracing.carrier():
            payload["_tracing"] = carrier
        priority = priority_of(controls.priority, self._config.priority)
        return self._call(priority, payload, timeout, budget, task_id)

    def desc(self) -> Call:
        """Return the call that asks what the operator is."""
        timeout = self._config.timeout
        return self._call("high", {"task_type": "desc"}, timeout, Budget(timeout), "")

    def probe(self, timeout: Any) -> Call:
        """Return the call that a probe makes; its deadline is the probe's own.

        Raises:
            InvalidOptionError: ``timeout`` is no number.
        """
        controls = Controls(priority="low", timeout=timeout)
        return self.process([], {"test": True}, controls, Budget(max(0.0, self.timeout(timeout))))

    def batch(self, tasks: Any, controls: Controls, budget: Budget | None) -> list[Call | Exception]:
        """Return the calls of a batch; where one cannot be sent, why.

        Raises:
            InvalidArgumentsError: that is no batch.
            InvalidOptionError: a control outside what is allowed, which would be wrong for all of them.
        """
        if not isinstance(tasks, Iterable) or isinstance(tasks, str | bytes | Mapping):
            raise InvalidArgumentsError(f"tasks is {tasks!r}; expected several pairs of artifacts and options")
        # A control that is wrong is wrong for all of them.
        self.process([], {}, controls)
        # One deadline for all of them, however long it takes to prepare them.
        now = time.time()
        calls = [self._attempt(task, controls, budget, now) for task in tasks]
        self._debug.say("client", "batch of %d tasks, %s", len(calls), controls)
        return calls

    def timeout(self, given: Any) -> float:
        """The seconds a call may take.

        Raises:
            InvalidOptionError: ``given`` is no number.
        """
        return self._config.timeout if given is None else seconds("timeout", given)

    def _attempt(self, task: Any, controls: Controls, budget: Budget | None, now: float) -> Call | Exception:
        try:
            artifacts, options = task
        except (TypeError, ValueError):
            return InvalidArgumentsError(f"a task of the batch is {task!r}; expected a pair of artifacts and options")
        try:
            return self.process(artifacts, options, controls, budget, now=now)
        except TranshipError as error:
            return error

    def _call(self, priority: str, payload: Any, timeout: float, budget: Budget | None, task_id: str) -> Call:
        queue = self._config.queue_names[priority]
        return Call(task_id or new_id(), queue, payload, timeout, budget or Budget(None))

    def _cancel_key(self, given: Any) -> str | None:
        return self._config.cancel_key if given in (None, "") else text("cancel_key", given)
