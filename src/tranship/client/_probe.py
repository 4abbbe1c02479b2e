"""The health of the whole path: submit, run, answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tranship.client._prepare import prepare
from tranship.envelope import PROBE_TASK, Priority, Receipt
from tranship.errors import ResultTimeout, TranshipError
from tranship.ports import Capability
from tranship.task import named

if TYPE_CHECKING:
    # Loaded when the first connection is made: a client that is only constructed costs little.
    from tranship.client._link import ClientLink

__all__ = ["Probe", "run_probe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a probe found, leg by leg."""

    submit_ok: bool
    """The broker took the probe."""
    retrieval_ok: bool
    """Its result came back in time."""
    response_ok: bool
    """And it was what a healthy worker answers."""
    task_id: str | None = None
    error: TranshipError | None = None
    submit_seconds: float | None = None
    """How long the broker took to accept it."""
    response_seconds: float | None = None
    """From accepted to answered."""

    @property
    def ok(self) -> bool:
        """Whether all legs are well."""
        return self.submit_ok and self.retrieval_ok and self.response_ok


async def run_probe(link: ClientLink, queue: str, timeout: float) -> Probe:
    """Send the probe through ``queue`` and say how each leg went, within ``timeout`` seconds; never raises for them."""
    # Soon forgotten, never run late, and ahead of other work where the broker knows such a thing.
    priority = Priority.HIGH if link.backend.capabilities.has(Capability.PRIORITY) else Priority.NORMAL
    task = named(PROBE_TASK, queue=queue, priority=priority, deadline_in=timeout, result_ttl=max(60.0, timeout))
    probe = Probe(submit_ok=False, retrieval_ok=False, response_ok=False)
    begun = link.loop.time()
    try:
        async with asyncio.timeout(timeout):
            (answer,) = await link.submission.submit(prepare(link, [task.call()]))
            if not isinstance(answer, Receipt):
                return replace(probe, error=answer)
            submitted = link.loop.time()
            probe = replace(probe, submit_ok=True, task_id=answer.id, submit_seconds=submitted - begun)
            result = await link.waiting.wait(answer.id)
            assert result is not None
    except TimeoutError:
        return replace(probe, error=ResultTimeout(f"no worker answered on queue {queue!r} within {timeout:g} s"))
    except TranshipError as error:
        return replace(probe, error=error)
    return replace(
        probe,
        retrieval_ok=True,
        response_ok=result.success,
        error=None if result.success else result.exception(),
        response_seconds=link.loop.time() - submitted,
    )
