"""What a worker has only where one of its tasks, or a setting, asks for it; loaded then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tranship.clocks import clock_of
from tranship.envelope import Envelope
from tranship.ports import Backend, Capability, ResultStore, records_of
from tranship.submission import Submission
from tranship.worker._answered import Answered
from tranship.worker._setup import Setup, cannot_remember

if TYPE_CHECKING:
    from tranship.worker._affinity import Affinity
    from tranship.worker._flow import Flow
    from tranship.worker._history import History
    from tranship.worker._turns import Turns

__all__ = ["affinity_of", "history_of", "turns_of"]


def history_of(setup: Setup, backends: Sequence[Backend]) -> History | None:
    """Return what remembers how tasks have ended; None: nothing is to.

    Raises:
        UnsupportedError: none of ``backends`` keeps records.
    """
    if not setup.settings.history:
        return None
    from tranship.worker._history import History

    records = next((found for one in backends if (found := records_of(one)) is not None), None)
    if records is None:
        raise cannot_remember(backends[0].name)
    return History(records, setup.name, setup.settings.history)


def affinity_of(setup: Setup, backend: Backend, flow: Flow) -> Affinity | None:
    """Return what passes tasks on to workers that hold something ready; None: no task prefers anything."""
    if all(one.prefers is None for one in setup.tasks.values()):
        return None
    from tranship.worker._affinity import Affinity

    workers, clock = backend.inspector().workers, clock_of(backend)
    return Affinity(setup.name, setup.profile, workers=workers, go_on=flow.go_on, clock=clock)


def turns_of(
    setup: Setup,
    backend: Backend,
    result_backend: Backend | None,
    flow: Flow,
    *,
    results: ResultStore | None,
    submission: Submission,
) -> Turns:
    """Return whose turn it is, of tasks with limits.

    Args:
        setup: what the worker was given.
        backend, result_backend: the broker; where results go if not to it.
        flow: of the worker.
        results: stores them; None: nothing does.
        submission: sends tasks whose turn it is.
    """
    from tranship.limits import Lines, keeper_of, marks_ids
    from tranship.worker._turns import Turns

    records = keeper_of(backend, result_backend).records()
    answered = Answered(results if (result_backend or backend).capabilities.has(Capability.RESULTS) else None)

    async def has_ended(envelope: Envelope) -> bool:
        return await answered.find(envelope) is not None

    lines = Lines(
        records,
        submission.submit,
        clock=clock_of(backend),
        max_size=backend.submitter().max_message_size,
        marks_ids=marks_ids(backend, result_backend),
        results=results,
        has_ended=has_ended,
    )
    return Turns(
        lines,
        records,
        {name: one.limits for name, one in setup.tasks.items() if one.limits is not None},
        answered=answered,
        delays=backend.capabilities.has(Capability.DELAY),
        stop=flow.stop,
    )
