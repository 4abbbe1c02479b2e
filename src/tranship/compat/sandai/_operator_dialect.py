"""What operators do around the work: skip, describe, answer probes, and put every end into an envelope."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from tranship.compat.sandai import _operator_answers as answers
from tranship.compat.sandai._operator_call import DESCRIBE, OperatorCall, asks_for
from tranship.envelope import Ending, Envelope, ErrorInfo
from tranship.task import Heed, TaskContext

__all__ = ["OperatorDialect"]

_ANY_EXCEPTION: Final = "TASK_FAILED"
"""The code of an exception that is not one of ours: nobody chose what its details say."""


class OperatorDialect:
    """See :class:`tranship.task.Dialect`.

    Args:
        description: the answer to ``desc``.
        probes: whether a probe is answered here; otherwise the handler gets it.
    """

    def __init__(self, description: Mapping[str, Any], *, probes: bool) -> None:
        self._description = description
        self._probes = probes

    async def admit(self, context: TaskContext, heed: Heed) -> Any:
        """Answer what needs no work: too late, cancelled, a description, a probe.

        Raises:
            PayloadError: no client of operators sends this.
        """
        payload = context.envelope.kwargs
        if asks_for(payload) == DESCRIBE:
            return self._description
        call = OperatorCall.read(context.id, payload)
        if call.deadline is not None and (now := time.time()) > call.deadline:
            message = f"the deadline had passed {now - call.deadline:.3f} s before the work could begin"
            return answers.late(call.deadline, now, message)
        if call.cancel_key is not None and await heed(call.cancel_key):
            return answers.cancelled(call.cancel_key)
        if self._probes and call.is_probe:
            return answers.succeeded([], {})
        return None

    def conclude(self, envelope: Envelope, outcome: Ending, error: ErrorInfo) -> Any:
        """Say in an envelope why there is no result."""
        if outcome is Ending.CANCELLED:
            return answers.cancelled(envelope.cancel_key)
        if outcome is Ending.EXPIRED:
            now = time.time()
            return answers.late(envelope.deadline or now, now, error.message)
        details = dict(error.details)
        if error.code == _ANY_EXCEPTION:
            details = {"exception_type": error.type, "traceback": error.traceback, **details}
        return answers.failed(error.type.rpartition(".")[2], error.message, details)
